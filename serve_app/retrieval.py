import asyncio
from dataclasses import dataclass

from serve_app import playbook
from serve_app.errors import RetrieverUnavailable
from serve_app.ports import Query, Retriever
from serve_app.selection import SPARE, selected
from serve_app.settings import RetrieverSettings
from serve_app.standalone import standalone
from serve_app.turn import Found, Passage, Turn


@dataclass(frozen=True)
class Retrieval:
    """Finds the passages of a turn; without a retriever the turn goes on, and says so."""

    retriever: Retriever
    settings: RetrieverSettings

    async def ground(self, turn: Turn) -> Turn:
        """The turn with its passages, or `degraded` by "retriever" when none could be had in time.

        The entry of a playbook that it names stands first, whole. Raises what the caller can act on: a filter that
        cannot be read, a store that is not theirs, a name that no entry has.
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
                named = await self._named(turn, query)
                # With retrieval refused, the entry that was asked for by its name is all there is to read.
                found = Found() if turn.grounding.wanted is False else await self.retriever.search(query)
        except (TimeoutError, RetrieverUnavailable):
            return turn.without("retriever")
        for part in found.degraded:
            turn = turn.without(part)
        floor = max(self.settings.min_score, turn.grounding.min_score or 0)
        others = [one for one in found.passages if not playbook.is_of(one, turn.grounding.playbook)]
        return turn.grounded((*named, *selected(others, top_k, floor)))

    async def _named(self, turn: Turn, query: Query) -> tuple[Passage, ...]:
        name = turn.grounding.playbook
        return (await playbook.entry(self.retriever.search, query, name),) if name else ()
