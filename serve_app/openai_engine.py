"""The wire between an engine that speaks OpenAI (vLLM) and our events: bodies out, chunks in."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from serve_app.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, MantaError, UnknownModel
from serve_app.events import Delta, Events, Finished
from serve_app.prompt import render
from serve_app.turn import Message, Turn

RESPONSE_FIELDS_OF_OURS = frozenset({"id", "object", "created", "model", "choices", "usage"})


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
        if "error" in chunk:
            raise engine_error(chunk["error"])
        usage = chunk.get("usage") or usage
        extras |= {
            key: value for key, value in chunk.items() if key not in RESPONSE_FIELDS_OF_OURS and value is not None
        }
        for choice in chunk.get("choices", ()):
            yield delta(choice)
    yield Finished(
        prompt_tokens=usage.get("prompt_tokens", 0),
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


def engine_error(error: Mapping[str, Any]) -> MantaError:
    """Ours for the engine's: what the caller can act on keeps the engine's words, a failure of the engine does not.

    Raw engine failures can carry addresses and paths of the server (CVE-2026-22778 starts with one): they stay inside.
    """
    message, status = str(error.get("message", "")), int(error.get("code") or 500)
    if status == 404:
        return UnknownModel(message)
    if 400 <= status < 500:
        too_long = "context length" in message or "maximum model length" in message or "max_model_len" in message
        return (ContextLengthExceeded if too_long else InvalidRequest)(message).at(error.get("param") or "messages")
    return EngineFailed("the engine failed while answering; try again, or ask for another model")
