import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from serve_app.adapters.catalog import Catalog
from serve_app.backlog import Backlog
from serve_app.documents.document import Refusal
from serve_app.documents.folder import Folder
from serve_app.documents.parser import Parser, ParserProcess
from serve_app.documents.records import (
    AttachedFile,
    Batch,
    ChunkSizes,
    Listing,
    Paging,
    Status,
    Store,
    StoredFile,
    Wish,
)
from serve_app.documents.tokens import minilm_tokenizer
from serve_app.errors import Conflict, Forbidden, InvalidRequest, NotFound
from serve_app.ingestion import Encode, Ingestion, Inspect, attributes_of
from serve_app.library_port import Purged
from serve_app.lifetimes import Lifetimes
from serve_app.ports import Index, Query, Reranker
from serve_app.redaction import Redaction, treatment
from serve_app.search import Search
from serve_app.settings import RetrieverSettings, asset
from serve_app.shelf import Shelf
from serve_app.sight import Sight, Terms
from serve_app.turn import Found
from serve_app.upkeep import Upkeep
from serve_app.uploads import Uploads
from serve_app.visibility import Visibility

DEFAULT_STORE = "default"
UNCHANGED = Wish()
MOST_HIDDEN = 64
"""With more of them what is hidden is swept at once: Milvus Lite searches in 15 ms with few, in 80 with 2,000."""


def default_store_id(tenant: str) -> str:
    """The id of the tenant's default store, whether or not it has been made yet."""
    return f"vs_{hashlib.sha256(f'{DEFAULT_STORE}/{tenant}'.encode()).hexdigest()[:24]}"


