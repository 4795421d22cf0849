"""The whole registry as one value, and what may be done to it in one step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.registry.entry import Key, ModelEntry
from serve_app.rollout.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    revision: int = 0
    """Grows by one with each change."""
    entries: tuple[ModelEntry, ...] = ()
    """Of all environments, ordered by key."""
    rollouts: tuple[Rollout, ...] = ()
    """Those under way: running and paused."""

    def find(self, key: Key) -> ModelEntry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    def versions(self, model: str, environment: str) -> tuple[ModelEntry, ...]:
        return tuple(e for e in self.entries if e.model == model and e.environment == environment)

    def rollout(self, model: str, environment: str) -> Rollout | None:
        """The one under way."""
        return next((r for r in self.rollouts if r.model == model and r.environment == environment), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step: all of it is written, or nothing. Every entry and rollout it touches becomes an audit row."""

    action: str
    """register, deregister, enable, disable, weigh, adopt, or rollout-start, -step, -pause, -resume, -promote,
    -rollback."""
    who: str
    why: str = ""
    put: tuple[ModelEntry, ...] = ()
    removed: tuple[Key, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    """Put by their id; one that has ended stays in the history."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What the change was decided by, for the audit row: a verdict's numbers."""

    @property
    def is_empty(self) -> bool:
        return not (self.put or self.removed or self.rollouts)


Decide = Callable[[Snapshot], Change]
"""Reads the registry as it is and says what becomes of it. Pure: it may be called again. Raises InvalidRequest,
NotFound or Conflict with a sentence that says what to do; nothing is changed then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Who changed what, and why."""

    id: int
    at: float
    """Unix seconds."""
    who: str
    action: str
    model: str
    version: str
    environment: str
    before: Mapping[str, Any] | None
    """The entry's or rollout's fields; None where it was not there."""
    after: Mapping[str, Any] | None
    why: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
