import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.turn import Passage
from serve_app.wording import READ_CHARACTERS, Wording, having, insisting, named_in, normalised


def passage(id: str, text: str, score: float = 0.5, heading: str = "") -> Passage:
    return Passage(id, text, score, file_id="f", source="s", heading=heading)


@pytest.mark.parametrize(
    "identifier",
    [
        "CrashLoopBackOff",
        "--enable-leader-election",
        "E1234",
        "foo.bar_baz",
        "0x80070005",
        "v1.27.3",
        "1.27.3",
        "std::move",
        "max_num_seqs",
        "IL-6",
        "apps/v1",
    ],
)
def test_an_identifier_is_found_in_its_sentence(identifier: str) -> None:
    assert Wording.of(f"Why do I see {identifier}, please?").identifiers == (identifier.lower(),)


@pytest.mark.parametrize(
    "question", ["How do I roll back?", "What is e.g. a pod?", "well-known words", "2024", "A. b."]
)
def test_words_are_no_identifiers(question: str) -> None:
    assert Wording.of(question).identifiers == ()


@pytest.mark.parametrize(
    "question",
    [
        'What does "Roll back, now" do?',
        "\u201croll back now\u201d",
        "\u00abroll  back\tnow\u00bb",
        "\u201eRoll back now\u201c",
    ],
)
def test_what_stands_in_quotation_marks_is_a_phrase(question: str) -> None:
    assert Wording.of(question).phrases == (b" roll back now ",)


def test_an_apostrophe_opens_no_phrase() -> None:
    assert Wording.of("What's the operator's job? It's 'this'.").phrases == ()


def test_the_words_are_those_that_count_each_once() -> None:
    assert Wording.of("The pod, the pod and a node").words == (b" pod ", b" node ")


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("Roll-back:\nnow!", b" roll back now "),
        ("max_num_seqs = 4", b" max_num_seqs 4 "),
        ("Gr\u00f6\u00dfe \u2013 \u201cgro\u00df\u201d", " gr\u00f6\u00dfe gro\u00df ".encode()),
        ("\ud800 lone", b" lone "),
        ("", b"  "),
    ],
)
def test_a_run_is_words_between_blanks(text: str, run: bytes) -> None:
    assert normalised(text) == run


@pytest.mark.parametrize(
    ("text", "there"),
    [("see v1.2.", True), ("see v1.27", False), ("xv1.2", False), ("v1.27 and v1.2", True), ("", False)],
)
def test_an_identifier_stands_by_itself(text: str, there: bool) -> None:
    assert named_in(text, "v1.2") is there


def test_a_phrase_is_also_found_in_the_headings() -> None:
    assert having((b" roll back ",), passage("a", "text", heading="Operations > Roll back")) == 1


TEXTS = st.sampled_from(["roll back now", "back, roll", "pears", "Roll\nback", ""])
PASSAGES = st.lists(st.builds(passage, st.uuids().map(str), TEXTS, st.floats(0, 1)), max_size=8)


@given(found=PASSAGES)
@example(found=[passage("a", "pears", 1.0), passage("b", "roll back", 0.0)])
def test_passages_with_the_phrase_stand_before_those_without(found: list[Passage]) -> None:
    phrases = (b" roll back ",)
    ordered = insisting(phrases, found)
    counts = [having(phrases, one) for one in ordered]
    assert counts == sorted(counts, reverse=True)
    assert sorted(one.id for one in ordered) == sorted(one.id for one in found)
    assert all(0 <= one.score <= 1 for one in ordered)


@given(found=PASSAGES)
def test_where_none_has_the_phrase_all_score_lower_in_the_same_order(found: list[Passage]) -> None:
    lowered = insisting((b" nobody says this ",), found)
    assert [one.score for one in lowered] == sorted((one.score / 2 for one in found), reverse=True)


def test_without_a_phrase_nothing_changes() -> None:
    found = (passage("b", "x"), passage("a", "y"))
    assert insisting((), found) == found


@pytest.mark.parametrize("pump", ["a.", "a_", "a-", "--", "\u201c", '"a', "1.", "aB", "a::", "a/", "\u00ab", "=", "a1"])
def test_a_long_question_is_read_in_bounded_time(pump: str) -> None:
    least = min(_seconds(pump * READ_CHARACTERS) for _ in range(3))
    assert least < 0.05


def _seconds(question: str) -> float:
    began = time.process_time()
    Wording.of(question)
    return time.process_time() - began
