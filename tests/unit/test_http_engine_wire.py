"""Server-sent events and response objects of servers that are not ours, byte by byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app import openai_engine
from serve_app.adapters.http_engine_wire import (
    LONGEST_EVENT_BYTES,
    EventReader,
    gathered,
    parsed,
    streamed_chunks,
    whole_chunk,
)
from serve_app.errors import MantaError
from serve_app.events import Delta, Finished
from serve_app.http.answers import Answer
from serve_app.screened_choice import texts_of, with_text
from serve_app.turn import Operation
from tests.builders import turn
from tests.upstream import FRAMES, USAGE, chunk, frame

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
DATA = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).map(str.encode)
NOISE = st.sampled_from([b": ping", b"event: message", b"id: 7", b"retry: 10", b":"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[bytes]]:
    """Bytes of events, what they say, and the bytes cut anywhere."""
    wire, said = b"", []
    for lines in draw(st.lists(st.lists(DATA, min_size=1, max_size=3), max_size=5)):
        for line in draw(st.lists(NOISE, max_size=2)):
            wire += line + draw(ENDS)
        end = draw(ENDS)
        space = draw(st.sampled_from([b" ", b""])) if not any(line.startswith(b" ") for line in lines) else b" "
        wire += b"".join(b"data:" + space + line + end for line in lines) + end
        said.append(b"\n".join(lines))
    cuts = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    places = [0, *cuts, len(wire)]
    return wire, said, [wire[a:b] for a, b in zip(places, places[1:], strict=False)]


def read(pieces: list[bytes]) -> list[bytes]:
    reader = EventReader()
    found = [data for piece in pieces for data in reader.take(piece)]
    return [*found, *reader.end()]


@given(streams())
def test_events_are_the_same_wherever_their_bytes_are_cut(stream: tuple[bytes, list[bytes], list[bytes]]) -> None:
    wire, said, pieces = stream
    assert read([wire]) == said
    assert read(pieces) == said
    assert read([wire[place : place + 1] for place in range(len(wire))]) == said


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_leaves_when_its_empty_line_is_there(end: str) -> None:
    reader = EventReader()
    wire = frame(b"1", end) + frame(b"2", end)
    found = [reader.take(wire[place : place + 1]) for place in range(len(wire))]
    assert [data for some in found for data in some] == [b"1", b"2"][: 1 if end == "\r" else 2]
    assert reader.end() == ([b"2"] if end == "\r" else [])


def test_an_event_without_its_empty_line_counts_at_the_end() -> None:
    assert read([b"data: 1\n\ndata: 2"]) == [b"1", b"2"]


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"data: x\n" * 8_192], ids=["line", "lines"])
def test_an_event_that_never_ends_is_not_kept(piece: bytes) -> None:
    reader = EventReader()
    with pytest.raises(ValueError, match=f"more than {LONGEST_EVENT_BYTES} bytes"):
        for _ in range(LONGEST_EVENT_BYTES // len(piece) + 1):
            reader.take(piece)


def test_events_that_end_may_be_any_number() -> None:
    reader = EventReader()
    assert sum(len(reader.take(frame(b"x" * 65_000))) for _ in range(200)) == 200


async def pieces_of(*pieces: Any) -> AsyncIterator[Any]:
    for piece in pieces:
        yield piece


async def chunks(*pieces: bytes) -> list[Any]:
    return [chunk async for chunk in streamed_chunks(pieces_of(*pieces))]


async def test_chunks_come_as_they_were_sent_up_to_done() -> None:
    sent = {**chunk("a", "stop"), "system_fingerprint": "f", "service_tier": None}
    sent["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -0.1234567890123, "bytes": [97]}]}
    assert await chunks(frame(sent), frame(b"[DONE]"), frame(chunk("b"))) == [sent]


@pytest.mark.parametrize("last", [(), (frame(b"[DONE]"),)], ids=["without DONE", "with DONE"])
async def test_a_finished_answer_needs_no_done(last: tuple[bytes, ...]) -> None:
    assert len(await chunks(*FRAMES[:3], *last)) == 3


async def test_done_needs_no_finish_reason() -> None:
    assert len(await chunks(frame(chunk("a")), frame(b"[DONE]"))) == 1


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ((frame(chunk("a")),), "breaks off"),
        ((frame(chunk("a", "stop")), frame({"choices": [{"index": 1, "delta": {"content": "b"}}]})), "breaks off"),
        ((), "without a choice"),
        ((frame(b"[DONE]"),), "without a choice"),
        ((b": ping\n\n",), "without a choice"),
        ((frame({"choices": [], "usage": None}),), "without a choice"),
        ((frame(b"<html>"),), "not one of OpenAI"),
        ((frame(b'{"choices": [{"delta": '),), "not one of OpenAI"),
    ],
)
async def test_what_is_no_whole_answer_is_refused(sent: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await chunks(*sent)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        "text",
        {"choices": {}},
        {"choices": ["text"]},
        {"choices": [{"index": None}]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"content": [{"type": "text"}]}}]},
        {"choices": [{"delta": {"tool_calls": ["f"]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "one"}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {}}}]}}]},
        {"choices": [{"text": 5, "finish_reason": 5}]},
        {"choices": [], "usage": {"prompt_tokens": "many"}},
    ],
)
def test_what_has_the_wrong_type_is_refused_and_not_repeated(wrong: Any) -> None:
    with pytest.raises(ValueError, match="^an answer that is not one of OpenAI's API$"):
        parsed(orjson.dumps(wrong))


def test_an_error_without_an_object_around_it_is_one() -> None:
    error = {"object": "error", "message": "no", "code": 400}
    assert parsed(orjson.dumps(error)) == {"error": error}


async def test_a_whole_answer_without_a_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="without a choice"):
        await whole_chunk(pieces_of(b'{"choices"', b": []}"))


async def test_an_answer_that_is_too_large_is_not_kept() -> None:
    with pytest.raises(ValueError, match="more than 10 bytes"):
        await gathered(pieces_of(b"12345", b"67890", b"1"), 10)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("content", "text", "role", "reasoning_content", "refusal", "tool_calls", "function_call", "audio", "function")
NAMES = ("arguments", "name", "index", "id", "type", "function", "token", "content", *FIELDS)
SAID = st.dictionaries(
    st.sampled_from(FIELDS),
    ANY_JSON | st.lists(st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=4)),
    max_size=4,
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | ANY_JSON,
        "delta": SAID | ANY_JSON,
        "message": SAID,
        "text": ANY_JSON,
        "finish_reason": st.sampled_from(["stop", None]) | ANY_JSON,
        "logprobs": ANY_JSON,
    },
)
CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, max_size=3) | ANY_JSON},
    optional={"usage": st.dictionaries(st.sampled_from(sorted(USAGE)), ANY_JSON) | ANY_JSON, "error": ANY_JSON},
)


@hypothesis.settings(max_examples=50)
@given(st.lists(CHUNKS, min_size=1, max_size=4), st.sampled_from(["chat", "completion"]))
def test_whatever_a_server_says_is_an_answer_or_refused(sent: list[Any], operation: Operation) -> None:
    """Down to the response of Manta's own: nothing that came through is too odd for what reads it later."""

    async def go() -> None:
        answer = Answer(turn(operation=operation), "m")
        finished = Finished(prompt_tokens=0, output_tokens=0)
        received: list[Any] = []
        with suppress(ValueError):
            async for piece in streamed_chunks(pieces_of(*map(frame, sent), frame(b"[DONE]"))):
                received.append(piece)
        async for event in openai_engine.events(pieces_of(*received)):
            if isinstance(event, Delta):
                for key, text in texts_of(event):
                    assert (key, text + "x") in texts_of(with_text(event, key, text + "x"))
                orjson.dumps(answer.chunk(event), default=dict)
                answer.gather(event)
            elif isinstance(event, Finished):
                finished = event
        orjson.dumps(answer.completed(finished), default=dict)

    with suppress(MantaError):
        asyncio.run(go())
