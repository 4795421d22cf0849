"""The catalog's database: any that SQLAlchemy's asyncio side reaches, brought up to this version when it is opened."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, event, insert, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateColumn

from serve_app.adapters.tables import ATTACHED, FILES, HIDDEN, SCHEMA, owned_by
from serve_app.documents.records import Paging
from serve_app.errors import NotFound, RetrieverUnavailable


class Database:
    """Raises NotFound for an unknown id and RetrieverUnavailable when the database cannot be used."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._engine: AsyncEngine = create_async_engine(self._url, pool_pre_ping=not self._sqlite)
        # One process writes. SQLite would let its writers wait for each other too, but in naps, and not in turn.
        self._writing = asyncio.Lock()
        if self._sqlite:
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)

    async def open(self) -> None:
        """Create what is missing: the folder of an SQLite file, the tables, columns of a later version."""
        if self._sqlite and self._url.database not in {None, "", ":memory:"}:
            Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)
        async with self.transaction() as connection:
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """All that is written in it, or nothing; what is read in it does not change meanwhile."""
        async with self._writing, self._connection() as connection:
            yield connection

    async def insert(self, table: Table, tenant: str, row_id: str, **columns: Any) -> None:
        """Nothing happens when the id is there already; NotFound when it is another tenant's."""
        try:
            async with self.transaction() as connection:
                row = {"id": row_id, "tenant": tenant, "created_at": time.time(), **columns}
                await connection.execute(insert(table).values(row))
        except IntegrityError:
            await self.one(owned_by(tenant, table).where(table.c.id == row_id), table.name, row_id)

    async def rows(self, wanted: Select[Any]) -> Sequence[RowMapping]:
        async with self._connection() as connection:
            return await read(connection, wanted)

    async def one(self, wanted: Select[Any], noun: str, row_id: str) -> RowMapping:
        rows = await self.rows(wanted)
        if not rows:
            raise missing(noun, row_id)
        return rows[0]

    async def page(
        self, wanted: Select[Any], table: Table, paging: Paging, prefix: str = ""
    ) -> tuple[Sequence[RowMapping], bool]:
        """Rows of one page and whether there are more; ids are `prefix` and what the cursors name."""
        position = table.c.sequence
        ascending = paging.order == "asc"
        for cursor, behind in ((paging.after, ascending), (paging.before, not ascending)):
            if cursor is not None:
                at = select(position).where(table.c.id == f"{prefix}{cursor}").scalar_subquery()
                wanted = wanted.where(position > at if behind else position < at)
        ordered = wanted.order_by(position.asc() if ascending else position.desc())
        rows = await self.rows(ordered.limit(paging.limit + 1))
        return rows[: paging.limit], len(rows) > paging.limit

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as exc:
            raise RetrieverUnavailable(f"the catalog of files cannot be used ({type(exc).__name__})") from exc


async def read(connection: AsyncConnection, wanted: Select[Any]) -> Sequence[RowMapping]:
    rows: Sequence[RowMapping] = (await connection.execute(wanted)).mappings().all()
    return rows


async def check_files(connection: AsyncConnection, tenant: str, file_ids: Iterable[str]) -> None:
    """Raises NotFound for the first of them that the tenant does not have."""
    asked = set(file_ids)
    known = await read(connection, select(FILES.c.id).where(FILES.c.tenant == tenant, FILES.c.id.in_(asked)))
    if absent := sorted(asked - {row["id"] for row in known}):
        raise missing("file", absent[0])


def missing(noun: str, row_id: str) -> NotFound:
    return NotFound(f"no {noun} {row_id!r}; list them to see which there are")


def _upgrade(connection: Connection) -> None:
    """Every column added since the first version may be empty, so that it can be added to rows that are there."""
    found = inspect(connection)
    known = {name: {column["name"] for column in found.get_columns(name)} for name in found.get_table_names()}
    SCHEMA.create_all(connection)
    for table in SCHEMA.sorted_tables:
        for column in table.columns:
            if column.name not in known.get(table.name, {column.name}):
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {added}"))
    if ATTACHED.name in known and HIDDEN.name not in known:
        # That version kept no account of what was half indexed: whatever did not complete may be.
        places = select(ATTACHED.c.tenant, ATTACHED.c.store_id, ATTACHED.c.file_id)
        doubtful = places.where(ATTACHED.c.status != "completed")
        connection.execute(insert(HIDDEN).from_select(["tenant", "store_id", "file_id"], doubtful))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Readers do not wait for the writer."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
