"""The catalog of files and vector stores: what there is, and what of it may be found."""

import time
from collections.abc import Iterable

from sqlalchemy import delete, insert, select

from serve_app.adapters.catalog_database import Database, check_files, read
from serve_app.adapters.catalog_places import Places
from serve_app.adapters.catalog_stores import Stores
from serve_app.adapters.tables import ATTACHED, FILES, LOOSE, PURGED, hide, owned_by, place_in, stored_file
from serve_app.documents.records import Listing, Paging, Place, StoredFile


class Catalog:
    """Every query names the tenant; what another tenant owns is not found.

    Raises NotFound for an unknown id and RetrieverUnavailable when the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.files = Files(self._database)
        self.stores = Stores(self._database)
        self.places = Places(self._database)

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()


class Files:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def expect(self, file_id: str) -> None:
        """Bytes of a file will be stored that is not known yet: should it never be added, they are `loose`."""
        async with self._database.transaction() as connection:
            await connection.execute(insert(LOOSE).values(file_id=file_id))

    async def add(self, *, tenant: str, file_id: str, name: str, purpose: str, size: int, sha256: str) -> StoredFile:
        columns = {"name": name, "purpose": purpose, "size_bytes": size, "sha256": sha256, "created_at": time.time()}
        async with self._database.transaction() as connection:
            await connection.execute(insert(FILES).values(id=file_id, tenant=tenant, **columns))
            await connection.execute(delete(LOOSE).where(LOOSE.c.file_id == file_id))
        return await self.get(tenant, file_id)

    async def find(self, *, tenant: str, name: str, purpose: str, sha256: str) -> StoredFile | None:
        """The newest file of this very name, purpose and content."""
        same = (FILES.c.name == name) & (FILES.c.purpose == purpose) & (FILES.c.sha256 == sha256)
        wanted = owned_by(tenant, FILES).where(same).order_by(FILES.c.sequence.desc()).limit(1)
        rows = await self._database.rows(wanted)
        return stored_file(rows[0]) if rows else None

    async def get(self, tenant: str, file_id: str) -> StoredFile:
        wanted = owned_by(tenant, FILES).where(FILES.c.id == file_id)
        return stored_file(await self._database.one(wanted, "file", file_id))

    async def check(self, tenant: str, file_ids: Iterable[str]) -> None:
        """Raises NotFound for the first of them that is not there."""
        async with self._database.transaction() as connection:
            await check_files(connection, tenant, file_ids)

    async def list(self, tenant: str, paging: Paging, purpose: str | None = None) -> Listing[StoredFile]:
        wanted = owned_by(tenant, FILES)
        rows, has_more = await self._database.page(
            wanted.where(FILES.c.purpose == purpose) if purpose else wanted, FILES, paging
        )
        return Listing(tuple(stored_file(row) for row in rows), has_more)

    async def remove(self, tenant: str, file_id: str) -> tuple[Place, ...]:
        """The file is not known any more, nor in any store; where it was is hidden, and its bytes are loose."""
        within = (ATTACHED.c.tenant == tenant, ATTACHED.c.file_id == file_id)
        async with self._database.transaction() as connection:
            places = tuple(place_in(row) for row in await read(connection, select(ATTACHED).where(*within)))
            await connection.execute(delete(FILES).where(FILES.c.tenant == tenant, FILES.c.id == file_id))
            await connection.execute(delete(ATTACHED).where(*within))
            await connection.execute(delete(LOOSE).where(LOOSE.c.file_id == file_id))
            await connection.execute(insert(LOOSE).values(file_id=file_id))
            await hide(connection, places)
        return places

    async def purge(self, tenant: str, subject_sha256: str) -> float:
        """Notes that what was uploaded up to now says nothing about this subject any more; returns this moment."""
        whom = {"tenant": tenant, "subject_sha256": subject_sha256}
        now = time.time()
        async with self._database.transaction() as connection:
            mine = (PURGED.c.tenant == tenant, PURGED.c.subject_sha256 == subject_sha256)
            await connection.execute(delete(PURGED).where(*mine))
            await connection.execute(insert(PURGED).values(**whom, purged_at=now))
        return now

    async def purged(self) -> dict[tuple[str, str], float]:
        """When which subjects were purged, by tenant and the SHA-256 of the subject."""
        rows = await self._database.rows(select(PURGED))
        return {(row["tenant"], row["subject_sha256"]): row["purged_at"] for row in rows}

    async def loose(self) -> tuple[str, ...]:
        """Ids of files, unknown to everybody, whose bytes may be in the folder."""
        rows = await self._database.rows(select(LOOSE.c.file_id).where(LOOSE.c.file_id.not_in(select(FILES.c.id))))
        return tuple(row["file_id"] for row in rows)

    async def forget(self, file_id: str) -> None:
        """The bytes are where they belong, or gone."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(LOOSE).where(LOOSE.c.file_id == file_id))
