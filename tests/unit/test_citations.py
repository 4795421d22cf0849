from typing import Any

import pytest
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


async def test_a_citation_arrives_with_the_text_it_supports() -> None:
    first, second, *_, last = await annotated(["Weights roll back ", "with one command [1].", " Bye."])
    assert "citations" not in first.envelope
    assert [cited["index"] for cited in second.envelope["citations"]] == [1]
    assert last.envelope["citations"] == second.envelope["citations"]


async def test_an_index_in_code_is_no_citation() -> None:
    text = "Use `names[1]` so [1]:\n\n```python\nfirst = names[1]\n```\n\nIt is the second [2]."
    found = annotations(await annotated([text]))
    assert [note["start_index"] for note in found] == [text.index(" [1]:") + 1, text.index("[2]")]


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        ("Weights roll back with one command [1].", {1: True}),
        ("Weights roll back with 17 commands [1].", {1: None}),
        ("Bread rises overnight in a cool place [1].", {1: False}),
        ("Weights roll back with one command [1]. Bread rises overnight in a cool place [1].", {1: False}),
        ("Bread rises in cool places. Weights roll back with one command [1].", {1: True}),
        ("Weights roll back with one command [1][2].", {1: True, 2: False}),
        ("Yes [1].", {1: None}),
        ("```sh\nweights roll back command\n```\n\n[1]", {1: True}),
        ("- Weights roll back.\n- One command does it: weights roll back [1]", {1: True}),
    ],
)
async def test_a_citation_says_whether_its_passage_says_so(answer: str, verdicts: dict[int, bool | None]) -> None:
    listed = (await annotated([answer]))[-1].envelope["citations"]
    assert {cited["index"]: cited["supported"] for cited in listed} == verdicts


async def test_the_snippet_shows_what_is_cited() -> None:
    long = passage(f"{'Words before it. ' * 40}Weights roll back with one command. And more.")
    (cited,) = (await annotated(["Weights roll back with one command. [1]"], (long,)))[-1].envelope["citations"]
    assert cited["snippet"] == "Weights roll back with one command. And more."
    (cited,) = (await annotated(["They roll back. [1]"], (long,)))[-1].envelope["citations"]
    assert cited["snippet"].startswith("Words before it. ") and len(cited["snippet"]) == 300


async def test_without_passages_everything_is_relayed_as_it_is() -> None:
    deltas = await annotated(["One [1]."], ())
    assert deltas[0].fields == {"content": "One [1]."}
    assert not deltas[-1].envelope


@given(st.lists(st.text(alphabet="ab []12`\n.", max_size=6), max_size=12))
async def test_any_cutting_of_the_text_gives_the_same_annotations(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole, cut = await annotated([text]), await annotated(pieces)
    assert annotations(cut) == annotations(whole)
    assert cut[-1].envelope == whole[-1].envelope
    assert all(text[note["start_index"] : note["end_index"]] in ("[1]", "[2]") for note in annotations(cut))


@given(st.lists(st.sampled_from(["Weights roll back. ", "[1]", "[2] ", "\n\n", "`", "```\n", "bread and butter "])))
async def test_what_is_listed_is_what_is_annotated(pieces: list[str]) -> None:
    deltas = await annotated(pieces)
    urls = {note["url"] for note in annotations(deltas)}
    listed = deltas[-1].envelope["citations"]
    assert urls == {PASSAGES[cited["index"] - 1].source for cited in listed if cited["index"] == 2} | {
        f"/v1/files/{cited['file_id']}/content" for cited in listed if cited["index"] == 1
    }
