"""Responses to replies: whole answers and streams, and errors in the shapes that gateways give them."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from serve_app.redteam.judge import BROKEN_OFF, FILTERED, Reply

BAD_GATEWAY = 502
"""For a response that is none of the protocol: it counts as an error, and not as a target that is gone."""
MOST_CHARACTERS = 200_000
"""Of an answer that are read: it was asked for a few hundred tokens."""
_SAFE_MESSAGE = re.compile("policy (.+); safe message$")


def reply_of(response: httpx.Response, begun: float) -> Reply:
    """`begun`: by the monotonic clock."""
    spent = time.monotonic() - begun
    if response.status_code != 200:
        code, sentence = error_of(response)
        return Reply(response.status_code, sentence, code=code, seconds=spent)
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    choices = list(_streamed_choices(response.text) if is_stream else _whole_choices(response))
    if not choices:
        return Reply(BAD_GATEWAY, "the response is not a chat completion: it has no choices", seconds=spent)
    messages = [mapping(choice.get("message")) for choice in choices]
    safe = _SAFE_MESSAGE.match(response.headers.get("x-manta-route", ""))
    return Reply(
        status=200,
        text=_said(messages)[:MOST_CHARACTERS],
        finish_reason=next((str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason")), ""),
        refusal="".join(str(message.get("refusal") or "") for message in messages),
        withheld=response.headers.get("x-manta-withheld", ""),
        safe_message_of=safe[1] if safe else "",
        seconds=spent,
    )


def _whole_choices(response: httpx.Response) -> Iterator[Mapping[str, Any]]:
    yield from map(mapping, _listed(mapping(json_of(response)).get("choices"))[:1])


def _streamed_choices(text: str) -> Iterator[Mapping[str, Any]]:
    """A choice for each chunk, with its delta as the message; an error that ends the stream is a choice too."""
    for line in text.splitlines():
        try:
            chunk = mapping(json.loads(line.removeprefix("data:")))
        except (ValueError, RecursionError):
            continue  # empty lines, comments, `data: [DONE]`
        if error := mapping(chunk.get("error")):
            yield {"finish_reason": "content_filter" if error.get("code") in FILTERED else BROKEN_OFF}
        for choice in map(mapping, _listed(chunk.get("choices"))[:1]):
            yield {"message": choice.get("delta"), "finish_reason": choice.get("finish_reason")}


def _said(messages: Sequence[Mapping[str, Any]]) -> str:
    """The answer, and after it where else a secret may leave: arguments of tool calls, and thoughts."""
    calls = [call for message in messages for call in _listed(message.get("tool_calls"))]
    arguments = (mapping(mapping(call).get("function")).get("arguments") for call in calls)
    thoughts = (message.get("reasoning_content") for message in messages)
    parts = ((message.get("content") for message in messages), arguments, thoughts)
    return "\n".join(filter(None, ("".join(str(text) for text in part if text) for part in parts)))


def _listed(given: object) -> list[Any]:
    return given if isinstance(given, list) else []


def error_of(response: httpx.Response) -> tuple[str, str]:
    """Code and sentence."""
    body = mapping(json_of(response))
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")
    return "", str(error or body.get("detail") or response.text[:200])


def json_of(response: httpx.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError):  # a hostile target may nest as deep as it likes
        return None


def mapping(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}
