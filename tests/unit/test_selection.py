from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve_app.selection import selected
from serve_app.turn import Passage


def passage(id: str, score: float, text: str = "", **fields: Any) -> Passage:
    given = {"file_id": f"file-{id}", "source": "guide.md", "heading": "Guide", **fields}
    return Passage(id=id, text=text or f"words of {id} alone", score=score, **given)


def ids(passages: tuple[Passage, ...]) -> list[str]:
    return [one.id for one in passages]


def test_what_is_below_the_floor_is_not_shown() -> None:
    assert ids(selected([passage("a", 0.5), passage("b", 0.35), passage("c", 0.34)], 6, 0.35)) == ["a", "b"]


def test_a_near_duplicate_gives_its_place_to_another() -> None:
    text = "The head node runs the dashboard, the scheduler, the job server, the metrics agent and the autoscaler"
    found = [passage("a", 0.9, f"{text}."), passage("b", 0.8, f"{text}!"), passage("c", 0.7)]
    assert ids(selected(found, 2, 0)) == ["a", "c"]


def test_versions_that_say_different_things_are_both_shown() -> None:
    old, new = "Version 1 listens on port 19530 by default.", "Version 2 listens on port 19531 and needs a token."
    assert len(selected([passage("a", 0.9, old), passage("b", 0.8, new)], 6, 0)) == 2


def test_one_document_does_not_take_all_the_room() -> None:
    one = [passage(f"a{n}", 0.9 - n / 100, file_id="a", heading=f"H{n}") for n in range(6)]
    found = selected([*one, passage("b", 0.5), passage("c", 0.4)], 6, 0)
    assert ids(found) == ["a0", "a1", "a2", "a3", "b", "c"]
    assert len(selected(one, 6, 0)) == 6


def test_neighbours_under_one_heading_are_joined_in_the_order_of_the_document() -> None:
    found = [
        passage("b", 0.9, "second", file_id="f", ordinal=4, suspicion=0.1),
        passage("x", 0.8, file_id="g"),
        passage("a", 0.7, "first", file_id="f", ordinal=3, suspicion=0.3),
        passage("c", 0.6, "third", file_id="f", ordinal=5, suspicion=0.2),
    ]
    joined, other = selected(found, 6, 0)
    assert (joined.text, joined.score, joined.suspicion, joined.ordinal) == ("first\nsecond\nthird", 0.9, 0.3, 3)
    assert other.id == "x"


def test_neighbours_under_other_headings_or_pages_stay_apart() -> None:
    one = passage("a", 0.9, file_id="f", ordinal=3)
    for other in ({"heading": "Else"}, {"page": 2}, {"file_id": "g"}, {"ordinal": 6}):
        assert len(selected([one, replace(passage("b", 0.8, file_id="f", ordinal=4), **other)], 6, 0)) == 2


def test_a_joined_passage_is_unjudged_where_a_part_is() -> None:
    found = [passage("a", 0.9, file_id="f", ordinal=1, suspicion=0.2), passage("b", 0.8, file_id="f", ordinal=2)]
    (joined,) = selected(found, 6, 0)
    assert joined.suspicion is None


@given(
    st.lists(st.tuples(st.sampled_from("fg"), st.integers(0, 6), st.sampled_from(["H", "I"])), unique=True, max_size=9),
    st.integers(1, 9),
)
def test_no_text_is_shown_twice_and_none_is_made_up(places: list[tuple[str, int, str]], top_k: int) -> None:
    found = [
        passage(f"{file}{n}{heading}", 1 - at / 10, file_id=file, ordinal=n, heading=heading)
        for at, (file, n, heading) in enumerate(places)
    ]
    shown = selected(found, top_k, 0)
    lines = [line for one in shown for line in one.text.split("\n")]
    assert len(lines) == len(set(lines)) == min(top_k, len(found))
    assert set(lines) <= {one.text for one in found}
    if found:
        assert found[0].text in shown[0].text
