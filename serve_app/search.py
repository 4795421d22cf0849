import logging
from dataclasses import dataclass, field, replace

from serve_app.deadline import within
from serve_app.errors import RerankerUnavailable
from serve_app.ports import Index, Query, Reranker
from serve_app.settings import RerankerSettings
from serve_app.turn import Found, Passage
from serve_app.wording import Run, Wording, having, insisting

DEPTH_FOR_PHRASES = 200
"""Passages asked for where the question has a phrase in quotation marks: all its words may be common ones."""

logger = logging.getLogger("manta")


@dataclass
class Search:
    """The index's candidates, read once more beside the question where there is a reranker.

    What stands in quotation marks is meant as it stands: passages that have it come first.
    """

    index: Index
    reranker: Reranker | None
    settings: RerankerSettings
    _is_away: bool = field(default=False, init=False)
    """The reranker's log line is written once for an outage, not for every search in it."""

    async def search(self, query: Query) -> Found:
        """Without its reranker a search stands as the index ranked it, and says so."""
        if query.ranking.meaning is not None:
            return Found(await self.index.search(query))
        phrases = Wording.of(query.text).phrases
        candidates = await self._candidates(query, phrases)
        judged, degraded = await self._judged(query, candidates)
        return Found(insisting(phrases, judged)[: query.top_k], degraded)

    async def _candidates(self, query: Query, phrases: tuple[Run, ...]) -> tuple[Passage, ...]:
        most = max(query.top_k, self.settings.candidates) if self._reranks(query) else query.top_k
        if not phrases:
            return await self.index.search(replace(query, top_k=most))
        found = await self.index.search(replace(query, top_k=max(most, DEPTH_FOR_PHRASES)))
        return tuple(sorted(found, key=lambda passage: -having(phrases, passage))[:most])

    async def _judged(self, query: Query, passages: tuple[Passage, ...]) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
        """The passages as the reranker orders them, and what was missing."""
        if self.reranker is None or not self._reranks(query):
            return passages, ()
        try:
            async with within(self.settings.deadline_ms / 1000, "reranker", RerankerUnavailable):
                scores = await self.reranker.rerank(query.text, passages)
        except RerankerUnavailable as away:
            if not self._is_away:
                logger.warning("searches stand as the index ranks them: %s", away)
            self._is_away = True
            return passages, ("reranker",)
        self._is_away = False
        judged = (replace(passage, score=score) for passage, score in zip(passages, scores, strict=True))
        return tuple(sorted(judged, key=lambda passage: (-passage.score, passage.id))), ()

    def _reranks(self, query: Query) -> bool:
        return self.reranker is not None and query.ranking.rerank
