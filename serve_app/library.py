import hashlib
import uuid
from collections.abc import Mapping, Sequence

from serve_app.adapters.catalog import Catalog
from serve_app.documents.document import cleaned
from serve_app.documents.folder import Folder
from serve_app.documents.parser import Parser, ParserProcess
from serve_app.documents.records import (
    AttachedFile,
    Attributes,
    Batch,
    Listing,
    Paging,
    Status,
    Store,
    StoredFile,
)
from serve_app.documents.tokens import minilm_tokenizer
from serve_app.errors import BodyTooLarge, Conflict, InvalidRequest, NotFound
from serve_app.ingestion import Backlog, Encode, Ingestion, Inspect, remove
from serve_app.library_port import Purged
from serve_app.ports import Index, Query, Reranker
from serve_app.redaction import Redaction, treatment
from serve_app.search import Search
from serve_app.settings import RetrieverSettings, asset
from serve_app.sight import Terms
from serve_app.turn import Found

DEFAULT_STORE = "default"
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
LONGEST_NAME = 1024


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
        self._index = index
        self._search = Search(index, reranker, settings.reranker)
        self._parser = parser or ParserProcess(
            tokenizer_path=minilm_tokenizer(),
            chunk_tokens=settings.chunk_tokens,
            deadline_s=settings.parse_deadline_s,
        )
        self._most_bytes = settings.max_file_bytes
        self._folder = Folder(asset(settings.files_path))
        self._backlog = Backlog(
            Ingestion(
                catalog=catalog,
                index=index,
                encode=encode,
                inspect=inspect,
                redaction=redaction,
                parser=self._parser,
                folder=self._folder,
            )
        )

    async def open(self) -> None:
        """Make what is missing and take up what was left unfinished."""
        await self._catalog.open()
        await self._backlog.start()

    async def close(self) -> None:
        await self._backlog.close()
        await self._parser.close()
        await self._catalog.close()

    async def drained(self) -> None:
        """Returns when every attached file has been ingested or refused."""
        await self._backlog.drained()

    async def search(self, query: Query) -> Found:
        return await self._search.search(query)

    async def create_file(self, tenant: str, name: str, content: bytes, purpose: str) -> StoredFile:
        """The same bytes under the same name are the same file."""
        name = _checked_name(name)
        if purpose not in PURPOSES:
            raise InvalidRequest(f"purpose: {purpose!r} is not one of {', '.join(PURPOSES)}").at("purpose")
        if len(content) > self._most_bytes:
            raise BodyTooLarge(f"file: {name} has {len(content)} bytes; at most {self._most_bytes} are taken").at(
                "file"
            )
        sha256 = hashlib.sha256(content).hexdigest()
        known = await self._catalog.find_file(tenant=tenant, name=name, purpose=purpose, sha256=sha256)
        if known and self._folder.path(known.id).exists():
            return known
        file_id = f"file-{uuid.uuid4().hex[:24]}"
        await self._folder.put(file_id, content)
        return await self._catalog.add_file(
            tenant=tenant, file_id=file_id, name=name, purpose=purpose, size=len(content), sha256=sha256
        )

    async def get_file(self, tenant: str, file_id: str) -> StoredFile:
        return await self._catalog.get_file(tenant, file_id)

    async def list_files(self, tenant: str, paging: Paging, purpose: str | None = None) -> Listing[StoredFile]:
        return await self._catalog.list_files(tenant, paging, purpose)

    async def delete_file(self, tenant: str, file_id: str) -> None:
        """Out of every store it is in, then for good."""
        await self._catalog.get_file(tenant, file_id)
        for place in await self._catalog.places(tenant, file_id):
            await remove(self._catalog, self._index, place)
        await self._catalog.delete_file(tenant, file_id)
        await self._folder.delete(file_id)

    async def file_content(self, tenant: str, file_id: str) -> bytes:
        await self._catalog.get_file(tenant, file_id)
        try:
            return await self._folder.get(file_id)
        except FileNotFoundError as exc:
            raise NotFound(f"the content of file {file_id!r} is gone; upload it again") from exc

    async def ensure_default_store(self, tenant: str) -> Store:
        return await self._catalog.add_store(tenant, DEFAULT_STORE, {}, default_store_id(tenant))

    async def create_store(
        self, tenant: str, name: str, metadata: Mapping[str, str] | None = None, file_ids: Sequence[str] = ()
    ) -> Store:
        """A store named `default` is the tenant's default store, made once."""
        treatment(metadata or {})
        for file_id in file_ids:
            await self._catalog.get_file(tenant, file_id)
        if name == DEFAULT_STORE:
            store = await self.ensure_default_store(tenant)
            store = await self._catalog.update_store(tenant, store.id, name, metadata) if metadata else store
        else:
            store = await self._catalog.add_store(tenant, name, metadata or {})
        for file_id in file_ids:
            await self.attach(tenant, store.id, file_id)
        return await self._catalog.get_store(tenant, store.id)

    async def get_store(self, tenant: str, store_id: str) -> Store:
        return await self._catalog.get_store(tenant, store_id)

    async def list_stores(self, tenant: str, paging: Paging) -> Listing[Store]:
        return await self._catalog.list_stores(tenant, paging)

    async def update_store(
        self, tenant: str, store_id: str, name: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> Store:
        store = await self._catalog.get_store(tenant, store_id)
        treatment(metadata or {})
        name = store.name if name is None else name
        if (name == DEFAULT_STORE) != (store_id == default_store_id(tenant)):
            raise Conflict(f"name: {DEFAULT_STORE!r} is the name of the default store and of no other").at("name")
        return await self._catalog.update_store(
            tenant, store_id, name, store.metadata if metadata is None else metadata
        )

    async def delete_store(self, tenant: str, store_id: str) -> None:
        """The files in it stay files."""
        await self._catalog.get_store(tenant, store_id)
        await self._catalog.cancel(tenant, store_id)
        await self._index.delete(tenant, store_id)
        await self._catalog.delete_store(tenant, store_id)

    async def attach(
        self, tenant: str, store_id: str, file_id: str, attributes: Attributes | None = None
    ) -> AttachedFile:
        """Returns at once, with status `in_progress`; a file that is in the store as it should be is left alone."""
        await self._catalog.get_store(tenant, store_id)
        await self._catalog.get_file(tenant, file_id)
        wanted = dict(attributes or {})
        Terms.of(wanted)
        known = next((at for at in await self._catalog.places(tenant, file_id) if at.store_id == store_id), None)
        if (
            known
            and known.status in {"in_progress", "completed"}
            and (attributes is None or known.attributes == wanted)
        ):
            return known
        attached = await self._catalog.attach(tenant, store_id, file_id, wanted)
        self._backlog.add(attached, again=known is not None)
        return attached

    async def get_attached(self, tenant: str, store_id: str, file_id: str) -> AttachedFile:
        return await self._catalog.get_attached(tenant, store_id, file_id)

    async def list_attached(
        self,
        tenant: str,
        store_id: str,
        paging: Paging,
        status: Status | None = None,
        batch_id: str | None = None,
    ) -> Listing[AttachedFile]:
        await self._catalog.get_store(tenant, store_id)
        file_ids = (await self.get_batch(tenant, store_id, batch_id)).file_ids if batch_id else None
        return await self._catalog.list_attached(tenant, store_id, paging, status=status, file_ids=file_ids)

    async def detach(self, tenant: str, store_id: str, file_id: str) -> None:
        """Out of the store; the file itself stays."""
        await remove(self._catalog, self._index, await self._catalog.get_attached(tenant, store_id, file_id))

    async def purge(self, tenant: str, subject: str) -> Purged:
        """Removes all files about a subject for good, and every chunk about it that other files brought.

        A file of many people, such as JSON lines with a subject each, loses those chunks but keeps its bytes: it must
        be replaced by one without the subject before it is ingested again.
        """
        about = await self._catalog.about(tenant, subject)
        files = sorted({place.file_id for place in about})
        chunks = sum(place.chunk_count for place in about)
        for file_id in files:
            await self.delete_file(tenant, file_id)
        return Purged(subject, tuple(files), chunks + await self._index.purge(tenant, subject))

    async def attach_batch(self, tenant: str, store_id: str, files: Mapping[str, Attributes]) -> Batch:
        """All of them or, when one is not there, none."""
        await self._catalog.get_store(tenant, store_id)
        for file_id in files:
            await self._catalog.get_file(tenant, file_id)
        for file_id, attributes in files.items():
            await self.attach(tenant, store_id, file_id, attributes)
        return await self._catalog.add_batch(tenant, store_id, files)

    async def get_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch:
        return await self._catalog.get_batch(tenant, store_id, batch_id)

    async def cancel_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch:
        """Files of it that are still waiting or under way are not ingested."""
        for file_id in (await self.get_batch(tenant, store_id, batch_id)).file_ids:
            await self._catalog.cancel(tenant, store_id, file_id)
        return await self.get_batch(tenant, store_id, batch_id)


def _checked_name(name: str) -> str:
    """A name for people, as it came; it never becomes a path."""
    name = cleaned(name).strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"file: a file needs a name of 1 to {LONGEST_NAME} printable characters").at("file")
    return name
