import asyncio
from dataclasses import dataclass

from serve_app.errors import RetrieverUnavailable
from serve_app.ports import Query, Retriever
from serve_app.selection import SPARE, selected
from serve_app.settings import RetrieverSettings
from serve_app.standalone import standalone
from serve_app.turn import Turn


@dataclass(frozen=True)
class Retrieval:
    """Finds the passages of a turn; without a retriever the turn goes on, and says so."""

    retriever: Retriever
    settings: RetrieverSettings

    async def ground(self, turn: Turn) -> Turn:
        """The turn with its passages, or `degraded` by "retriever" when none could be had in time.

        Raises what the caller can act on: a filter that cannot be read, a store that is not theirs.
        """
        top_k = turn.grounding.top_k or self.settings.top_k
        query = Query.of(
            turn.caller,
            text=standalone(turn.messages),
            embedding=turn.embedding,
            stores=turn.grounding.stores,
            top_k=top_k + SPARE,
            filters=turn.grounding.filters,
            ranking=turn.grounding.ranking,
        )
        try:
            async with asyncio.timeout(min(self.settings.deadline_ms / 1000, turn.seconds_left)):
                found = await self.retriever.search(query)
        except (TimeoutError, RetrieverUnavailable):
            return turn.without("retriever")
        for part in found.degraded:
            turn = turn.without(part)
        return turn.grounded(selected(found.passages, top_k, self.settings.min_score))
