"""What can be seen of an answer while it passes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve_app.declining import declines
from serve_app.events import Delta, Event, Finished
from serve_app.registry.entry import Key
from serve_app.rollout.outcome import Outcome

MOST_READ = 2_000
"""Characters that are kept of an answer: a refusal stands in the first of them, and an encoder reads no more."""
FEWEST_TOKENS = 16
SHORTEST_S = 0.02
"""Of a stream whose speed means something; an answer that came whole has none."""


@dataclass(slots=True)
class Observation:
    """Of one answer: cheap for each piece, judged when it has ended."""

    began_at: float | None = None
    ended_at: float | None = None
    output_tokens: int = 0
    blocked: bool = False
    _pieces: list[str] = field(default_factory=list)
    _length: int = 0
    _citations: Sequence[Mapping[str, Any]] = ()

    def took(self, event: Event) -> None:
        if isinstance(event, Delta):
            if self.began_at is None:
                self.began_at = time.perf_counter()
            if self._length < MOST_READ and event.choice == 0:
                text = event.text
                self._pieces.append(text)
                self._length += len(text)
            if event.finish_reason == "content_filter":
                self.blocked = True
            if event.envelope:
                self._citations = event.envelope.get("citations", self._citations)
        elif isinstance(event, Finished):
            self.ended_at, self.output_tokens = time.perf_counter(), event.output_tokens

    @property
    def text(self) -> str:
        """The beginning of its first choice, up to about MOST_READ characters."""
        return "".join(self._pieces)

    @property
    def grounded(self) -> float | None:
        """Share of its citations that their passage supports; None without any."""
        supported = [one.get("supported") is True for one in self._citations]
        return sum(supported) / len(supported) if supported else None

    @property
    def tokens_per_s(self) -> float | None:
        if self.began_at is None or self.ended_at is None or self.output_tokens < FEWEST_TOKENS:
            return None
        spent_s = self.ended_at - self.began_at
        return self.output_tokens / spent_s if spent_s >= SHORTEST_S else None

    def outcome(self, key: Key, *, failed: bool, cost: float | None, first_token_s: float | None) -> Outcome:
        return Outcome(
            key=key,
            failed=failed,
            blocked=self.blocked,
            refused=not self.blocked and declines(self.text),
            first_token_s=first_token_s,
            tokens_per_s=self.tokens_per_s,
            grounded=self.grounded,
            cost=cost,
        )
