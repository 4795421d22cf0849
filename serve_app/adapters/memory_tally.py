"""Counts of rollouts in the memory of one ingress replica."""

from dataclasses import dataclass, field

from serve_app.rollout.outcome import Outcome


@dataclass
class MemoryTally:
    """Implements `Tally`."""

    outcomes: list[Outcome] = field(default_factory=list)

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
