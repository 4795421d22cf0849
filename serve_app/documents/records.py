"""What the library remembers of files and vector stores; every value crosses process boundaries by pickle."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from serve_app.documents.document import RefusalCode

Status = Literal["in_progress", "completed", "failed", "cancelled"]
Order = Literal["asc", "desc"]
Attributes = Mapping[str, str | float | bool]
Record = TypeVar("Record")
DAY_S = 24 * 60 * 60


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
    description: str = ""
    last_active_at: float = 0.0
    """When it was made, when something was attached to it or it was searched by its id; to the minute."""
    expires_after_days: int | None = None
    """Days after `last_active_at`; None: it is kept until it is deleted."""

    @property
    def expires_at(self) -> float | None:
        return None if self.expires_after_days is None else self.last_active_at + self.expires_after_days * DAY_S

    @property
    def has_expired(self) -> bool:
        """It answers nothing, and is removed soon."""
        return self.expires_at is not None and self.expires_at <= time.time()


class Place(NamedTuple):
    """Where chunks are: one file in one store; all of the store where `file_id` is empty."""

    tenant: str
    store_id: str
    file_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSizes:
    """Bounds that the caller set for the chunks of a file, in the encoder's tokens."""

    most_tokens: int
    overlap_tokens: int
    """Told back, and not used: chunks end where the text does, and neighbours that are found are joined."""


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
    uploaded_at: float
    size_bytes: int
    chunk_count: int = 0
    attributes: Attributes = field(default_factory=dict)
    error_code: RefusalCode | None = None
    """Set when it failed, and when it completed without some of its parts."""
    error_message: str = ""
    chunk_sizes: ChunkSizes | None = None
    """None: the service's own."""
    own_terms: bool = False
    """Parts of it say for themselves who may see them: a set of rows, some of which are for a group."""

    @property
    def place(self) -> Place:
        return Place(self.tenant, self.store_id, self.file_id)

    def is_still(self, asked: "AttachedFile") -> bool:
        """Whether the work on this row, as it stands now, is the work that `asked` began."""
        return self.status == "in_progress" and all(
            getattr(self, name) == getattr(asked, name) for name in ("created_at", "attributes", "chunk_sizes")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a file is to be in a store."""

    attributes: Attributes | None = None
    """None: as they are, or none."""
    chunk_sizes: ChunkSizes | None = None

    def is_met_by(self, known: AttachedFile) -> bool:
        """Whether nothing has to be done for it."""
        return (
            known.status in {"in_progress", "completed"}
            and (self.attributes is None or known.attributes == self.attributes)
            and (self.chunk_sizes is None or known.chunk_sizes == self.chunk_sizes)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How the work on a file ended."""

    chunk_count: int = 0
    error_code: RefusalCode | None = None
    error_message: str = ""
    own_terms: bool = False


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
