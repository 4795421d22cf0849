import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from serve_app.adapters.memory import MemoryIndex
from serve_app.errors import RerankerUnavailable
from serve_app.ports import Chunk, Query, Reranker
from serve_app.reranking import EmbeddedReranker
from serve_app.search import Search
from serve_app.settings import RerankerSettings
from serve_app.turn import Caller, Found, Passage, Ranking

TEXTS = {
    "a": "Roll the wheel back and forth, and back again.",
    "b": "To roll back, redeploy the last version.",
    "c": "Pears grow in the orchard.",
}


@dataclass
class Backwards:
    """Likes the last best; remembers how many it read."""

    read: list[int] = field(default_factory=list)

    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        self.read.append(len(passages))
        return tuple((number + 1) / len(passages) for number in range(len(passages)))


class Away:
    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        raise RerankerUnavailable("gone")


class Stuck:
    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        await asyncio.Event().wait()
        raise AssertionError


async def search(
    question: str, reranker: Reranker | None, *, top_k: int = 3, ranking: Ranking | None = None, deadline_ms: int = 300
) -> Found:
    index = MemoryIndex()
    chunks = [
        Chunk(id=id, tenant="t", store="s", file_id="f", ordinal=number, text=text, source="x")
        for number, (id, text) in enumerate(TEXTS.items())
    ]
    await index.upsert(chunks, np.eye(3, dtype=np.float32))
    query = Query.of(
        Caller("t", "k"),
        text=question,
        embedding=np.array([0.9, 0.4, 0.1], np.float32),
        stores=(),
        top_k=top_k,
        ranking=ranking or Ranking(),
    )
    return await Search(index, reranker, RerankerSettings(deadline_ms=deadline_ms)).search(query)


def ids(found: Found) -> list[str]:
    return [passage.id for passage in found.passages]


async def test_a_reranker_orders_more_than_are_wanted() -> None:
    reranker = Backwards()
    assert ids(await search("roll back", reranker, top_k=1)) == ["c"]
    assert reranker.read == [3]


@pytest.mark.parametrize("ranking", [Ranking(meaning=1.0), Ranking(meaning=0.0), Ranking(rerank=False)])
async def test_a_caller_can_leave_the_reranker_out(ranking: Ranking) -> None:
    reranker = Backwards()
    await search("roll back", reranker, ranking=ranking)
    assert reranker.read == []


@pytest.mark.parametrize("reranker", [Away(), Stuck()])
async def test_without_its_reranker_the_order_of_the_search_stands(reranker: Reranker) -> None:
    found = await search("roll back", reranker, top_k=2, deadline_ms=10)
    alone = await search("roll back", None, top_k=2)
    assert found.passages == alone.passages
    assert (found.degraded, alone.degraded) == (("reranker",), ())


async def test_an_outage_of_the_reranker_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    index, query = MemoryIndex(), Query.of(Caller("t", "k"), text="roll", embedding=None, stores=(), top_k=1)
    searches = Search(index, Away(), RerankerSettings())
    with caplog.at_level(logging.WARNING, logger="manta"):
        for _ in range(3):
            assert (await searches.search(query)).degraded == ("reranker",)
        searches.reranker = Backwards()
        assert (await searches.search(query)).degraded == ()
        searches.reranker = Away()
        await searches.search(query)
    assert [record.message for record in caplog.records] == ["searches stand as the index ranks them: gone"] * 2


@pytest.mark.parametrize("reranker", [None, EmbeddedReranker.shipped(), Backwards(), Away()])
async def test_the_passage_with_the_phrase_comes_first_whoever_ranks(reranker: Reranker | None) -> None:
    found = await search('what does "roll back" do?', reranker, top_k=1)
    assert ids(found) == ["b"]
    assert found.passages[0].score >= 0.5


async def test_where_no_passage_has_the_phrase_all_score_lower() -> None:
    quoted = await search('"orchard of pears"', EmbeddedReranker.shipped())
    plain = await search("orchard of pears", EmbeddedReranker.shipped())
    assert ids(quoted) == ids(plain)
    assert all(one.score < other.score for one, other in zip(quoted.passages, plain.passages, strict=True))


async def test_one_search_alone_takes_a_phrase_for_its_words() -> None:
    assert ids(await search('"roll back"', None, ranking=Ranking(meaning=1.0))) == ["a", "b", "c"]
