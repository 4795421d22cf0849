"""What the HTTP layer asks of the library, whichever process holds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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
from serve_app.sight import Sight


@dataclass(frozen=True, slots=True)
class Purged:
    """What was removed of a subject."""

    subject: str
    files: tuple[str, ...]
    chunks: int


class LibraryPort(Protocol):
    """What the HTTP layer asks of the library. Raises NotFound for what this tenant does not own."""

    async def create_file(self, tenant: str, name: str, content: bytes, purpose: str) -> StoredFile: ...
    async def get_file(self, tenant: str, file_id: str) -> StoredFile: ...
    async def list_files(self, tenant: str, paging: Paging, purpose: str | None = None) -> Listing[StoredFile]: ...
    async def delete_file(self, tenant: str, file_id: str) -> None: ...
    async def file_content(self, sight: Sight, file_id: str) -> bytes: ...

    async def ensure_default_store(self, tenant: str) -> Store: ...
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
    ) -> Store: ...
    async def get_store(self, tenant: str, store_id: str) -> Store: ...
    async def list_stores(self, tenant: str, paging: Paging) -> Listing[Store]: ...
    async def update_store(
        self,
        tenant: str,
        store_id: str,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        expires_after_days: int | None = None,
    ) -> Store: ...
    async def delete_store(self, tenant: str, store_id: str) -> None: ...

    async def attach(self, tenant: str, store_id: str, file_id: str, wish: Wish) -> AttachedFile: ...
    async def get_attached(self, tenant: str, store_id: str, file_id: str) -> AttachedFile: ...
    async def attached_content(self, sight: Sight, store_id: str, file_id: str) -> tuple[str, ...]: ...
    async def list_attached(
        self,
        tenant: str,
        store_id: str,
        paging: Paging,
        status: Status | None = None,
        batch_id: str | None = None,
    ) -> Listing[AttachedFile]: ...
    async def detach(self, tenant: str, store_id: str, file_id: str) -> None: ...
    async def purge(self, tenant: str, subject: str) -> Purged: ...
    async def attach_batch(self, tenant: str, store_id: str, files: Mapping[str, Wish]) -> Batch: ...
    async def get_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch: ...
    async def cancel_batch(self, tenant: str, store_id: str, batch_id: str) -> Batch: ...
