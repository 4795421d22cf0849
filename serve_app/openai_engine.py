"""The wire between an engine that speaks OpenAI (vLLM) and our events: bodies out, chunks in."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from serve_app.errors import (
    BodyTooLarge,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    MantaError,
    RateLimited,
    UnknownModel,
)
from serve_app.events import Delta, Events, Finished
from serve_app.prompt import render
from serve_app.turn import Message, Turn

RESPONSE_FIELDS_OF_OURS = frozenset({"id", "object", "created", "model", "choices", "usage"})
NAME = re.compile(r"[\w.-]{1,64}")
"""What an error's type or code looks like; anything else is not repeated. LONGEST_NAME is of the field at fault."""
LONGEST_NAME, LONGEST_MESSAGE = 200, 2_000
TOO_LONG = ("context length", "maximum model length", "max_model_len")
STATUSES = {
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
}


def request_body(turn: Turn, model_id: str) -> dict[str, Any]:
    """The request as the engine gets it: the caller's parameters unchanged, the messages with their sources."""
    body: dict[str, Any] = {**turn.parameters, "model": model_id, "stream": turn.stream}
    messages = render(turn)
    if turn.operation == "completion":
        body |= {"prompt": messages[-1].text, **messages[-1].fields}
    else:
        body["messages"] = [wire_message(message) for message in messages]
    if turn.stream:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    return body


def wire_message(message: Message) -> dict[str, Any]:
    """Content parts keep their shape; only the text parts were read and may have been redacted."""
    content: Any = message.text
    parts = message.fields.get("content")
    if isinstance(parts, list):
        others = [part for part in parts if part.get("type") != "text"]
        content = [{"type": "text", "text": message.text}, *others] if others else message.text
    elif not message.text and message.fields.get("tool_calls"):
        content = None
    rest = {key: value for key, value in message.fields.items() if key != "content"}
    return {"role": message.role, "content": content, **rest}


async def events(chunks: AsyncIterator[Mapping[str, Any]]) -> Events:
    """Deltas and one Finished from the engine's response objects: a whole response, or the chunks of a stream."""
    usage: Mapping[str, Any] = {}
    extras: dict[str, Any] = {}
    async for chunk in chunks:
        if error := chunk.get("error"):
            raise engine_error(error)
        usage = chunk.get("usage") or usage
        extras |= {
            key: value for key, value in chunk.items() if key not in RESPONSE_FIELDS_OF_OURS and value is not None
        }
        for choice in chunk.get("choices") or ():
            yield delta(choice)
    yield Finished(
        prompt_tokens=usage.get("prompt_tokens", 0) or 0,
        output_tokens=usage.get("completion_tokens", 0) or 0,
        usage=usage,
        extras=extras,
    )


def delta(choice: Mapping[str, Any]) -> Delta:
    rest = {
        key: value for key, value in choice.items() if key not in ("index", "finish_reason", "delta", "message", "text")
    }
    if "text" in choice:
        fields: Mapping[str, Any] = {"text": choice["text"]}
    else:
        fields = choice.get("delta") or choice.get("message") or {}
    return Delta(fields, choice.get("index", 0), choice.get("finish_reason"), rest)


def parse_sse(text: str) -> list[dict[str, Any]]:
    """The JSON objects of some whole server-sent events; `[DONE]` is dropped."""
    lines = (line[5:].strip() for line in text.splitlines() if line.startswith("data:"))
    return [orjson.loads(line) for line in lines if line and line != "[DONE]"]


def engine_error(error: object, status: int | None = None) -> MantaError:
    """Ours for the engine's: what the caller can act on keeps the engine's words, a failure of the engine does not.

    Raw engine failures can carry addresses and paths of the server (CVE-2026-22778 starts with one): they stay inside.
    `status`: HTTP's, where there was one; else it is read from the error object.
    """
    said = error if isinstance(error, Mapping) else {}
    found = caller_error(said, status or status_of(said))
    kind, code, param = (str(said.get(name) or "") for name in ("type", "code", "param"))
    found.upstream_type = kind if NAME.fullmatch(kind) else ""
    found.upstream_code = code if NAME.fullmatch(code) and not code.isdecimal() else ""
    return found.at(param[:LONGEST_NAME]) if param else found


def caller_error(said: Mapping[str, Any], status: int) -> MantaError:
    message = str(said.get("message") or "the engine refused the request without saying why")[:LONGEST_MESSAGE]
    match status:
        case 400 | 422 if said.get("code") == ContextLengthExceeded.code or any(words in message for words in TOO_LONG):
            return ContextLengthExceeded(message).at("messages")
        case 400 | 422:
            refused: MantaError = InvalidRequest(message)
            refused.status = status
        case 404:
            refused = UnknownModel(message)
            refused.elsewhere = True
        case 413:
            refused = BodyTooLarge(message)
        case 429:
            refused = RateLimited("this model takes no more requests now; try again later, or ask for another model")
            refused.elsewhere = True
        case _:
            refused = EngineFailed("the engine failed while answering; try again, or ask for another model")
    return refused


def status_of(said: Mapping[str, Any]) -> int:
    """HTTP's status for an error inside an answer: vLLM gives it as `code`, OpenAI names the kind."""
    code = said.get("code")
    if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()):
        return int(code)
    return STATUSES.get(str(code)) or STATUSES.get(str(said.get("type"))) or 500
