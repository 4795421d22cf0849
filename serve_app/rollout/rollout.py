"""One model's way from one version to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["running", "paused", "promoted", "rolled_back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    id: str
    model: str
    environment: str
    to_version: str
    before: Mapping[str, int]
    """Weight of each version when it began, by version: what a rollback puts back."""
    steps: tuple[int, ...] = (5, 25, 50, 100)
    """Percent of the model's requests, rising; empty: shadow traffic alone."""
    step: int = 0
    """Position in `steps`."""
    hold_s: float = 600.0
    """Least time on a step before the next."""
    shadow_percent: int = 0
    """Of the model's requests, also sent to `to_version`, whose answer is compared and thrown away."""
    state: State = "running"
    started_at: float = 0.0
    """Unix seconds; so are the others."""
    step_started_at: float = 0.0
    ended_at: float | None = None
    started_by: str = ""
    reason: str = ""
    """Why it ended or was paused."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What its end was decided by."""

    @property
    def percent(self) -> int:
        return self.steps[self.step] if self.steps else 0

    @property
    def is_at_its_last(self) -> bool:
        """Its last step: only an operator ends a rollout whose steps do not lead to 100."""
        return self.step + 1 >= len(self.steps)

    @property
    def is_under_way(self) -> bool:
        return self.state in ("running", "paused")
