"""Where outcomes are counted."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.rollout.counts import ARMS, Counted, Find, Numbers, Place, increments, place
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout

MOST_PLACES = 300
"""Arms of steps of rollouts that are remembered; the oldest go first."""

MOST_OF_ONE = 5
"""Answers to one session that are judged on a step: a session stays with its version and is like itself, so that a busy
one would look like a difference between versions. Its failures count all the same."""
MOST_CALLERS = 20_000
"""Sessions whose outcomes are told apart, each about 200 bytes; the one not heard of for longest goes first."""


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
    _seen: OrderedDict[tuple[Place, str], int] = field(default_factory=OrderedDict)

    def record(self, outcome: Outcome) -> bool:
        """Whether it was counted."""
        model, _, environment = outcome.key
        rollout = self.find(model, environment)
        where = place(outcome, rollout) if rollout else None
        if where is None:
            return False
        judged = not outcome.who or self._is_one_of_few(where, outcome.who)
        self.add(where, dict(increments(outcome, judged=judged)))
        return True

    def taken(self) -> dict[Place, dict[str, float]]:
        """The numbers; from here on it begins with none."""
        taken, self.numbers = self.numbers, {}
        return taken

    def _is_one_of_few(self, where: Place, who: str) -> bool:
        seen = self._seen.pop((where, who), 0)
        self._seen[where, who] = seen + 1
        if len(self._seen) > MOST_CALLERS:
            self._seen.popitem(last=False)
        return seen < MOST_OF_ONE

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
