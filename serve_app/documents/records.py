"""What the library remembers of files and vector stores; every value crosses process boundaries by pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from serve_app.documents.document import RefusalCode

Status = Literal["in_progress", "completed", "failed", "cancelled"]
Order = Literal["asc", "desc"]
Attributes = Mapping[str, str | float | bool]
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    id: str
    tenant: str
    name: str
    purpose: str
    size_bytes: int
    sha256: str
    created_at: float
    """UTC seconds, as everywhere here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Files of a store or a batch, by status."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.in_progress + self.completed + self.failed + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    id: str
    tenant: str
    name: str
    metadata: Mapping[str, str]
    created_at: float
    counts: Counts = Counts()
    size_bytes: int = 0
    """Bytes of the files in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedFile:
    """A file in a store."""

    store_id: str
    file_id: str
    tenant: str
    name: str
    """The file's."""
    status: Status
    created_at: float
    """When it was attached."""
    sequence: int
    """Order of attaching within the catalog."""
    size_bytes: int
    chunk_count: int = 0
    attributes: Attributes = field(default_factory=dict)
    error_code: RefusalCode | None = None
    """Set when it failed, and when it completed without some of its parts."""
    error_message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Files that were attached to a store by one request."""

    id: str
    tenant: str
    store_id: str
    file_ids: tuple[str, ...]
    created_at: float
    counts: Counts = Counts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Where a listing begins and ends: behind `after`, before `before`, at most `limit`."""

    limit: int = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Listing(Generic[Record]):
    records: tuple[Record, ...]
    has_more: bool
