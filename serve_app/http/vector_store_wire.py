"""OpenAI's shapes of vector stores: what comes in is checked, what goes out is complete."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve_app.documents.records import AttachedFile, Batch, ChunkSizes, Counts, Store, Wish
from serve_app.turn import Passage, Ranking

MOST_BATCHED_FILES = 2_000
MOST_PAIRS = 16
Key = Annotated[str, Field(min_length=1, max_length=64)]
ShortText = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Key, ShortText], Field(max_length=MOST_PAIRS)]
FileAttributes = Annotated[dict[Key, ShortText | bool | float], Field(max_length=MOST_PAIRS)]


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StaticChunking(Wire):
    """A chunk has at most so many tokens, and never more than the encoder reads (`retriever.chunk_tokens`).

    An overlap is taken and not used: a chunk ends with a sentence, a row or a definition, and neighbours are joined.
    """

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4_096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=2_048)]

    @model_validator(mode="after")
    def _half(self) -> "StaticChunking":
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise ValueError("`chunk_overlap_tokens` must be at most half of `max_chunk_size_tokens`")
        return self


class Chunking(Wire):
    """Documents are cut along their own structure; only how small can be chosen."""

    type: Literal["auto", "static"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def _sized(self) -> "Chunking":
        if (self.type == "static") != (self.static is not None):
            raise ValueError("`static` must hold the sizes of the type `static`, and of no other")
        return self


def chunk_sizes(strategy: Chunking | None) -> ChunkSizes | None:
    if strategy is None or strategy.static is None:
        return None
    sizes = strategy.static
    return ChunkSizes(most_tokens=sizes.max_chunk_size_tokens, overlap_tokens=sizes.chunk_overlap_tokens)


class Expiry(Wire):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class StoreCreation(Wire):
    name: Annotated[str, Field(max_length=512)] | None = None
    metadata: Metadata | None = None
    description: ShortText | None = None
    expires_after: Expiry | None = None
    file_ids: Annotated[tuple[str, ...], Field(max_length=MOST_BATCHED_FILES)] = ()
    chunking_strategy: Chunking | None = None


class StoreChange(Wire):
    name: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    metadata: Metadata | None = None
    expires_after: Expiry | None = None
    """null: it does not expire any more."""

    @property
    def expires_after_days(self) -> int | None:
        """As the library takes it: 0 for never, None for no change."""
        if "expires_after" not in self.model_fields_set:
            return None
        return self.expires_after.days if self.expires_after else 0


class FileAttachment(Wire):
    file_id: str
    attributes: FileAttributes | None = None
    chunking_strategy: Chunking | None = None

    @property
    def wish(self) -> Wish:
        return Wish(attributes=self.attributes, chunk_sizes=chunk_sizes(self.chunking_strategy))


class AttributeChange(Wire):
    attributes: FileAttributes | None


class BatchCreation(Wire):
    file_ids: Annotated[tuple[str, ...], Field(max_length=MOST_BATCHED_FILES)] = ()
    files: Annotated[tuple[FileAttachment, ...], Field(max_length=MOST_BATCHED_FILES)] = ()
    attributes: FileAttributes | None = None
    chunking_strategy: Chunking | None = None

    @model_validator(mode="after")
    def _one_list(self) -> "BatchCreation":
        if bool(self.file_ids) == bool(self.files):
            raise ValueError("exactly one of `file_ids` and `files` must name files")
        return self

    @property
    def wishes(self) -> dict[str, Wish]:
        """By file id."""
        if self.files:
            return {file.file_id: file.wish for file in self.files}
        wish = Wish(attributes=self.attributes, chunk_sizes=chunk_sizes(self.chunking_strategy))
        return dict.fromkeys(self.file_ids, wish)


class HybridSearch(Wire):
    """OpenAI's weights of its hybrid search: only their ratio counts."""

    embedding_weight: Annotated[float, Field(ge=0)]
    text_weight: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _one_counts(self) -> "HybridSearch":
        if not self.embedding_weight + self.text_weight > 0:
            raise ValueError("at least one of `embedding_weight` and `text_weight` must be greater than 0")
        return self


class RankingOptions(Wire):
    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    """`none` leaves the reranker out."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    hybrid_search: HybridSearch | None = None

    @property
    def ranking(self) -> Ranking:
        weights = self.hybrid_search
        meaning = weights.embedding_weight / (weights.embedding_weight + weights.text_weight) if weights else None
        return Ranking(meaning=meaning, rerank=self.ranker != "none")


class SearchRequest(Wire):
    query: Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None
    """Accepted; a question is searched as it was put."""

    @property
    def ranking(self) -> Ranking:
        return self.ranking_options.ranking if self.ranking_options else Ranking()

    @property
    def questions(self) -> tuple[str, ...]:
        return (self.query,) if isinstance(self.query, str) else self.query


def store_object(store: Store) -> dict[str, Any]:
    days = store.expires_after_days
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": int(store.created_at),
        "name": store.name,
        "usage_bytes": store.size_bytes,
        "file_counts": counts_object(store.counts),
        "status": _status(store),
        "description": store.description,
        "expires_after": days and {"anchor": "last_active_at", "days": days},
        "expires_at": None if store.expires_at is None else int(store.expires_at),
        "last_active_at": int(store.last_active_at),
        "metadata": dict(store.metadata),
    }


def _status(store: Store) -> str:
    if store.has_expired:
        return "expired"
    return "in_progress" if store.counts.in_progress else "completed"


def counts_object(counts: Counts) -> dict[str, int]:
    return {
        "in_progress": counts.in_progress,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    }


def attached_object(file: AttachedFile) -> dict[str, Any]:
    """`filename` and `chunk_count` are ours. `last_error` on a completed file names the parts that were skipped."""
    return {
        "id": file.file_id,
        "object": "vector_store.file",
        "created_at": int(file.created_at),
        "vector_store_id": file.store_id,
        "status": file.status,
        "usage_bytes": file.size_bytes,
        "attributes": dict(file.attributes),
        "chunking_strategy": _strategy(file.chunk_sizes),
        "last_error": {"code": file.error_code, "message": file.error_message} if file.error_code else None,
        "filename": file.name,
        "chunk_count": file.chunk_count,
    }


def _strategy(sizes: ChunkSizes | None) -> dict[str, Any]:
    if sizes is None:
        return {"type": "other"}
    static = {"max_chunk_size_tokens": sizes.most_tokens, "chunk_overlap_tokens": sizes.overlap_tokens}
    return {"type": "static", "static": static}


def content_object(texts: tuple[str, ...]) -> dict[str, Any]:
    """All of it on one page."""
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": text} for text in texts],
        "has_more": False,
        "next_page": None,
    }


def batch_object(batch: Batch) -> dict[str, Any]:
    if batch.counts.in_progress:
        status = "in_progress"
    elif batch.counts.cancelled:
        status = "cancelled"
    else:
        status = "completed"
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": int(batch.created_at),
        "vector_store_id": batch.store_id,
        "status": status,
        "file_counts": counts_object(batch.counts),
    }


def result_object(passage: Passage) -> dict[str, Any]:
    """One result; `title`, `heading`, `page` and `place`, which is the first two for a reader, are ours."""
    return {
        "file_id": passage.file_id,
        "filename": passage.source,
        "score": passage.score,
        "attributes": dict(passage.attributes),
        "content": [{"type": "text", "text": passage.text}],
        "title": passage.title,
        "heading": passage.heading,
        "page": passage.page,
        "place": passage.place,
    }
