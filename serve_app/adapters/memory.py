"""Working adapters that keep everything in this process: tests and first steps run on them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve_app import filters
from serve_app.ports import Chunk, Query
from serve_app.relevance import Candidate, body, rank
from serve_app.turn import Passage
from serve_app.wording import words


@dataclass(frozen=True)
class MemoryIndex:
    """An Index in a dictionary: cosine and BM25 over every chunk of the tenant, nothing approximate."""

    _rows: dict[tuple[str, str, str], tuple[Chunk, NDArray[np.float32]]] = field(default_factory=dict)

    async def upsert(self, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        if len(chunks) != len(embeddings):
            raise ValueError(f"{len(chunks)} chunks came with {len(embeddings)} embeddings; send one for each")
        for chunk, embedding in zip(chunks, embeddings, strict=True):
            self._rows[chunk.tenant, chunk.store, chunk.id] = (chunk, np.asarray(embedding, np.float32))

    async def search(self, query: Query) -> tuple[Passage, ...]:
        tree = filters.parse(query.filters)
        seen = [
            (chunk, embedding)
            for chunk, embedding in self._rows.values()
            if query.sight.sees(chunk.tenant, chunk.terms)
            and (not query.stores or chunk.store in query.stores)
            and (chunk.store, chunk.file_id) not in query.hidden
            and filters.matches(tree, chunk.attributes or {})
        ]
        scores = _bm25(words(query.text), [words(_body(chunk)) for chunk, _ in seen])
        candidates = [
            Candidate(
                passage_of(chunk),
                cosine=None if query.embedding is None else float(embedding @ query.embedding),
                bm25=score,
            )
            for (chunk, embedding), score in zip(seen, scores, strict=True)
            if score > 0 or query.embedding is not None
        ]
        return rank(query, candidates)

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        for key, (chunk, _) in list(self._rows.items()):
            if (chunk.tenant, chunk.store) == (tenant, store) and file_id in (None, chunk.file_id):
                del self._rows[key]

    async def purge(self, tenant: str, subject: str) -> int:
        about = [k for k, (chunk, _) in self._rows.items() if (chunk.tenant, chunk.terms.subject) == (tenant, subject)]
        for key in about:
            del self._rows[key]
        return len(about)

    async def ping(self) -> None:
        """Always there."""


def passage_of(chunk: Chunk) -> Passage:
    """The chunk as a search returns it, not yet scored."""
    return Passage(
        id=chunk.id,
        text=chunk.text,
        score=0.0,
        file_id=chunk.file_id,
        source=chunk.source,
        title=chunk.title,
        heading=chunk.heading,
        page=chunk.page,
        attributes=chunk.attributes or {},
        ordinal=chunk.ordinal,
        suspicion=chunk.suspicion,
    )


def _body(chunk: Chunk) -> str:
    return body(title=chunk.title, heading=chunk.heading, text=chunk.text)


def _bm25(asked: Sequence[str], documents: Sequence[Sequence[str]]) -> list[float]:
    """Okapi BM25 with Milvus' defaults: k1 = 1.5, b = 0.75, idf = log(1 + (N - df + 0.5) / (df + 0.5))."""
    counts = [Counter(document) for document in documents]
    average = sum(map(len, documents)) / len(documents) if documents else 1.0
    rarity = {}
    for word in set(asked):
        having = sum(word in count for count in counts)
        rarity[word] = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
    return [
        sum(
            rarity[word] * count[word] * 2.5 / (count[word] + 1.5 * (0.25 + 0.75 * len(document) / (average or 1.0)))
            for word in asked
            if count[word]
        )
        for document, count in zip(documents, counts, strict=True)
    ]
