"""Which version the registry's tables are of, and how they become this one's."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.adapters.registry_backend import Backend, as_json, backend, reachable
from serve_app.adapters.registry_tables import SCHEMA, VERSION
from serve_app.errors import SchemaMismatch

State = Literal["empty", "current", "older", "newer", "half"]
"""half: some of the tables, without a version or without the rest; another application's, or what is left of ours."""
SHIPPED = Path(__file__).with_name("registry_migrations") / "versions"


@dataclass(frozen=True, slots=True)
class Standing:
    state: State
    found: str
    """The database's version; empty where it has none."""
    head: str
    """This Manta's."""

    @property
    def mismatch(self) -> SchemaMismatch:
        match self.state:
            case "older":
                what, way_out = "of an older version", "run `manta registry upgrade`"
            case "newer":
                what, way_out = "of a newer version", "upgrade Manta, or restore a backup"
            case _:
                what, way_out = "not a whole registry", "give it a database of its own, or restore a backup"
        versions = f"({self.found or 'no version'}, this Manta has {self.head})"
        return SchemaMismatch(f"the registry's database is {what} {versions}: {way_out}")


async def state(url: str, versions: Path = SHIPPED) -> State:
    """Of the database as it is; no table is made."""
    place = backend(url)
    async with _begun(place, place.reading, statement_s=5) as connection:
        return (await connection.run_sync(standing, versions)).state


async def upgrade(url: str, versions: Path = SHIPPED) -> Standing:
    """Makes the tables this version's, in one transaction, however long it takes; says how they stood before.

    Raises SchemaMismatch when that cannot be, RegistryUnavailable when the database cannot be used.
    """
    place = backend(url)
    async with _begun(place, place.writing, statement_s=None) as connection:
        await place.lock_schema(connection)
        return await connection.run_sync(migrate, versions)


@asynccontextmanager
async def _begun(
    place: Backend, options: Mapping[str, Any], *, statement_s: float | None
) -> AsyncIterator[AsyncConnection]:
    engine = place.engine(as_json, statement_s=statement_s).execution_options(**options)
    with reachable(place):
        place.prepare()
        async with engine.begin() as connection:
            yield connection


def judged(found: str, versions: Path) -> Standing:
    """Of a database whose tables are all there."""
    head, known = _revisions(versions)
    state: State = "current" if found == head else "older" if found in known else "newer"
    return Standing(state, found, head)


def standing(connection: Connection, versions: Path) -> Standing:
    tables = set(inspect(connection).get_table_names())
    found = connection.scalar(select(VERSION.c.version_num)) if VERSION.name in tables else None
    ours = tables & set(SCHEMA.tables)
    if found is None:
        return Standing("half" if ours else "empty", "", _revisions(versions)[0])
    seen = judged(found, versions)
    return Standing("half", found, seen.head) if seen.state == "current" and ours != set(SCHEMA.tables) else seen


def migrate(connection: Connection, versions: Path) -> Standing:
    """How it stood before. All of it happens in the connection's transaction, on SQLite too: a process that dies on
    the way leaves nothing behind."""
    before = standing(connection, versions)
    if before.state in ("newer", "half"):
        raise before.mismatch
    if before.state != "current":
        scripts = _scripts(versions)
        steps = {"fn": lambda revision, _: scripts._upgrade_revs("head", revision), "version_table": VERSION.name}
        context = MigrationContext.configure(connection, opts=steps)
        with Operations.context(context):
            context.run_migrations()
    return before


def _scripts(versions: Path) -> ScriptDirectory:
    return ScriptDirectory(str(SHIPPED.parent), version_locations=[str(versions)])


@cache
def _revisions(versions: Path) -> tuple[str, frozenset[str]]:
    """The newest, and all."""
    scripts = _scripts(versions)
    return str(scripts.get_current_head()), frozenset(script.revision for script in scripts.walk_revisions())
