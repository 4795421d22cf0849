"""The registry's database, whichever it is: transactions that end in time, on tables of this version."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serve_app.adapters.registry_backend import Backend, as_json, backend, reachable
from serve_app.adapters.registry_schema import SHIPPED, Standing, judged, migrate, standing
from serve_app.adapters.registry_tables import REGISTRY, VERSION

STATEMENT_S = 5.0
WATCH_S = 2.0
"""Of a listener's look: whoever does not answer that is gone."""

Moved = Callable[[], Awaitable[None]]


@dataclass
class Database:
    """Raises RegistryUnavailable in `longest_call_s` and the 2 s that ending a lost connection may take.

    One that is empty gets its tables at the first call; one whose tables go later is not begun anew.
    """

    url: str = field(repr=False)
    versions: Path = SHIPPED
    _backend: Backend = field(init=False)
    _engine: AsyncEngine = field(init=False)
    _watch_engine: AsyncEngine = field(init=False)
    _is_open: bool = False

    def __post_init__(self) -> None:
        self._backend = backend(self.url)
        self._engine = self._backend.engine(as_json, statement_s=STATEMENT_S)
        watching = self._backend.engine(as_json, statement_s=WATCH_S)
        self._watch_engine = watching.execution_options(**self._backend.watching)

    async def open(self) -> None:
        """Raises SchemaMismatch when the tables are not this version's."""
        if self._is_open:
            return
        with reachable(self._backend):
            self._backend.prepare()
            if (await self._standing()).state == "empty":
                async with self._begun(self._backend.writing) as connection:
                    await self._backend.lock_schema(connection)
                    await connection.run_sync(migrate, self.versions)
            found = await self._standing()
        if found.state != "current":
            raise found.mismatch
        self._is_open = True

    async def close(self) -> None:
        await self._engine.dispose()
        await self._watch_engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """What is read in it does not change meanwhile."""
        await self.open()
        with reachable(self._backend):
            async with self._begun(self._backend.reading) as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """All that is written in it, or nothing. After an error it is not known which, if it was the commit's."""
        await self.open()
        with reachable(self._backend):
            async with self._begun(self._backend.writing) as connection:
                await self._backend.limit(connection)
                yield connection

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[tuple[AsyncConnection, Moved]]:
        """A connection to be kept, and what waits on it until there may be something new to read."""
        await self.open()
        with reachable(self._backend):
            async with self._watch_engine.connect() as connection, self._backend.moves(connection) as moved:
                yield connection, moved

    async def revision(self, connection: AsyncConnection, *, lock: bool = False) -> int:
        """`lock`: nobody else gets it until the transaction ends. Raises SchemaMismatch."""
        wanted = select(REGISTRY.c.revision, VERSION.c.version_num).join_from(REGISTRY, VERSION, true())
        row = (await connection.execute(wanted.with_for_update(of=REGISTRY) if lock else wanted)).one()
        found = judged(row.version_num, self.versions)
        if found.state != "current":
            raise found.mismatch
        return int(row.revision)

    async def announce(self, connection: AsyncConnection, revision: int) -> None:
        await self._backend.announce(connection, revision)

    async def _standing(self) -> Standing:
        async with self._begun(self._backend.reading) as connection:
            return await connection.run_sync(standing, self.versions)

    @asynccontextmanager
    async def _begun(self, options: Mapping[str, Any]) -> AsyncIterator[AsyncConnection]:
        async with asyncio.timeout(self._backend.longest_call_s):
            async with self._engine.execution_options(**options).begin() as connection:
                yield connection
