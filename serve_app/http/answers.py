"""Events to OpenAI's response objects: one chat completion, or the chunks of one."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.events import Delta, Finished
from serve_app.turn import Turn

CHAT, COMPLETION = "chat.completion", "text_completion"


@dataclass
class Answer:
    """The wire form of one turn's answer. All its chunks share one id and one creation time."""

    turn: Turn
    model: str
    created: int = field(default_factory=lambda: int(time.time()))
    _choices: dict[int, dict[str, Any]] = field(default_factory=dict)
    _rest: dict[str, Any] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        return self.turn.operation == "chat"

    @property
    def wants_usage(self) -> bool:
        return bool((self.turn.parameters.get("stream_options") or {}).get("include_usage"))

    def chunk(self, delta: Delta) -> dict[str, Any]:
        choice = {"index": delta.choice, **self._piece(delta), **delta.extras, "finish_reason": delta.finish_reason}
        rest = {**({"usage": None} if self.wants_usage else {}), **delta.envelope}
        return self._envelope([choice], rest, streamed=True)

    def _piece(self, delta: Delta) -> dict[str, Any]:
        """A completion's chunk has `logprobs`, null or not; a chat's has them only where there are some."""
        return {"delta": delta.fields} if self.is_chat else {"text": delta.fields.get("text") or "", "logprobs": None}

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        return self._envelope([], {"usage": usage(finished)}, streamed=True)

    def gather(self, delta: Delta) -> None:
        """Adds a delta to the whole answer that `completed` returns."""
        choice = self._choices.setdefault(delta.choice, {"message": {}, "extras": {}, "finish_reason": None})
        merge(choice["message"], delta.fields)
        merge(choice["extras"], delta.extras)
        choice["finish_reason"] = delta.finish_reason or choice["finish_reason"]
        self._rest |= delta.envelope

    def completed(self, finished: Finished) -> dict[str, Any]:
        choices = [self._whole(index, choice) for index, choice in sorted(self._choices.items())]
        return self._envelope(choices, {"usage": usage(finished), **self._rest, **finished.extras}, streamed=False)

    def _whole(self, index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
        fields = choice["message"]
        if self.is_chat:
            said: dict[str, Any] = {"message": {"role": "assistant", "content": None, "refusal": None, **fields}}
        else:
            said = {"text": fields.get("text", "")}
        return {"index": index, **said, "logprobs": None, **choice["extras"], "finish_reason": choice["finish_reason"]}

    def _envelope(self, choices: list[dict[str, Any]], rest: Mapping[str, Any], *, streamed: bool) -> dict[str, Any]:
        kind = (CHAT + ".chunk" if streamed else CHAT) if self.is_chat else COMPLETION
        prefix = "chatcmpl-" if self.is_chat else "cmpl-"
        return {
            "id": prefix + self.turn.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **rest,
        }


def usage(finished: Finished) -> dict[str, Any]:
    return {
        **finished.usage,
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.output_tokens,
        "total_tokens": finished.prompt_tokens + finished.output_tokens,
    }


def merge(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Adds a delta's fields to those before it, as OpenAI's clients do: text and lists grow, `tool_calls` by index."""
    for key, value in piece.items():
        before = whole.get(key)
        if key == "tool_calls" and isinstance(value, list) and isinstance(before, list):
            merge_tool_calls(before, value)
        elif isinstance(before, str) and isinstance(value, str) and key not in ("role", "id", "type", "name"):
            whole[key] = before + value
        elif isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif isinstance(before, dict) and isinstance(value, Mapping):
            merge(before, value)
        elif value is not None or key not in whole:
            whole[key] = (
                dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, list) else value
            )


def copied(value: Any) -> Any:
    """A container of our own: the delta it came from is not ours to grow."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, list) else value


def merge_tool_calls(whole: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        same = [call for call in whole if "index" in piece and call.get("index") == piece["index"]]
        if same:
            merge(same[0], piece)
        else:
            whole.append(dict(piece))
