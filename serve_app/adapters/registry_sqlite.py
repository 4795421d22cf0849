"""The registry in an SQLite file, shared by the processes of one machine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

BUSY_S = 5.0
"""Longest wait for the writers before."""
LOOK_S = 0.25
"""Between two looks at the file: nobody announces what another process writes."""


@dataclass(frozen=True)
class SqliteFile:
    path: str
    longest_call_s: ClassVar[float] = BUSY_S + 2
    reading: ClassVar[Mapping[str, Any]] = {"sqlite_begin": "BEGIN"}
    writing: ClassVar[Mapping[str, Any]] = {"sqlite_begin": "BEGIN IMMEDIATE"}
    watching: ClassVar[Mapping[str, Any]] = {}

    @property
    def shown(self) -> str:
        return self.path

    def engine(self, json: Callable[[Any], str], *, statement_s: float | None) -> AsyncEngine:
        """A connection to each call: a file that was put in this one's place is found at the next."""
        url = URL.create("sqlite+aiosqlite", database=self.path)
        wait = {"timeout": BUSY_S if statement_s else 60}
        engine = create_async_engine(url, poolclass=NullPool, connect_args=wait, json_serializer=json)
        event.listen(engine.sync_engine, "connect", _set_up)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine

    def prepare(self) -> None:
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)

    async def limit(self, connection: AsyncConnection) -> None:
        """Nobody ends another process's transaction here."""

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """A writer is alone from its BEGIN on."""

    async def announce(self, connection: AsyncConnection, revision: int) -> None:
        """Listeners look by themselves."""

    @asynccontextmanager
    async def moves(self, connection: AsyncConnection) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """What waits until somebody has written; it raises OSError when another file stands in this one's place."""
        opened = await asyncio.to_thread(_identity, self.path)
        seen = await _writes(connection)

        async def moved() -> None:
            nonlocal seen
            before = seen
            while seen == before:
                await asyncio.sleep(LOOK_S)
                if await asyncio.to_thread(_identity, self.path) != opened:
                    raise FileNotFoundError("another file has taken its place")
                seen = await _writes(connection)

        yield moved


async def _writes(connection: AsyncConnection) -> int:
    """A number that is another one after each commit of any other connection; the cheapest question there is."""
    return int((await connection.exec_driver_sql("PRAGMA data_version")).scalar_one())


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def _set_up(connection: Any, _record: object) -> None:
    """Readers do not wait for the writer, and transactions begin where we say: tables are made in them, too."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Without the option each statement stands for itself."""
    if begin := connection.get_execution_options().get("sqlite_begin"):
        connection.exec_driver_sql(begin)
