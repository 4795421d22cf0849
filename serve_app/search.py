import asyncio
from dataclasses import dataclass, replace

from serve_app.errors import RerankerUnavailable
from serve_app.ports import Index, Query, Reranker
from serve_app.settings import RerankerSettings
from serve_app.turn import Found, Passage


@dataclass(frozen=True)
class Search:
    """The index's candidates, read once more beside the question where there is a reranker."""

    index: Index
    reranker: Reranker | None
    settings: RerankerSettings

    async def search(self, query: Query) -> Found:
        """Without its reranker a search stands as the index ranked it, and says so."""
        if self.reranker is None or not query.ranking.rerank or query.ranking.meaning is not None:
            return Found(await self.index.search(query))
        wide = replace(query, top_k=max(query.top_k, self.settings.candidates))
        passages = await self.index.search(wide)
        try:
            async with asyncio.timeout(self.settings.deadline_ms / 1000):
                scores = await self.reranker.rerank(query.text, passages)
        except (TimeoutError, RerankerUnavailable):
            return Found(passages[: query.top_k], degraded=("reranker",))
        return Found(_reordered(passages, scores)[: query.top_k])


def _reordered(passages: tuple[Passage, ...], scores: tuple[float, ...]) -> tuple[Passage, ...]:
    judged = (replace(passage, score=score) for passage, score in zip(passages, scores, strict=True))
    return tuple(sorted(judged, key=lambda passage: (-passage.score, passage.id)))
