import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import (
    BodyTooLarge,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    RateLimited,
    UnknownModel,
)
from serve_app.events import Delta, Finished
from serve_app.http.answers import Answer, merge
from serve_app.http.errors import error_body
from serve_app.openai_engine import engine_error, events, parse_sse, request_body
from serve_app.turn import Message
from tests.builders import turn


async def chunks(*given: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for chunk in given:
        yield chunk


def test_the_body_keeps_the_parameters_and_asks_for_usage() -> None:
    body = request_body(turn(stream=True, parameters={"seed": 7, "stream_options": {"a": 1}}), "m")
    assert (body["model"], body["seed"], body["stream"]) == ("m", 7, True)
    assert body["stream_options"] == {"a": 1, "include_usage": True}


def test_tool_calls_and_names_of_messages_survive() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    said = turn(
        messages=(Message("assistant", "", {"tool_calls": calls}), Message("tool", "42", {"tool_call_id": "c"}))
    )
    assert request_body(said, "m")["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "42", "tool_call_id": "c"},
    ]


def test_image_parts_stay_beside_the_screened_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = {"content": [{"type": "text", "text": "raw"}, image]}
    body = request_body(turn(messages=(Message("user", "screened", parts),)), "m")
    assert body["messages"][0]["content"] == [{"type": "text", "text": "screened"}, image]


async def test_a_stream_becomes_deltas_and_one_finished() -> None:
    found = [
        event
        async for event in events(
            chunks(
                {"choices": [{"index": 1, "delta": {"content": "a"}, "logprobs": {"x": 1}, "finish_reason": None}]},
                {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "system_fingerprint": "f"},
            )
        )
    ]
    assert found[0] == Delta({"content": "a"}, 1, None, {"logprobs": {"x": 1}})
    assert found[1] == Finished(
        prompt_tokens=3,
        output_tokens=4,
        usage={"prompt_tokens": 3, "completion_tokens": 4},
        extras={"system_fingerprint": "f"},
    )


async def test_a_whole_response_comes_back_as_it_was() -> None:
    message = {
        "role": "assistant",
        "content": "hi",
        "tool_calls": [{"id": "c", "function": {"name": "f"}}],
        "refusal": None,
    }
    response = {
        "id": "theirs",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
        "prompt_logprobs": [None],
    }
    answer = Answer(turn(), "m")
    finished = None
    async for event in events(chunks(response)):
        if isinstance(event, Delta):
            answer.gather(event)
        finished = event
    assert isinstance(finished, Finished)
    body = answer.completed(finished)
    assert body["choices"] == response["choices"]
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert body["prompt_logprobs"] == [None]


def test_tool_call_pieces_merge_by_index() -> None:
    whole: dict[str, Any] = {}
    merge(whole, {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]})
    merge(whole, {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}, {"index": 1, "id": "b"}]})
    assert whole["tool_calls"] == [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 1, "id": "b"},
    ]


def test_server_sent_events_are_parsed_without_done() -> None:
    assert parse_sse('data: {"a": 1}\n\ndata: {"b": 2}\n\ndata: [DONE]\n\n') == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "This model's maximum context length is 10", "code": 400}, ContextLengthExceeded),
        ({"message": "bad top_k", "code": 400, "param": "top_k"}, InvalidRequest),
        ({"message": "0x7f00 /srv/weights", "code": 500}, EngineFailed),
    ],
)
def test_the_engines_errors_become_ours(error: dict[str, Any], kind: type[Exception]) -> None:
    assert type(engine_error(error)) is kind


def test_what_broke_inside_the_engine_stays_inside() -> None:
    assert "0x7f00" not in str(engine_error({"message": "0x7f00 /srv/weights", "code": 500}))


def test_an_engines_error_keeps_the_engines_type_between_processes() -> None:
    said = {"message": "bad top_k", "type": "BadRequestError", "code": 400, "param": "top_k"}
    error = pickle.loads(pickle.dumps(engine_error(said)))
    assert error_body(error)["error"] == {
        "message": "bad top_k",
        "type": "BadRequestError",
        "param": "top_k",
        "code": InvalidRequest.code,
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "type": "rate_limit_error"}, RateLimited),
        ({"message": "slow down", "code": "rate_limit_exceeded", "type": "requests"}, RateLimited),
        ({"message": "no", "type": "invalid_request_error", "code": None}, InvalidRequest),
        ({"message": "no", "code": "404"}, UnknownModel),
        ({"message": "no", "type": ["invalid_request_error"]}, EngineFailed),
        ({}, EngineFailed),
        ("text", EngineFailed),
        (None, EngineFailed),
    ],
)
def test_an_error_without_a_status_is_known_by_its_kind(error: object, kind: type[Exception]) -> None:
    assert type(engine_error(error)) is kind


@given(
    st.dictionaries(
        st.sampled_from(["message", "type", "code", "param"]), st.one_of(st.none(), st.integers(), st.text())
    )
)
def test_any_error_object_becomes_an_error_of_ours(said: dict[str, Any]) -> None:
    error = engine_error(said)
    assert error.status in (400, 404, 413, 422, 429, 502)
    assert error.code in {kind.code for kind in (InvalidRequest, ContextLengthExceeded, UnknownModel)} | {
        kind.code for kind in (BodyTooLarge, RateLimited, EngineFailed)
    }


async def test_nulls_in_a_response_are_absent() -> None:
    found = [
        event async for event in events(chunks({"choices": None, "error": None, "usage": {"prompt_tokens": None}}))
    ]
    assert found == [Finished(prompt_tokens=0, output_tokens=0, usage={"prompt_tokens": None}, extras={})]
