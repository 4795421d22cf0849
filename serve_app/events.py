"""The one stream that flows out: one `Started`, deltas, then exactly one `Finished`."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.turn import Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Made by the pipeline when the engine's first event is there: everything the response headers need."""

    model: str
    route: str
    version: str = ""
    """Of the model, as the registry has it; empty where no engine answers."""
    degraded: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    passages: tuple[Passage, ...] = ()
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one choice. A whole answer that did not stream is one delta per choice."""

    fields: Mapping[str, Any]
    """OpenAI's `delta` (or `message`): `content`, `tool_calls`, `reasoning_content`...; `text` for a completion."""
    choice: int = 0
    finish_reason: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What else stood in the choice (`logprobs`, `stop_reason`, `token_ids`), relayed unchanged."""
    envelope: Mapping[str, Any] = field(default_factory=dict)
    """Top-level fields of the chunk this delta travels in, such as `citations`."""

    @property
    def text(self) -> str:
        return self.fields.get("content") or self.fields.get("text") or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    prompt_tokens: int
    output_tokens: int
    usage: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own usage object with its details, where it gave one."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Top-level fields of the engine's response that are not ours to name (`system_fingerprint`, `prompt_logprobs`)."""


Event = Started | Delta | Finished
Events = AsyncGenerator[Event, None]
"""Closable on purpose: whoever stops reading early must be able to stop the engine."""
