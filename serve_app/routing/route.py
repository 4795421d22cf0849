"""A routing decision, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.registry.entry import ModelEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    candidates: tuple[ModelEntry, ...]
    """The one chosen, then those that may answer in its place, in this order. Never empty."""
    reason: str
    """Why, in a few words, for the `x-manta-route` header."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it was decided by, for the receipt: rule, scores and thresholds, shares, what it is sticky by, and who was
    left out for which reason."""

    @property
    def chosen(self) -> ModelEntry:
        return self.candidates[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one candidate. One that was left out because its circuit is open counts as failed."""

    entry: ModelEntry
    outcome: str
    """"answered", or the code of the error."""
    ms: float = 0.0
    """Until its first event or its end."""
    failed: bool = False
    """By the endpoint's fault: not so when the caller's request was refused."""
