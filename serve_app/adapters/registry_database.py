"""The registry in a database."""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Table, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import Select

from serve_app.adapters.registry_connection import Database
from serve_app.adapters.registry_schema import SHIPPED
from serve_app.adapters.registry_tables import (
    AUDIT,
    MODELS,
    REGISTRY,
    ROLLOUTS,
    UNDER_WAY,
    audit,
    entry,
    put,
    rollout,
)
from serve_app.registry.applied import Applied, apply
from serve_app.registry.plain import plain
from serve_app.registry.snapshot import Audit, Change, Decide, Snapshot
from serve_app.rollout.rollout import Rollout


@dataclass
class DatabaseRegistryStore:
    """Implements `RegistryStore` on SQLite and PostgreSQL, for any number of processes.

    A change whose call raised RegistryUnavailable may have been made all the same, if it was the answer to the commit
    that was lost: the next snapshot says.
    """

    url: str = field(repr=False)
    """As people write it: `sqlite:///var/registry.db`, `postgresql://user:password@host/database`."""
    versions: Path = SHIPPED
    _database: Database = field(init=False)

    def __post_init__(self) -> None:
        """Raises InvalidRequest for a URL of something else; connects at the first call."""
        self._database = Database(self.url, self.versions)

    async def open(self) -> None:
        """Makes the tables in a database that is empty; every call does so by itself."""
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def snapshot(self) -> Snapshot:
        async with self._database.reading() as connection:
            return await _read(connection, await self._database.revision(connection))

    async def change(self, decide: Decide) -> Change:
        async with self._database.writing() as connection:
            before = await _read(connection, await self._database.revision(connection, lock=True))
            change = decide(before)
            last = await connection.scalar(select(func.max(AUDIT.c.id))) or 0
            applied = apply(change, before, at=time.time(), first_audit=last + 1)
            if not applied.change.is_empty:
                await _write(connection, applied)
                await self._database.announce(connection, applied.snapshot.revision)
            return applied.change

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]:
        async with self._database.reading() as connection:
            await self._database.revision(connection)
            found = await connection.execute(_latest(AUDIT, AUDIT.c.id, model, environment, limit))
            return tuple(audit(row) for row in found.mappings())

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        async with self._database.reading() as connection:
            await self._database.revision(connection)
            found = await connection.execute(_latest(ROLLOUTS, ROLLOUTS.c.sequence, model, environment, limit))
            return tuple(rollout(row) for row in found.mappings())

    async def revisions(self) -> AsyncGenerator[int, None]:
        seen = None
        async with self._database.watching() as (connection, moved):
            while True:
                revision = await self._database.revision(connection)
                if revision != seen:  # another one, not a later one: a backup may have been put in its place
                    seen = revision
                    yield revision
                await moved()


async def _read(connection: AsyncConnection, revision: int) -> Snapshot:
    models = await connection.execute(select(MODELS))
    entries = sorted((entry(row) for row in models.mappings()), key=lambda found: found.key)
    under_way = await connection.execute(select(ROLLOUTS).where(UNDER_WAY).order_by(ROLLOUTS.c.id))
    return Snapshot(
        revision=revision,
        entries=tuple(entries),  # ordered here: databases have their own ideas of an alphabet
        rollouts=tuple(rollout(row) for row in under_way.mappings()),
    )


async def _write(connection: AsyncConnection, applied: Applied) -> None:
    change = applied.change
    for model, version, environment in change.removed:
        at = and_(MODELS.c.model == model, MODELS.c.version == version, MODELS.c.environment == environment)
        await connection.execute(delete(MODELS).where(at))
    await put(connection, MODELS, [plain(found) for found in change.put], "model", "version", "environment")
    # Those that end first: of a model one may be under way.
    rollouts = sorted(change.rollouts, key=lambda found: found.is_under_way)
    await put(connection, ROLLOUTS, [plain(found) for found in rollouts], "id")
    await connection.execute(insert(AUDIT), [plain(row) for row in applied.audit])
    await connection.execute(update(REGISTRY).values(revision=applied.snapshot.revision))


def _latest(table: Table, position: Any, model: str, environment: str, limit: int) -> Select[Any]:
    asked = {name: value for name, value in (("model", model), ("environment", environment)) if value}
    return select(table).filter_by(**asked).order_by(position.desc()).limit(limit)