class Library:
    """Files, vector stores and what is in them. One process holds it: it owns the files and the ingestion."""

    def __init__(
        self,
        catalog: Catalog,
        index: Index,
        encode: Encode,
        settings: RetrieverSettings,
        parser: Parser | None = None,
        inspect: Inspect | None = None,
        redaction: Redaction | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        """Without a `parser`: a process of its own that counts tokens as the default encoder does."""
        self._catalog = catalog
        self._search = Search(index, reranker, settings.reranker)
        self._parser = parser or ParserProcess(
            tokenizer_path=minilm_tokenizer(),
            chunk_tokens=settings.chunk_tokens,
            deadline_s=settings.parse_deadline_s,
        )
        folder = Folder(asset(settings.files_path))
        self._uploads = Uploads(catalog, folder, settings.max_file_bytes)
        self._visibility = Visibility()
        self._shelf = Shelf(catalog, index, self._visibility)
        ingestion = Ingestion(
            catalog=catalog,
            shelf=self._shelf,
            encode=encode,
            inspect=inspect,
            redaction=redaction,
            parser=self._parser,
            folder=folder,
        )
        self._ingestion = ingestion
        self._backlog = Backlog(ingestion, catalog, self._shelf)
        self._lifetimes = Lifetimes()
        self._upkeep = Upkeep(self._shelf.sweep_all, self._note_uses, self._remove_expired)

    async def open(self) -> None:
        """Make what is missing, hide what is not whole, and take up what was left unfinished."""
        await self._catalog.open()
        await self._shelf.open()
        await self._uploads.open()
        for store in await self._catalog.stores.ending():
            self._lifetimes.know(store)
        await self._backlog.start()
        self._upkeep.start()

    async def close(self) -> None:
        await self._upkeep.close()
        await self._backlog.close()
        await self._note_uses()
        await self._parser.close()
        await self._catalog.close()

    async def drained(self) -> None:
        """Returns when every attached file has been ingested or refused."""
        await self._backlog.drained()

    async def search(self, query: Query) -> Found:
        """Finds of each file what is whole, of each file name one version, and nothing in stores that have expired."""
        async with self._visibility.searching():
            tenant, stores = query.sight.tenant, query.stores
            if closed := self._visibility.hidden_stores(tenant) | self._lifetimes.expired(tenant):
                among = stores or await self._catalog.stores.ids(tenant)
                stores = tuple(store_id for store_id in among if store_id not in closed)
                if not stores:
                    return Found()
            self._lifetimes.use(tenant, stores if query.stores else ())
            hidden = self._visibility.hidden_files(tenant, stores)
            return await self._search.search(replace(query, stores=stores, hidden=hidden))

    async def create_file(self, tenant: str, name: str, content: bytes, purpose: str) -> StoredFile:
        return await self._uploads.create(tenant, name, content, purpose)

    async def get_file(self, tenant: str, file_id: str) -> StoredFile:
        return await self._catalog.files.get(tenant, file_id)

    async def list_files(self, tenant: str, paging: Paging, purpose: str | None = None) -> Listing[StoredFile]:
        return await self._catalog.files.list(tenant, paging, purpose)

    async def delete_file(self, tenant: str, file_id: str) -> None:
        """Out of every store it is in, then for good."""
        await self._catalog.files.get(tenant, file_id)
        await self._shelf.remove(*await self._catalog.files.remove(tenant, file_id))
        await self._uploads.discard(file_id)

    async def file_content(self, sight: Sight, file_id: str) -> bytes:
        """Raises Forbidden for a file in which there is anything that this caller may not see."""
        for place in await self._catalog.places.of_file(sight.tenant, file_id):
            if place.own_terms or not sight.sees(place.tenant, Terms.of(place.attributes)):
                raise Forbidden(f"file {file_id!r} holds what this key may not see; a search finds what it may")
        return await self._uploads.content(sight.tenant, file_id)

    async def ensure_default_store(self, tenant: str) -> Store:
        return await self._catalog.stores.add(tenant, DEFAULT_STORE, {}, id=default_store_id(tenant))

    async def create_store(
        self,
        tenant: str,
        name: str,
        metadata: Mapping[str, str] | None = None,
        file_ids: Sequence[str] = (),
        *,
        description: str = "",
        expires_after_days: int | None = None,
        chunk_sizes: ChunkSizes | None = None,
    ) -> Store:
        """A store named `default` is the tenant's default store, made once."""
        treatment(metadata or {})
        await self._catalog.files.check(tenant, file_ids)
        facts = {"description": description, "expires_after_days": expires_after_days}
        if name == DEFAULT_STORE:
            store = await self.ensure_default_store(tenant)
            told = {"metadata": metadata, **facts}
            if changed := {field: value for field, value in told.items() if value}:
                store = await self._catalog.stores.update(tenant, store.id, **changed)
        else:
            store = await self._catalog.stores.add(tenant, name, metadata or {}, **facts)
        self._lifetimes.know(store)
        if file_ids:
            await self._attach(tenant, store.id, dict.fromkeys(file_ids, Wish(chunk_sizes=chunk_sizes)))
        return await self.get_store(tenant, store.id)

    async def get_store(self, tenant: str, store_id: str) -> Store:
        return self._lifetimes.of(await self._catalog.stores.get(tenant, store_id))

    async def list_stores(self, tenant: str, paging: Paging) -> Listing[Store]:
        listing = await self._catalog.stores.list(tenant, paging)
        return replace(listing, records=tuple(self._lifetimes.of(store) for store in listing.records))

    async def update_store(
        self,
        tenant: str,
        store_id: str,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        expires_after_days: int | None = None,
    ) -> Store:
        """None leaves a field as it is; 0 days: it does not expire any more."""
        store = await self._catalog.stores.get(tenant, store_id)
        treatment(metadata or {})
        name = store.name if name is None else name
        if (name == DEFAULT_STORE) != (store_id == default_store_id(tenant)):
            raise Conflict(f"name: {DEFAULT_STORE!r} is the name of the default store and of no other").at("name")
        facts: dict[str, Any] = {"name": name, "metadata": store.metadata if metadata is None else metadata}
        if expires_after_days is not None:
            facts["expires_after_days"] = expires_after_days or None
        self._lifetimes.know(await self._catalog.stores.update(tenant, store_id, **facts))
        return await self.get_store(tenant, store_id)

    async def delete_store(self, tenant: str, store_id: str) -> None:
        """The files in it stay files."""
        await self._catalog.stores.get(tenant, store_id)
        place = await self._catalog.stores.remove(tenant, store_id)
        self._lifetimes.forget(place)
        await self._shelf.remove(place)

    async def attach(self, tenant: str, store_id: str, file_id: str, wish: Wish = UNCHANGED) -> AttachedFile:
        """Returns at once, with status `in_progress`; a file that is in the store as it should be is left alone."""
        await self._attach(tenant, store_id, {file_id: wish})
        return await self._catalog.places.get(tenant, store_id, file_id)

    async def _attach(self, tenant: str, store_id: str, wishes: Mapping[str, Wish]) -> None:
        for wish in wishes.values():
            Terms.of(wish.attributes or {})
        if store_id in self._lifetimes.expired(tenant):
            raise InvalidRequest(f"vector store {store_id!r} has expired; make a new one")
        begun = await self._catalog.places.attach(tenant, store_id, wishes)
        self._shelf.withdraw(*begun.hidden)
        self._visibility.hide(*begun.hidden)
        self._lifetimes.use(tenant, (store_id,))
        self._backlog.add(begun.works)
        if len(self._visibility.hidden) > MOST_HIDDEN:
            self._upkeep.wake()

    async def get_attached(self, tenant: str, store_id: str, file_id: str) -> AttachedFile:
        return await self._catalog.places.get(tenant, store_id, file_id)

    async def attached_content(self, sight: Sight, store_id: str, file_id: str) -> tuple[str, ...]:
        """The text of the file as it was indexed, chunk by chunk; of that, what this caller may see."""
        work = await self._catalog.places.get(sight.tenant, store_id, file_id)
        if work.status != "completed":
            raise InvalidRequest(f"file {file_id!r} is {work.status} in this store; only a completed one has its text")
        try:
            excerpts = await self._ingestion.excerpts(work)
        except Refusal as refused:
            raise NotFound(f"the text of file {file_id!r} cannot be read any more: {refused}") from refused
        return tuple(one.text for one in excerpts if sight.sees(work.tenant, Terms.of(attributes_of(work, one))))

    async def list_attached(
        self,
        tenant: str,
        store_id: str,
        paging: Paging,
        status: Status | None = None,
        batch_id: str | None = None,
    ) -> Listing[AttachedFile]:
        await self._catalog.stores.get(tenant, store_id)
        file_ids = (await self.get_batch(tenant, store_id, batch_id)).file_ids if batch_id else None
        return await self._catalog.places.list(tenant, store_id, paging, status=status, file_ids=file_ids)

    async def detach(self, tenant: str, store_id: str, file_id: str) -> None:
        """Out of the store; the file itself stays."""
        place = (await self._catalog.places.get(tenant, store_id, file_id)).place
        await self._catalog.places.remove(place)
        await self._shelf.remove(place)

    async def purge(self, tenant: str, subject: str) -> Purged:
        """Removes all files about a subject for good, and every chunk about it that other files brought.

        A file of many people, such as JSON lines with a subject each, loses those chunks but keeps its bytes: nobody
        reads them, and what they say of the subject is not indexed again.
        """
        about = await self._catalog.places.about(tenant, subject)
        files = sorted({place.file_id for place in about})
        chunks = sum(place.chunk_count for place in about)
        for file_id in files:
            await self.delete_file(tenant, file_id)
        return Purged(subject, tuple(files), chunks + await self._shelf.purge(tenant, subject))

    async def attach_batch(self, tenant: str, store_id: str, files: Mapping[str, Wish]) -> Batch:
        """All of them or, when one is not there, none."""
        await self._attach(tenant, store_id, files)
        return await self._catalog.stores.add_batch(tenant, store_id, files)

    async def get_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch:
        return await self._catalog.stores.get_batch(tenant, store_id, batch_id)

    async def cancel_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch:
        """Files of it that are still waiting or under way are not ingested."""
        batch = await self.get_batch(tenant, store_id, batch_id)
        self._shelf.withdraw(*await self._catalog.places.cancel(tenant, store_id, batch.file_ids))
        return await self.get_batch(tenant, store_id, batch_id)

    async def _note_uses(self) -> None:
        if uses := self._lifetimes.unsaved():
            await self._catalog.stores.touch(uses)

    async def _remove_expired(self) -> None:
        for place in self._lifetimes.all_expired:
            await self.delete_store(place.tenant, place.store_id)
