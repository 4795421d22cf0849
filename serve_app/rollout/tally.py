"""Where outcomes are counted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.rollout.counts import ARMS, Counted, Find, Numbers, Place, increments, place
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout

MOST_PLACES = 300
"""Arms of steps of rollouts that are remembered; the oldest go first."""


class Tally(Protocol):
    """Counts outcomes over all ingress replicas: of models with a rollout under way, and no others."""

    def record(self, outcome: Outcome) -> None:
        """Never waits and never raises."""
        ...

    async def read(self, rollout: Rollout) -> Counted:
        """Of its step now; where the place that all replicas share is away, what is known here."""
        ...

    async def run(self) -> None:
        """Keeps what was counted safe, for as long as the gateway runs."""
        ...

    async def close(self) -> None:
        """Keeps the last of it."""
        ...


def nowhere(model: str, environment: str) -> Rollout | None:
    return None


@dataclass
class Book:
    """Numbers by place, growing."""

    find: Find = nowhere
    numbers: dict[Place, dict[str, float]] = field(default_factory=dict)

    def record(self, outcome: Outcome) -> bool:
        """Whether it was counted."""
        model, _, environment = outcome.key
        rollout = self.find(model, environment)
        where = place(outcome, rollout) if rollout else None
        if where is None:
            return False
        self.add(where, dict(increments(outcome)))
        return True

    def add(self, where: Place, amounts: Numbers) -> None:
        numbers = self.numbers.get(where)
        if numbers is None:
            numbers = self.numbers[where] = {}
            while len(self.numbers) > MOST_PLACES:
                del self.numbers[next(iter(self.numbers))]
        for name, amount in amounts.items():
            numbers[name] = numbers.get(name, 0) + amount

    def read(self, rollout: Rollout) -> Counted:
        return Counted.of({where[2]: self.numbers.get(where, {}) for where in places(rollout)})


def places(rollout: Rollout) -> Iterator[Place]:
    """Of its step now."""
    for arm in ARMS:
        yield rollout.id, rollout.step, arm
