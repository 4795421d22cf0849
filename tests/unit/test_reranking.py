import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.reranking import FEATURES, WEIGHTS, EmbeddedReranker, features
from serve_app.turn import Passage
from serve_app.wording import Wording


def passage(id: str, text: str, score: float = 0.5, *, heading: str = "", title: str = "") -> Passage:
    return Passage(id, text, score, file_id="f", source="s", heading=heading, title=title)


async def scores(question: str, *passages: Passage) -> list[float]:
    return list(await EmbeddedReranker.shipped().rerank(question, passages))


def feature(name: str, question: str, *passages: Passage) -> list[float]:
    return features(Wording.of(question), passages)[:, FEATURES.index(name)].tolist()


def test_every_feature_has_a_weight_and_none_counts_against_a_passage() -> None:
    weights = json.loads(WEIGHTS.read_text())["weights"]
    assert set(weights) == set(FEATURES)
    assert min(weights.values()) >= 0


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    rare, common, neither = feature(
        "words", "kueue pods", passage("a", "kueue"), passage("b", "pods"), passage("c", "pods")
    )
    assert rare > common == neither > 0


def test_another_form_of_a_word_is_a_stem_of_it() -> None:
    assert feature("stems", "scheduling", passage("a", "the scheduler"), passage("b", "a schema")) == [1.0, 0.0]


def test_a_word_that_is_there_gains_nothing_as_a_stem() -> None:
    assert feature("stems", "scheduling", passage("a", "scheduling by the scheduler")) == [0.0]


def test_the_nearest_heading_counts_and_else_the_title() -> None:
    under = passage("a", "x", heading="Rollback > Before you begin")
    assert feature("heading", "rollback", under, passage("b", "x", title="Rollback")) == [0.0, 1.0]


def test_neighbours_of_the_question_are_looked_for_as_neighbours() -> None:
    found = feature("pairs", "gang scheduling", passage("a", "Gang-scheduling"), passage("b", "scheduling a gang"))
    assert found == [1.0, 0.0]


def test_an_identifier_is_looked_for_as_it_is() -> None:
    found = feature("identifiers", "--leader-elect", passage("a", "`--leader-elect`"), passage("b", "leader elect"))
    assert found == [1.0, 0.0]


async def test_the_passage_that_names_what_is_asked_for_comes_first() -> None:
    named, other = await scores(
        "gang scheduling",
        passage("a", "How it works.", 0.5, heading="Gang scheduling"),
        passage("b", "Scheduling of a gang of pods.", 0.5, heading="Other"),
    )
    assert named > other


async def test_a_question_without_words_that_count_leaves_the_scores() -> None:
    assert await scores("what is it?", passage("a", "x", 0.3), passage("b", "y", 0.2)) == [0.3, 0.2]


async def test_nothing_found_is_nothing_reranked() -> None:
    assert await scores("pears") == []


@pytest.mark.parametrize(("found", "text", "passes"), [(0.2, "gardens and pears", False), (0.7, "roll back", True)])
async def test_the_floor_of_the_search_holds_for_these_scores_too(found: float, text: str, passes: bool) -> None:
    (score,) = await scores("how do I roll back a model?", passage("a", text, found))
    assert (score >= 0.35) is passes


WORDS = st.lists(st.sampled_from(["roll", "back", "a", "pears", "E1234", "gr\u00f6\u00dfe", "--x-y", "!"])).map(
    " ".join
)


@given(question=WORDS, found=st.lists(st.builds(passage, st.uuids().map(str), WORDS, st.floats(0, 1)), max_size=6))
async def test_scores_are_between_zero_and_one_whatever_the_order(question: str, found: list[Passage]) -> None:
    forth, back = await scores(question, *found), await scores(question, *reversed(found))
    assert all(0 <= score <= 1 for score in forth)
    assert forth == pytest.approx(back[::-1])


@given(found=st.floats(0, 0.99), more=st.floats(0.001, 0.01))
async def test_of_two_alike_the_one_that_the_search_prefers_scores_higher(found: float, more: float) -> None:
    better, worse = await scores("roll back", passage("a", "roll back", found + more), passage("b", "roll back", found))
    assert better > worse
