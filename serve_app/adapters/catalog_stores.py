import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, delete, func, select, update

from serve_app.adapters.catalog_database import Database
from serve_app.adapters.tables import ATTACHED, BATCHES, FILES, HIDDEN, STORES, at, hide, owned_by
from serve_app.documents.records import Batch, Counts, Listing, Paging, Place, Store


class Stores:
    """Vector stores, and the batches of files that were attached to them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, name: str, metadata: Mapping[str, str], **facts: Any) -> Store:
        """With an `id` among the facts that is there already: that store, unchanged."""
        store_id = facts.pop("id", None) or f"vs_{uuid.uuid4().hex[:24]}"
        columns = {"name": name, "metadata": dict(metadata), "last_active_at": time.time(), **facts}
        await self._database.insert(STORES, tenant, store_id, **columns)
        return await self.get(tenant, store_id)

    async def get(self, tenant: str, store_id: str) -> Store:
        wanted = owned_by(tenant, STORES).where(STORES.c.id == store_id)
        row = await self._database.one(wanted, "vector store", store_id)
        return (await self._counted(tenant, [row]))[0]

    async def metadata(self, tenant: str, store_id: str) -> Mapping[str, str]:
        row = await self._database.one(
            owned_by(tenant, STORES).where(STORES.c.id == store_id), "vector store", store_id
        )
        found: Mapping[str, str] = row["metadata"]
        return found

    async def list(self, tenant: str, paging: Paging) -> Listing[Store]:
        rows, has_more = await self._database.page(owned_by(tenant, STORES), STORES, paging)
        return Listing(tuple(await self._counted(tenant, rows)), has_more)

    async def ids(self, tenant: str) -> tuple[str, ...]:
        rows = await self._database.rows(select(STORES.c.id).where(STORES.c.tenant == tenant))
        return tuple(row["id"] for row in rows)

    async def update(self, tenant: str, store_id: str, **facts: Any) -> Store:
        mine = (STORES.c.tenant == tenant) & (STORES.c.id == store_id)
        async with self._database.transaction() as connection:
            await connection.execute(update(STORES).where(mine).values(**facts))
        return await self.get(tenant, store_id)

    async def touch(self, uses: Mapping[Place, float]) -> None:
        """When stores were last used; of those that are not there any more nothing is kept."""
        async with self._database.transaction() as connection:
            for place, used in uses.items():
                mine = (STORES.c.tenant == place.tenant, STORES.c.id == place.store_id)
                await connection.execute(update(STORES).where(*mine).values(last_active_at=used))

    async def ending(self) -> tuple[Store, ...]:
        """Those of all tenants that expire, without their counts."""
        rows = await self._database.rows(select(STORES).where(STORES.c.expires_after_days.is_not(None)))
        return tuple(_store(row, Counts(), 0) for row in rows)

    async def remove(self, tenant: str, store_id: str) -> Place:
        """The store is not known any more; all that was in it is hidden. The files stay files."""
        place = Place(tenant, store_id)
        async with self._database.transaction() as connection:
            await connection.execute(delete(STORES).where(STORES.c.tenant == tenant, STORES.c.id == store_id))
            for table in (ATTACHED, BATCHES, HIDDEN):
                await connection.execute(delete(table).where(*at(place, table)))
            await hide(connection, (place,))
        return place

    async def add_batch(self, tenant: str, store_id: str, file_ids: Iterable[str]) -> Batch:
        batch_id = f"vsfb_{uuid.uuid4().hex[:24]}"
        await self._database.insert(BATCHES, tenant, batch_id, store_id=store_id, file_ids=list(file_ids))
        return await self.get_batch(tenant, store_id, batch_id)

    async def get_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch:
        wanted = owned_by(tenant, BATCHES).where(BATCHES.c.store_id == store_id, BATCHES.c.id == batch_id)
        row = await self._database.one(wanted, "file batch", batch_id)
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
        for row in await self._database.rows(grouped):
            numbers.setdefault(row["store_id"], {})[row["status"]] = row["files"]
            sizes[row["store_id"]] = sizes.get(row["store_id"], 0) + int(row["size"])
        return {store_id: (Counts(**counted), sizes[store_id]) for store_id, counted in numbers.items()}

    async def _counted(self, tenant: str, rows: Sequence[RowMapping]) -> Sequence[Store]:
        counted = await self._counts(tenant, ATTACHED.c.store_id.in_([row["id"] for row in rows]))
        return [_store(row, *counted.get(row["id"], (Counts(), 0))) for row in rows]


def _store(row: RowMapping, counts: Counts, size_bytes: int) -> Store:
    facts = {name: row[name] for name in ("id", "tenant", "name", "metadata", "created_at", "expires_after_days")}
    return Store(
        **facts,
        counts=counts,
        size_bytes=size_bytes,
        description=row["description"] or "",
        last_active_at=row["last_active_at"] or row["created_at"],  # stores of the first version have none
    )
