"""What a request says of its documents, by OpenAI's `file_search` tool and by Manta's own field."""

from typing import Any

import pytest

from serve_app.errors import InvalidRequest
from serve_app.http.requests import chat_turn, completion_turn
from serve_app.http.wire import ChatRequest, CompletionRequest
from serve_app.ports import Query
from serve_app.turn import Found, Grounding, Ranking
from tests.builders import CALLER, ListRetriever, ScriptedEngine, passage, pipeline, turn


def grounded(**fields: Any) -> Grounding:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return chat_turn(ChatRequest.model_validate(body), CALLER, "t1", 60).grounding


def searching(**fields: Any) -> Grounding:
    return grounded(tools=[{"type": "file_search", **fields}])


def test_a_request_without_documents_leaves_it_to_the_model() -> None:
    assert grounded() == Grounding()


def test_file_search_ranks_as_the_public_search_does() -> None:
    weights = {"embedding_weight": 3, "text_weight": 1}
    found = searching(ranking_options={"ranker": "none", "score_threshold": 0.5, "hybrid_search": weights})
    assert (found.ranking, found.min_score) == (Ranking(meaning=0.75, rerank=False), 0.5)
    assert (searching().ranking, searching().min_score) == (Ranking(), None)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ranker": "best"}, "ranker"),
        ({"score_threshold": 2}, "score_threshold"),
        ({"hybrid_search": {"embedding_weight": 1}}, "hybrid_search.text_weight"),
        ("auto", "ranking_options"),
    ],
)
def test_wrong_ranking_options_are_named(options: Any, field: str) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"^tools: file_search\.{'' if field == 'ranking_options' else 'ranking_options.'}{field}"
    ) as refused:
        searching(ranking_options=options)
    assert refused.value.param == "tools"


def test_a_playbook_is_named_beside_either() -> None:
    assert grounded(manta={"playbook": " Roll back "}).playbook == "Roll back"
    assert grounded(manta={"playbook": "Roll back"}, tools=[{"type": "file_search"}]).playbook == "Roll back"


def test_a_completion_has_what_a_chat_has() -> None:
    ours = {"stores": ["vs_1"], "retrieval": True, "top_k": 3, "filters": {"type": "eq", "key": "a", "value": 1}}
    asked = CompletionRequest.model_validate({"model": "m", "prompt": "Hi", "manta": {**ours, "playbook": "P"}})
    assert completion_turn(asked, CALLER, "t1", 60).grounding == grounded(manta={**ours, "playbook": "P"})


async def test_a_callers_floor_is_never_below_the_services() -> None:
    for least, shown in ((0.8, ["a"]), (0.0, ["a", "b"]), (None, ["a", "b"])):
        engine = ScriptedEngine()
        scores = (("a", 0.9), ("b", 0.6), ("c", 0.1))
        found = tuple(passage(f"Words of {name}.", id=name, file_id=name, score=score) for name, score in scores)
        asking = turn(grounding=Grounding(wanted=True, min_score=least))
        assert [event async for event in pipeline(retriever=ListRetriever(found), engine=engine).answer(asking)]
        assert [one.id for one in engine.turns[0].passages] == shown


async def test_what_was_missing_in_a_search_is_said() -> None:
    class Unranked:
        async def search(self, query: Query) -> Found:
            return Found((passage(),), degraded=("reranker",))

    engine = ScriptedEngine()
    asking = turn(grounding=Grounding(wanted=True))
    assert [event async for event in pipeline(retriever=Unranked(), engine=engine).answer(asking)]
    assert engine.turns[0].degraded == ("reranker",)
