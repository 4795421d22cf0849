"""The catalog of files and vector stores in any database SQLAlchemy's asyncio side can reach."""

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, Table, delete, event, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from serve_app.adapters.tables import (
    ATTACHED,
    BATCHES,
    FILES,
    SCHEMA,
    STORES,
    attached,
    attached_file,
    joined,
    owned_by,
    place_of,
    stored_file,
)
from serve_app.documents.records import (
    AttachedFile,
    Attributes,
    Batch,
    Counts,
    Listing,
    Paging,
    Status,
    Store,
    StoredFile,
)
from serve_app.errors import NotFound, RetrieverUnavailable


class Catalog:
    """Every query names the tenant; what another tenant owns is not found.

    Raises NotFound for an unknown id and RetrieverUnavailable when the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._engine: AsyncEngine = create_async_engine(self._url, pool_pre_ping=not self._sqlite)
        if self._sqlite:
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)

    async def open(self) -> None:
        """Create what is missing: the folder of an SQLite file, the tables."""
        if self._sqlite and self._url.database not in {None, "", ":memory:"}:
            Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)
        async with self._transaction() as connection:
            await connection.run_sync(SCHEMA.create_all)

    async def close(self) -> None:
        await self._engine.dispose()

    async def add_file(
        self, *, tenant: str, file_id: str, name: str, purpose: str, size: int, sha256: str
    ) -> StoredFile:
        await self._insert(FILES, tenant, file_id, name=name, purpose=purpose, size_bytes=size, sha256=sha256)
        return await self.get_file(tenant, file_id)

    async def find_file(self, *, tenant: str, name: str, purpose: str, sha256: str) -> StoredFile | None:
        """The newest file of this very name, purpose and content."""
        same = (FILES.c.name == name) & (FILES.c.purpose == purpose) & (FILES.c.sha256 == sha256)
        rows = await self._rows(owned_by(tenant, FILES).where(same).order_by(FILES.c.sequence.desc()).limit(1))
        return stored_file(rows[0]) if rows else None

    async def get_file(self, tenant: str, file_id: str) -> StoredFile:
        return stored_file(await self._one(owned_by(tenant, FILES).where(FILES.c.id == file_id), "file", file_id))

    async def list_files(self, tenant: str, paging: Paging, purpose: str | None = None) -> Listing[StoredFile]:
        wanted = owned_by(tenant, FILES)
        rows, has_more = await self._page(
            wanted.where(FILES.c.purpose == purpose) if purpose else wanted, FILES, paging
        )
        return Listing(tuple(stored_file(row) for row in rows), has_more)

    async def delete_file(self, tenant: str, file_id: str) -> None:
        async with self._transaction() as connection:
            await connection.execute(delete(FILES).where(FILES.c.tenant == tenant, FILES.c.id == file_id))

    async def add_store(
        self, tenant: str, name: str, metadata: Mapping[str, str], store_id: str | None = None
    ) -> Store:
        """With a `store_id` that is there already: that store, unchanged."""
        store_id = store_id or f"vs_{uuid.uuid4().hex[:24]}"
        await self._insert(STORES, tenant, store_id, name=name, metadata=dict(metadata))
        return await self.get_store(tenant, store_id)

    async def get_store(self, tenant: str, store_id: str) -> Store:
        row = await self._one(owned_by(tenant, STORES).where(STORES.c.id == store_id), "vector store", store_id)
        return (await self._counted_stores(tenant, [row]))[0]

    async def list_stores(self, tenant: str, paging: Paging) -> Listing[Store]:
        rows, has_more = await self._page(owned_by(tenant, STORES), STORES, paging)
        return Listing(tuple(await self._counted_stores(tenant, rows)), has_more)

    async def update_store(self, tenant: str, store_id: str, name: str, metadata: Mapping[str, str]) -> Store:
        mine = (STORES.c.tenant == tenant) & (STORES.c.id == store_id)
        async with self._transaction() as connection:
            await connection.execute(update(STORES).where(mine).values(name=name, metadata=dict(metadata)))
        return await self.get_store(tenant, store_id)

    async def delete_store(self, tenant: str, store_id: str) -> None:
        async with self._transaction() as connection:
            for table, column in ((ATTACHED, "store_id"), (BATCHES, "store_id"), (STORES, "id")):
                await connection.execute(delete(table).where(table.c.tenant == tenant, table.c[column] == store_id))

    async def attach(self, tenant: str, store_id: str, file_id: str, attributes: Attributes) -> AttachedFile:
        """Put the file in the store, or back to `in_progress` where it is in it already."""
        await self.get_store(tenant, store_id)
        await self.get_file(tenant, file_id)
        begun: dict[str, Any] = {"status": "in_progress", "attributes": dict(attributes), "error_message": ""}
        await self._insert(
            ATTACHED, tenant, f"{store_id}/{file_id}", store_id=store_id, file_id=file_id, chunk_count=0, **begun
        )
        async with self._transaction() as connection:
            again = update(ATTACHED).where(*place_of(tenant, store_id, file_id)).values(error_code=None, **begun)
            await connection.execute(again)
        return await self.get_attached(tenant, store_id, file_id)

    async def get_attached(self, tenant: str, store_id: str, file_id: str) -> AttachedFile:
        wanted = attached(tenant).where(*place_of(tenant, store_id, file_id))
        return attached_file(await self._one(wanted, f"file in vector store {store_id}:", file_id))

    async def list_attached(
        self,
        tenant: str,
        store_id: str,
        paging: Paging,
        *,
        status: Status | None = None,
        file_ids: Iterable[str] | None = None,
    ) -> Listing[AttachedFile]:
        """Cursors are file ids."""
        wanted = attached(tenant).where(ATTACHED.c.store_id == store_id)
        if status:
            wanted = wanted.where(ATTACHED.c.status == status)
        if file_ids is not None:
            wanted = wanted.where(ATTACHED.c.file_id.in_(list(file_ids)))
        rows, has_more = await self._page(wanted, ATTACHED, paging, prefix=f"{store_id}/")
        return Listing(tuple(attached_file(row) for row in rows), has_more)

    async def settle(self, work: AttachedFile, status: Status, **facts: Any) -> bool:
        """End the work on a file, noting `chunk_count` or an error; False when it was ended or detached before."""
        place = place_of(work.tenant, work.store_id, work.file_id)
        async with self._transaction() as connection:
            done = await connection.execute(
                update(ATTACHED).where(*place, ATTACHED.c.status == "in_progress").values(status=status, **facts)
            )
        return done.rowcount > 0

    async def cancel(self, tenant: str, store_id: str, file_id: str | None = None) -> None:
        """Work under way on a file, or on all of the store, is not to be continued."""
        async with self._transaction() as connection:
            await connection.execute(
                update(ATTACHED)
                .where(*place_of(tenant, store_id, file_id), ATTACHED.c.status == "in_progress")
                .values(status="cancelled")
            )

    async def detach(self, tenant: str, store_id: str, file_id: str) -> None:
        async with self._transaction() as connection:
            await connection.execute(delete(ATTACHED).where(*place_of(tenant, store_id, file_id)))

    async def superseded(self, newer: AttachedFile) -> tuple[AttachedFile, ...]:
        """Files of the same name that were attached to the same store before."""
        older = (FILES.c.name == newer.name) & (ATTACHED.c.sequence < newer.sequence)
        rows = await self._rows(attached(newer.tenant).where(ATTACHED.c.store_id == newer.store_id, older))
        return tuple(attached_file(row) for row in rows)

    async def places(self, tenant: str, file_id: str) -> tuple[AttachedFile, ...]:
        """Every store the file is in."""
        rows = await self._rows(attached(tenant).where(ATTACHED.c.file_id == file_id))
        return tuple(attached_file(row) for row in rows)

    async def about(self, tenant: str, subject: str) -> tuple[AttachedFile, ...]:
        """Every place of every file whose attributes name this subject."""
        found = [attached_file(row) for row in await self._rows(attached(tenant))]
        return tuple(one for one in found if one.attributes.get("consent_subject") == subject)

    async def unfinished(self) -> tuple[AttachedFile, ...]:
        """Of all tenants, in the order they were attached: what a restart has to take up again."""
        wanted = joined().where(ATTACHED.c.status == "in_progress").order_by(ATTACHED.c.sequence)
        return tuple(attached_file(row) for row in await self._rows(wanted))

    async def add_batch(self, tenant: str, store_id: str, file_ids: Iterable[str]) -> Batch:
        batch_id = f"vsfb_{uuid.uuid4().hex[:24]}"
        await self._insert(BATCHES, tenant, batch_id, store_id=store_id, file_ids=list(file_ids))
        return await self.get_batch(tenant, store_id, batch_id)

    async def get_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch:
        wanted = owned_by(tenant, BATCHES).where(BATCHES.c.store_id == store_id, BATCHES.c.id == batch_id)
        row = await self._one(wanted, "file batch", batch_id)
        within = ATTACHED.c.file_id.in_(row["file_ids"])
        counts = await self._counts(tenant, (ATTACHED.c.store_id == store_id) & within)
        return Batch(
            id=row["id"],
            tenant=tenant,
            store_id=store_id,
            file_ids=tuple(row["file_ids"]),
            created_at=row["created_at"],
            counts=counts.get(store_id, (Counts(), 0))[0],
        )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as exc:
            raise RetrieverUnavailable(f"the catalog of files cannot be used ({type(exc).__name__})") from exc

    async def _insert(self, table: Table, tenant: str, row_id: str, **columns: Any) -> None:
        """Nothing happens when the id is there already; NotFound when it is another tenant's."""
        try:
            async with self._transaction() as connection:
                row = {"id": row_id, "tenant": tenant, "created_at": time.time(), **columns}
                await connection.execute(insert(table).values(row))
        except IntegrityError:
            await self._one(owned_by(tenant, table).where(table.c.id == row_id), table.name, row_id)

    async def _rows(self, wanted: Select[Any]) -> Sequence[RowMapping]:
        async with self._transaction() as connection:
            rows: Sequence[RowMapping] = (await connection.execute(wanted)).mappings().all()
            return rows

    async def _one(self, wanted: Select[Any], noun: str, row_id: str) -> RowMapping:
        rows = await self._rows(wanted)
        if not rows:
            raise NotFound(f"no {noun} {row_id!r}; list them to see which there are")
        return rows[0]

    async def _page(
        self, wanted: Select[Any], table: Table, paging: Paging, prefix: str = ""
    ) -> tuple[Sequence[RowMapping], bool]:
        position = table.c.sequence
        ascending = paging.order == "asc"
        for cursor, behind in ((paging.after, ascending), (paging.before, not ascending)):
            if cursor is not None:
                at = select(position).where(table.c.id == f"{prefix}{cursor}").scalar_subquery()
                wanted = wanted.where(position > at if behind else position < at)
        ordered = wanted.order_by(position.asc() if ascending else position.desc())
        rows = await self._rows(ordered.limit(paging.limit + 1))
        return rows[: paging.limit], len(rows) > paging.limit

    async def _counts(self, tenant: str, among: ColumnElement[bool]) -> dict[str, tuple[Counts, int]]:
        """By store: how many files have which status, and their bytes."""
        grouped = (
            select(
                ATTACHED.c.store_id,
                ATTACHED.c.status,
                func.count().label("files"),
                func.sum(FILES.c.size_bytes).label("size"),
            )
            .join_from(ATTACHED, FILES, ATTACHED.c.file_id == FILES.c.id)
            .where(ATTACHED.c.tenant == tenant, among)
            .group_by(ATTACHED.c.store_id, ATTACHED.c.status)
        )
        numbers: dict[str, dict[str, int]] = {}
        sizes: dict[str, int] = {}
        for row in await self._rows(grouped):
            numbers.setdefault(row["store_id"], {})[row["status"]] = row["files"]
            sizes[row["store_id"]] = sizes.get(row["store_id"], 0) + int(row["size"])
        return {store_id: (Counts(**counted), sizes[store_id]) for store_id, counted in numbers.items()}

    async def _counted_stores(self, tenant: str, rows: Sequence[RowMapping]) -> list[Store]:
        counted = await self._counts(tenant, ATTACHED.c.store_id.in_([row["id"] for row in rows]))
        stores = []
        for row in rows:
            counts, size = counted.get(row["id"], (Counts(), 0))
            facts = {name: row[name] for name in ("id", "tenant", "name", "metadata", "created_at")}
            stores.append(Store(**facts, counts=counts, size_bytes=size))
        return stores


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Readers do not wait for the writer; a second writer waits instead of failing."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
