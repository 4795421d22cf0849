import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.adapters.catalog_database import Database, check_files, missing, read
from serve_app.adapters.tables import (
    ATTACHED,
    FILES,
    HIDDEN,
    STORES,
    at,
    attached,
    attached_file,
    hide,
    joined,
    owned_by,
    place_in,
)
from serve_app.documents.records import AttachedFile, Listing, Paging, Place, Settled, Status, Wish


class Begun(NamedTuple):
    """What an attachment set going."""

    works: tuple[AttachedFile, ...]
    hidden: tuple[Place, ...]
    """Those that were in the store already, otherwise than wished."""


class Places:
    """Which files are in which stores, how far the work on each is, and what of it may be found."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attach(self, tenant: str, store_id: str, wishes: Mapping[str, Wish]) -> Begun:
        """All of them `in_progress`, or none.

        One that is in the store as it is wished to be is left alone. Of one that was in it otherwise, nothing may be
        found from now on: its attributes may be what says who sees it.
        """
        async with self._database.transaction() as connection:
            known = await self._known(connection, tenant, store_id, wishes)
            begun = {file_id: wish for file_id, wish in wishes.items() if not _met(wish, known.get(file_id))}
            rows = [_row(tenant, store_id, file_id, wish) for file_id, wish in begun.items() if file_id not in known]
            if rows:
                await connection.execute(insert(ATTACHED), rows)
            for file_id in begun.keys() & known.keys():
                again = _begun(begun[file_id], known[file_id])
                await connection.execute(update(ATTACHED).where(*at(known[file_id].place)).values(**again))
            hidden = tuple(known[file_id].place for file_id in begun.keys() & known.keys())
            await hide(connection, hidden)
            found = await read(connection, _among(tenant, store_id, begun).order_by(ATTACHED.c.sequence))
        return Begun(tuple(attached_file(row) for row in found), hidden)

    async def get(self, tenant: str, store_id: str, file_id: str) -> AttachedFile:
        wanted = attached(tenant).where(*at(Place(tenant, store_id, file_id)))
        return attached_file(await self._database.one(wanted, f"file in vector store {store_id}:", file_id))

    async def list(
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
        rows, has_more = await self._database.page(wanted, ATTACHED, paging, prefix=f"{store_id}/")
        return Listing(tuple(attached_file(row) for row in rows), has_more)

    async def begin(self, place: Place) -> None:
        """Chunks of the file will come, and may not be found before it is whole."""
        async with self._database.transaction() as connection:
            await hide(connection, (place,))

    async def complete(self, work: AttachedFile, ended: Settled) -> tuple[Place, ...] | None:
        """At one stroke: this file may be found, and those of its name that came before may not, and leave the store.

        Returns where these were; None, and nothing happens, when the file is not wanted any more.
        """
        namesakes = (FILES.c.name == work.name) & (ATTACHED.c.sequence <= work.sequence)
        here = attached(work.tenant).where(ATTACHED.c.store_id == work.store_id, namesakes)
        async with self._database.transaction() as connection:
            found = {row["file_id"]: attached_file(row) for row in await read(connection, here)}
            mine = found.pop(work.file_id, None)
            if mine is None or not mine.is_still(work):
                return None
            await connection.execute(
                update(ATTACHED).where(*at(work.place)).values(status="completed", **asdict(ended))
            )
            await connection.execute(delete(HIDDEN).where(*at(work.place, HIDDEN)))
            superseded = tuple(older.place for older in found.values())
            for place in superseded:
                await connection.execute(delete(ATTACHED).where(*at(place)))
            await hide(connection, superseded)
        return superseded

    async def fail(self, work: AttachedFile, ended: Settled) -> None:
        """Nothing happens when it is not wanted any more."""
        async with self._database.transaction() as connection:
            if await _is_still(connection, work):
                await connection.execute(
                    update(ATTACHED).where(*at(work.place)).values(status="failed", **asdict(ended))
                )

    async def cancel(self, tenant: str, store_id: str, file_ids: Sequence[str]) -> tuple[Place, ...]:
        """Work under way or waiting is not to be continued; returns of which files."""
        within = (*at(Place(tenant, store_id)), ATTACHED.c.file_id.in_(file_ids), ATTACHED.c.status == "in_progress")
        async with self._database.transaction() as connection:
            cancelled = tuple(place_in(row) for row in await read(connection, select(ATTACHED).where(*within)))
            await connection.execute(update(ATTACHED).where(*within).values(status="cancelled"))
        return cancelled

    async def remove(self, place: Place) -> None:
        """The file is not in the store any more, and nothing of it may be found there."""
        async with self._database.transaction() as connection:
            gone = await connection.execute(delete(ATTACHED).where(*at(place)))
            if gone.rowcount:
                await hide(connection, (place,))

    async def hidden(self) -> tuple[Place, ...]:
        """Of all tenants: of which nothing may be found, whatever the index holds."""
        return tuple(place_in(row) for row in await self._database.rows(select(HIDDEN)))

    async def cleared(self, place: Place) -> None:
        """The index holds nothing of it any more."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(HIDDEN).where(*at(place, HIDDEN), HIDDEN.c.file_id == place.file_id))

    async def of_file(self, tenant: str, file_id: str) -> tuple[AttachedFile, ...]:
        """Every store the file is in."""
        rows = await self._database.rows(attached(tenant).where(ATTACHED.c.file_id == file_id))
        return tuple(attached_file(row) for row in rows)

    async def about(self, tenant: str, subject: str) -> tuple[AttachedFile, ...]:
        """Every place of every file whose attributes name this subject."""
        found = [attached_file(row) for row in await self._database.rows(attached(tenant))]
        return tuple(one for one in found if one.attributes.get("consent_subject") == subject)

    async def unfinished(self) -> tuple[AttachedFile, ...]:
        """Of all tenants, in the order they were attached: what a restart has to take up again."""
        wanted = joined().where(ATTACHED.c.status == "in_progress").order_by(ATTACHED.c.sequence)
        return tuple(attached_file(row) for row in await self._database.rows(wanted))

    async def _known(
        self, connection: AsyncConnection, tenant: str, store_id: str, wishes: Mapping[str, Wish]
    ) -> dict[str, AttachedFile]:
        """Those of the files that are in the store. Raises NotFound when the store or one of the files is not there."""
        if not await read(connection, owned_by(tenant, STORES).where(STORES.c.id == store_id)):
            raise missing("vector store", store_id)
        await check_files(connection, tenant, wishes)
        rows = await read(connection, _among(tenant, store_id, wishes))
        return {row["file_id"]: attached_file(row) for row in rows}


