"""Why a version cannot take a request."""

from dataclasses import dataclass
from typing import Literal, Protocol

from serve_app.registry.entry import Key, ModelEntry
from serve_app.routing.asked import Asked

SURELY = 2
"""An estimate above this times the context is no misjudgement: for half of the texts that it was measured on it was
less than 1.5 times the true count."""


class Paces(Protocol):
    def p95_ms(self, key: Key) -> float | None:
        """Of the recent times to the first token; None where too few are known."""
        ...


@dataclass(frozen=True, slots=True)
class Obstacle:
    kind: Literal["context", "capability", "cost", "latency", "redaction", "screener"]
    words: str
    """After the version's name: "holds 4096 tokens and the request needs about 9000"."""

    @property
    def is_left_to_engine(self) -> bool:
        """Where the caller named the model: its engine counts and knows better than an estimate and a list."""
        return self.kind in ("context", "capability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a version must keep to for one request."""

    asked: Asked
    pace: Paces | None = None
    max_cost: float | None = None
    max_first_token_ms: float | None = None

    def obstacle(self, entry: ModelEntry) -> Obstacle | None:
        """The first; those that an engine may see otherwise come last, so that nothing hides behind them."""
        return (
            self._leak(entry)
            or self._cost(entry)
            or self._latency(entry)
            or self._capability(entry)
            or self._context(entry)
        )

    def _leak(self, entry: ModelEntry) -> Obstacle | None:
        """What may not leave as it is must not go where only redacted text may."""
        if not self.asked.is_screened:
            if entry.egress == "redacted":
                return Obstacle("redaction", "takes redacted text alone, and the screener is missing")
            if entry.screener_down == "refuse":
                return Obstacle("screener", "takes nothing unscreened, and the screener is missing")
        if self.asked.has_pictures and entry.egress == "redacted":
            return Obstacle("redaction", "takes redacted text alone, and pictures and sound cannot be redacted")
        return None

    def _context(self, entry: ModelEntry) -> Obstacle | None:
        asked, answer = self.asked, self.asked.answer_tokens(entry.context_tokens)
        if not asked.prompt.exceeds(entry.context_tokens - answer):
            return None
        needed = asked.prompt.tokens + answer
        return Obstacle("context", f"holds {entry.context_tokens} tokens and the request needs about {needed}")

    def _capability(self, entry: ModelEntry) -> Obstacle | None:
        # Of Manta's own engine all is known; of others an empty list says that nobody said.
        if not entry.capabilities and entry.engine != "extractive":
            return None
        missing = sorted(self.asked.needs - entry.capabilities)
        return Obstacle("capability", f"has no {' and no '.join(missing)}") if missing else None

    def _cost(self, entry: ModelEntry) -> Obstacle | None:
        if self.max_cost is None or _cost(entry, self.asked, self.asked.prompt.most) <= self.max_cost:
            return None
        cost = estimated_cost(entry, self.asked)
        if cost <= self.max_cost:
            return None
        return Obstacle("cost", f"would cost about {cost:.6g}, above {self.max_cost:.6g}")

    def _latency(self, entry: ModelEntry) -> Obstacle | None:
        if self.max_first_token_ms is None or self.pace is None:
            return None
        p95 = self.pace.p95_ms(entry.key)
        if p95 is None or p95 <= self.max_first_token_ms:
            return None
        return Obstacle("latency", f"takes {p95:.0f} ms to its first token, above {self.max_first_token_ms:g} ms")


def estimated_cost(entry: ModelEntry, asked: Asked) -> float:
    return _cost(entry, asked, asked.prompt.tokens)


def _cost(entry: ModelEntry, asked: Asked, prompt_tokens: int) -> float:
    return entry.price(prompt_tokens + asked.sources_tokens, asked.answer_tokens(entry.context_tokens))
