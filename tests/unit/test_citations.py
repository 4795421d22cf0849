from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve_app.citations import Citations
from serve_app.events import Delta, Events, Finished
from serve_app.turn import Passage
from tests.builders import passage

PASSAGES = (passage(), passage("Other.", file_id="file-2", source="https://example.org/a", title="A", heading=""))


async def stream(pieces: list[str]) -> Events:
    for piece in pieces:
        yield Delta({"content": piece})
    yield Delta({}, finish_reason="stop")
    yield Finished(prompt_tokens=1, output_tokens=1)


async def annotated(pieces: list[str], passages: tuple[Passage, ...] = PASSAGES) -> list[Delta]:
    events = Citations(passages).annotated(stream(pieces))
    return [event async for event in events if isinstance(event, Delta)]


def annotations(deltas: list[Delta]) -> list[Any]:
    return [note["url_citation"] for delta in deltas for note in delta.fields.get("annotations", ())]


async def test_a_marker_becomes_an_annotation_of_its_range() -> None:
    text = "It rolls back [1]. See [2]."
    found = annotations(await annotated([text]))
    assert [text[note["start_index"] : note["end_index"]] for note in found] == ["[1]", "[2]"]
    assert found[0]["url"] == "/v1/files/file-1/content"
    assert found[1] == {"start_index": 23, "end_index": 26, "url": "https://example.org/a", "title": "A"}


async def test_numbers_of_no_passage_are_left_alone() -> None:
    assert annotations(await annotated(["array[7] and [0] and [12]"])) == []


async def test_the_last_delta_lists_what_was_cited_and_nothing_else() -> None:
    deltas = await annotated(["One [2]."])
    assert [cited["file_id"] for cited in deltas[-1].envelope["citations"]] == ["file-2"]


async def test_without_passages_everything_is_relayed_as_it_is() -> None:
    deltas = await annotated(["One [1]."], ())
    assert deltas[0].fields == {"content": "One [1]."}
    assert not deltas[-1].envelope


@given(st.lists(st.text(alphabet="ab []12", max_size=6), max_size=12))
async def test_any_cutting_of_the_text_gives_the_same_annotations(pieces: list[str]) -> None:
    whole = annotations(await annotated(["".join(pieces)]))
    assert annotations(await annotated(pieces)) == whole
