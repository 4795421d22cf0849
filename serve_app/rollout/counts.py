"""What was counted of one arm of a rollout on one step: numbers that add up, whoever counted them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout

Arm = Literal["canary", "stable", "shadow"]
ARMS: tuple[Arm, ...] = get_args(Arm)
Numbers = Mapping[str, float]
"""Counts by name, as they are kept: `requests`, or `first_token/512` for bucket 512 of a histogram."""

GROWTH = 1.05
"""Of a bucket's width to the one before: what is read from the middle of one is at most 2.5 % off."""
SMALLEST = 1e-9
BUCKETS = 1_000
"""From SMALLEST to 1.5e12: seconds, seconds per token and prices all fit."""
_STEP = math.log(GROWTH)


def bucket(value: float) -> int:
    return min(BUCKETS - 1, max(0, round(math.log(max(value, SMALLEST) / SMALLEST) / _STEP)))


def middle(position: int) -> float:
    """Value in the middle of a bucket."""
    return SMALLEST * GROWTH**position


@dataclass(frozen=True, slots=True)
class Histogram:
    counts: Mapping[int, int] = field(default_factory=dict)
    """By bucket; those without any are left out."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """None where nothing was counted."""
        return middle(self.position(share)) if self.counts else None

    def position(self, share: float) -> int:
        """The quantile's bucket."""
        wanted, seen = share * self.total, 0
        for position, count in sorted(self.counts.items()):
            seen += count
            if seen >= wanted:
                return position
        return 0

    def beyond(self, position: int) -> int:
        """How many lie in a higher bucket than this."""
        return sum(count for other, count in self.counts.items() if other > position)

    def above(self, buckets: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many lie in a higher bucket than each of these, which rise."""
        positions = np.array(sorted(self.counts), np.int64)
        counts = np.array([self.counts[int(position)] for position in positions], np.int64)
        below = np.concatenate([[0], counts.cumsum()])
        above: NDArray[np.int64] = below[-1] - below[np.searchsorted(positions, buckets, side="right")]
        return above


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    requests: int = 0
    failures: int = 0
    fallbacks: int = 0
    judged: int = 0
    """Answers of which all the rest is counted: of one session the first few alone."""
    blocked: int = 0
    refused: int = 0
    cited: int = 0
    """Answers with citations that words can judge; `grounded` sums their shares of supported ones."""
    grounded: float = 0.0
    priced: int = 0
    spent: float = 0.0
    compared: int = 0
    """Shadow answers; `agreement` sums their cosines to what was given."""
    agreement: float = 0.0
    first_token: Histogram = Histogram()
    """Seconds."""
    per_token: Histogram = Histogram()
    """Seconds for each token after the first."""
    cost: Histogram = Histogram()
    """For a request, in the operator's currency."""

    @classmethod
    def of(cls, numbers: Numbers) -> Self:
        """Names that this version does not know are another version's, and left out."""
        histograms: dict[str, dict[int, int]] = {name: {} for name in HISTOGRAMS}
        plain: dict[str, float] = {}
        for name, amount in numbers.items():
            kind, _, position = name.partition("/")
            if kind in histograms and position.isdecimal():
                histograms[kind][min(int(position), BUCKETS - 1)] = int(amount)
            elif kind in WHOLE:
                plain[kind] = int(amount)
            elif kind in SUMS:
                plain[kind] = float(amount)
        return cls(**plain, **{name: Histogram(counts) for name, counts in histograms.items()})  # type: ignore[arg-type]


HISTOGRAMS = ("first_token", "per_token", "cost")
WHOLE = frozenset({"requests", "failures", "fallbacks", "judged", "blocked", "refused", "cited", "priced", "compared"})
SUMS = frozenset({"grounded", "spent", "agreement"})


def increments(outcome: Outcome, *, judged: bool = True) -> Iterator[tuple[str, float]]:
    """What one outcome adds to its arm's numbers. `judged`: whether more of it counts than that it failed or not."""
    yield "requests", 1
    if outcome.failed:
        yield "failures", 1
    if outcome.fell_back:
        yield "fallbacks", 1
    if judged and not outcome.failed:
        yield "judged", 1
        yield from _times(outcome)
        yield from _words(outcome)


def _times(outcome: Outcome) -> Iterator[tuple[str, float]]:
    if outcome.first_token_s is not None:
        yield f"first_token/{bucket(outcome.first_token_s)}", 1
    if outcome.tokens_per_s:
        yield f"per_token/{bucket(1 / outcome.tokens_per_s)}", 1
    if outcome.cost is not None:
        yield from ((f"cost/{bucket(outcome.cost)}", 1), ("priced", 1), ("spent", outcome.cost))


def _words(outcome: Outcome) -> Iterator[tuple[str, float]]:
    if outcome.blocked:
        yield "blocked", 1
    if outcome.refused:
        yield "refused", 1
    if outcome.grounded is not None:
        yield from (("cited", 1), ("grounded", outcome.grounded))
    if outcome.agreement is not None:
        yield from (("compared", 1), ("agreement", outcome.agreement))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Of one rollout on one step, over all ingress replicas."""

    canary: Counts = Counts()
    stable: Counts = Counts()
    shadow: Counts = Counts()

    @classmethod
    def of(cls, numbers: Mapping[Arm, Numbers]) -> Self:
        return cls(**{arm: Counts.of(numbers.get(arm, {})) for arm in ARMS})


Place = tuple[str, int, Arm]
"""(rollout id, step, arm)."""


def place(outcome: Outcome, rollout: Rollout) -> Place | None:
    """Where an outcome is counted; None for one of a version that the rollout does not compare."""
    _, version, _ = outcome.key
    if version == rollout.to_version:
        return rollout.id, rollout.step, "shadow" if outcome.shadow else "canary"
    if rollout.before.get(version, 0) and not outcome.shadow:
        return rollout.id, rollout.step, "stable"
    return None


Find = Callable[[str, str], Rollout | None]
"""The rollout under way of (model, environment), as this process knows it now."""
