"""Everything the pipeline needs from the world, on one screen.

A port takes values and returns a value or a stream; it never takes a stream. So any port can be
put behind a Serve handle without changing its caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.events import Events
from serve_app.sight import Sight, Terms
from serve_app.turn import Caller, Embedding, Found, Passage, Ranking, Scope, Scores, Screening, Signals, Turn

ANY = Scope()


class Screener(Protocol):
    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        """One screening per text, in order. Raises ScreenerUnavailable, never returns less than asked."""
        ...


class Classifier(Protocol):
    async def classify(self, text: str) -> Signals:
        """Embedding and head scores of one question. Raises ClassifierUnavailable."""
        ...

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows L2-normalised. Raises ClassifierUnavailable."""
        ...

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        """What the heads read in each text, to its end. Raises ClassifierUnavailable."""
        ...

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        """For each passage or tool result: the probability that an instruction stands in it that is not its own.

        Raises ClassifierUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One search. `sight` comes from the verified caller and is applied inside the index; `filters` only narrow it."""

    sight: Sight
    text: str
    embedding: Embedding | None
    """None searches by words alone: the encoder was not there."""
    stores: tuple[str, ...]
    top_k: int
    filters: Mapping[str, Any] | None = None
    ranking: Ranking = Ranking()
    hidden: tuple[tuple[str, str], ...] = ()
    """(store, file) that are not whole: set by the library alone, as long as they are being ingested or removed."""

    @classmethod
    def of(cls, caller: Caller, **asked: Any) -> "Query":
        return cls(sight=Sight.of(caller), **asked)


class Retriever(Protocol):
    async def search(self, query: Query) -> Found:
        """Best first, at most `top_k`. Raises RetrieverUnavailable; InvalidRequest for a filter it cannot read."""
        ...


class Reranker(Protocol):
    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        """For each passage how well it answers, in [0, 1], read beside the question. Raises RerankerUnavailable."""
        ...


class Engine(Protocol):
    def generate(self, turn: Turn) -> Events:
        """Deltas, then one Finished. Closing the stream stops the generation.

        Raises EngineFailed, ContextLengthExceeded, or InvalidRequest with the engine's own words.
        """
        ...

    async def ping(self) -> None:
        """Raises EngineFailed when a question would not be answered now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A stretch of a document as it is indexed."""

    id: str
    tenant: str
    store: str
    file_id: str
    ordinal: int
    """Position in its document, from 0."""
    text: str
    source: str
    title: str = ""
    heading: str = ""
    page: int | None = None
    attributes: Mapping[str, str | float | bool] | None = None
    suspicion: float | None = None
    """As `Passage.suspicion`."""
    terms: Terms = Terms()


class Index(Protocol):
    """Where chunks live. All calls raise RetrieverUnavailable when the store cannot be reached."""

    async def upsert(self, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        """Searchable when it returns. `embeddings` has shape (len(chunks), dimension)."""
        ...

    async def search(self, query: Query) -> tuple[Passage, ...]:
        """Best first, at most `top_k`, scored by `relevance.rank`; nothing that `query.sight` does not see."""
        ...

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        """The chunks of one file, or of the whole store."""
        ...

    async def purge(self, tenant: str, subject: str) -> int:
        """All chunks about a subject, in every store of the tenant; how many there were."""
        ...

    async def ping(self) -> None: ...
