import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.ports import Query
from serve_app.relevance import Candidate, rank
from serve_app.turn import Caller, Passage, Ranking
from serve_app.wording import words


def candidate(id: str, text: str = "", *, cosine: float | None = None, bm25: float = 0.0) -> Candidate:
    return Candidate(Passage(id, text, 0.0, file_id="f", source="s"), cosine, bm25)


def asking(question: str, *, top_k: int = 50, by_meaning: bool = True, meaning: float | None = None) -> Query:
    embedding = np.zeros(3, np.float32) if by_meaning else None
    ranking = Ranking(meaning=meaning)
    return Query.of(Caller("t", "k"), text=question, embedding=embedding, stores=(), top_k=top_k, ranking=ranking)


def scores(
    question: str, *candidates: Candidate, by_meaning: bool = True, meaning: float | None = None
) -> dict[str, float]:
    ranked = rank(asking(question, by_meaning=by_meaning, meaning=meaning), candidates)
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


def test_few_words_are_looked_for_and_a_sentence_is_asked_for_its_meaning() -> None:
    meant, worded = candidate("meant", cosine=0.8), candidate("worded", "one two three", cosine=0.1, bm25=1.0)
    assert list(scores("one two three", meant, worded)) == ["worded", "meant"]
    assert list(scores("one two three four five six seven eight nine", meant, worded)) == ["meant", "worded"]


def test_nothing_found_is_nothing_ranked() -> None:
    assert rank(asking("pears"), ()) == ()


def test_an_identifier_counts_as_a_whole() -> None:
    found = scores(
        "--leader-elect",
        candidate("a", "run with --leader-elect", bm25=2.0),
        candidate("b", "elect a leader", bm25=2.0),
        by_meaning=False,
    )
    assert found["a"] > found["b"]


def test_half_and_half_is_the_mean_of_both() -> None:
    found = scores("pears", candidate("a", "pears", cosine=0.4, bm25=1.0), meaning=0.5)
    assert found == {"a": pytest.approx(0.7)}


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


@given(found=CANDIDATES)
def test_meaning_alone_is_the_order_of_the_cosines(found: list[Candidate]) -> None:
    near = [one for one in found if one.cosine is not None]
    expected = sorted(near, key=lambda one: (-(one.cosine or 0.0), one.passage.id))
    assert list(scores("roll back", *found, meaning=1.0)) == [one.passage.id for one in expected]


@given(found=CANDIDATES)
def test_words_alone_are_the_order_of_bm25(found: list[Candidate]) -> None:
    expected = sorted((one for one in found if one.bm25 > 0), key=lambda one: (-one.bm25, one.passage.id))
    ranked = scores("roll back", *found, meaning=0.0)
    assert list(ranked) == [one.passage.id for one in expected]
    assert all(0 <= score <= 1 for score in ranked.values())


def test_equals_stand_in_the_order_of_their_ids() -> None:
    assert list(scores("pears", candidate("b", "pears", cosine=0.5), candidate("a", "pears", cosine=0.5))) == ["a", "b"]


ALL_NEAR = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        st.sampled_from(["roll back", "roll", "pears"]),
        cosine=st.floats(0, 1),
        bm25=st.floats(0, 50),
    ),
    min_size=1,
    max_size=8,
)


@given(found=ALL_NEAR)
def test_a_candidate_that_neither_search_prefers_reorders_no_other(found: list[Candidate]) -> None:
    """One that is farther than all others also says how far those are that words alone have found."""
    farther = candidate("stranger", "", cosine=min(one.cosine or 0.0 for one in found))
    before, after = list(scores("roll back", *found)), list(scores("roll back", *found, farther))
    assert [id for id in after if id != "stranger"] == before