def _among(tenant: str, store_id: str, file_ids: Iterable[str]) -> Any:
    return attached(tenant).where(ATTACHED.c.store_id == store_id, ATTACHED.c.file_id.in_(list(file_ids)))


def _met(wish: Wish, known: AttachedFile | None) -> bool:
    return known is not None and wish.is_met_by(known)


def _row(tenant: str, store_id: str, file_id: str, wish: Wish) -> dict[str, Any]:
    place = {"tenant": tenant, "store_id": store_id, "file_id": file_id}
    return {"id": f"{store_id}/{file_id}", "created_at": time.time(), **place, **_begun(wish, None)}


def _begun(wish: Wish, known: AttachedFile | None) -> dict[str, Any]:
    attributes = wish.attributes if wish.attributes is not None else known.attributes if known else {}
    sizes = wish.chunk_sizes or (known.chunk_sizes if known else None)
    return {
        "status": "in_progress",
        "attributes": dict(attributes),
        "chunk_sizes": asdict(sizes) if sizes else None,
        **asdict(Settled()),
    }


async def _is_still(connection: AsyncConnection, work: AttachedFile) -> bool:
    rows: Sequence[RowMapping] = await read(connection, attached(work.tenant).where(*at(work.place)))
    return bool(rows) and attached_file(rows[0]).is_still(work)
