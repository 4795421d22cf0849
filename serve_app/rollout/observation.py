"""What can be seen of an answer while it passes."""

import time
from dataclasses import dataclass

from serve_app.events import Delta, Event, Finished
from serve_app.registry.entry import Key
from serve_app.rollout.outcome import Outcome


@dataclass(slots=True)
class Observation:
    began_at: float | None = None
    ended_at: float | None = None
    output_tokens: int = 0
    blocked: bool = False

    def took(self, event: Event) -> None:
        now = time.perf_counter()
        match event:
            case Delta():
                self.began_at = self.began_at or now
                self.blocked = self.blocked or event.finish_reason == "content_filter"
            case Finished():
                self.ended_at, self.output_tokens = now, event.output_tokens

    def outcome(self, key: Key, *, failed: bool, cost: float, first_token_s: float | None) -> Outcome:
        return Outcome(key=key, failed=failed, blocked=self.blocked, first_token_s=first_token_s, cost=cost)
