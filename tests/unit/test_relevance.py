import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.ports import Query
from serve_app.relevance import Candidate, rank, words
from serve_app.turn import Caller, Passage


def candidate(id: str, text: str = "", *, cosine: float | None = None, bm25: float = 0.0) -> Candidate:
    return Candidate(Passage(id, text, 0.0, file_id="f", source="s"), cosine, bm25)


def asking(question: str, *, top_k: int = 50, by_meaning: bool = True) -> Query:
    embedding = np.zeros(3, np.float32) if by_meaning else None
    return Query.of(Caller("t", "k"), text=question, embedding=embedding, stores=(), top_k=top_k)


def scores(question: str, *candidates: Candidate, by_meaning: bool = True) -> dict[str, float]:
    ranked = rank(asking(question, by_meaning=by_meaning), candidates)
    return {passage.id: passage.score for passage in ranked}


def test_words_are_lower_case_and_without_those_that_say_nothing() -> None:
    assert words("How do I roll back a Model?") == ["roll", "back", "model"]


def test_a_passage_with_the_meaning_and_all_the_words_scores_one() -> None:
    assert scores("roll back", candidate("a", "Roll back!", cosine=1.0, bm25=3.0)) == {"a": pytest.approx(1.0)}


def test_a_passage_with_neither_scores_nothing() -> None:
    assert scores("roll back", candidate("a", "pears", cosine=-0.1)) == {"a": 0.0}


def test_half_of_the_words_count_half() -> None:
    assert scores("roll back", candidate("a", "roll on", bm25=3.0), by_meaning=False) == {"a": pytest.approx(0.5)}


def test_the_size_of_bm25_does_not_matter_only_its_ratio() -> None:
    small = scores(
        "roll back", candidate("a", "roll back", bm25=0.3), candidate("b", "roll", bm25=0.1), by_meaning=False
    )
    large = scores("roll back", candidate("a", "roll back", bm25=30), candidate("b", "roll", bm25=10), by_meaning=False)
    assert small == pytest.approx(large)


def test_a_passage_found_by_words_alone_is_no_nearer_than_the_farthest_found_by_meaning() -> None:
    found = scores("pears", candidate("a", cosine=0.8), candidate("b", cosine=0.4), candidate("c", "pears", bm25=2.0))
    assert found["c"] == pytest.approx(0.5 * 0.4 + 0.5 * 1.0)


def test_a_question_without_words_that_count_is_judged_by_meaning_alone() -> None:
    assert scores("what is it?", candidate("a", cosine=0.6)) == {"a": pytest.approx(0.6)}


def test_nothing_found_is_nothing_ranked() -> None:
    assert rank(asking("pears"), ()) == ()


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        st.sampled_from(["roll back", "roll", "pears", ""]),
        cosine=st.none() | st.floats(-1.001, 1.001),
        bm25=st.floats(0, 50),
    ),
    max_size=8,
)


@given(question=st.sampled_from(["roll back", "what?", ""]), found=CANDIDATES, by_meaning=st.booleans())
def test_every_score_is_between_zero_and_one(question: str, found: list[Candidate], by_meaning: bool) -> None:
    assert all(0 <= score <= 1 + 1e-9 for score in scores(question, *found, by_meaning=by_meaning).values())


@given(found=CANDIDATES)
def test_the_order_of_what_was_found_does_not_matter(found: list[Candidate]) -> None:
    assert list(scores("roll", *found)) == list(scores("roll", *reversed(found)))
