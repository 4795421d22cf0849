"""How soon models begin to answer."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serve_app.registry.entry import Key

SLOTS = 96
PER_OCTAVE = 6
FASTEST_S = 0.001
"""Slots are a sixth of an octave wide, from 1 ms to 65 s: a quantile is exact to 12 %, and never too low."""
HALF_LIFE_S = 60.0
LEAST = 5.0
"""Answers, each worth half of itself a half-life later, below which nothing is known."""
QUANTILE = 0.95


@dataclass(slots=True)
class _Histogram:
    counts: list[float] = field(default_factory=lambda: [0.0] * SLOTS)
    total: float = 0.0
    at: float = 0.0
    """Since when the counts have not decayed."""


@dataclass(frozen=True)
class Pace:
    """Of the last minutes, in this process."""

    clock: Callable[[], float] = time.monotonic
    _histograms: dict[Key, _Histogram] = field(default_factory=dict)

    def record(self, key: Key, first_token_s: float) -> None:
        seen = self._histograms.get(key)
        if seen is None:
            seen = self._histograms[key] = _Histogram(at=self.clock())
        elif self.clock() - seen.at > HALF_LIFE_S / 8:
            self._decay(seen)
        slot = int(math.log2(first_token_s / FASTEST_S) * PER_OCTAVE) if first_token_s > FASTEST_S else 0
        seen.counts[min(slot, SLOTS - 1)] += 1.0
        seen.total += 1.0

    def p95_ms(self, key: Key) -> float | None:
        """95 % of the last answers began within so many milliseconds. None where too few did lately."""
        seen = self._histograms.get(key)
        if seen is None:
            return None
        self._decay(seen)
        if seen.total < LEAST:
            return None
        beyond, slot = seen.total * (1 - QUANTILE), SLOTS - 1
        while slot and (beyond := beyond - seen.counts[slot]) >= 0:
            slot -= 1
        return float(FASTEST_S * 2 ** ((slot + 1) / PER_OCTAVE) * 1000)

    def _decay(self, seen: _Histogram) -> None:
        """In steps: decaying 96 counts with each answer would cost more than all the rest."""
        now = self.clock()
        if now - seen.at > HALF_LIFE_S / 8:
            worth = 0.5 ** ((now - seen.at) / HALF_LIFE_S)
            seen.counts = [count * worth for count in seen.counts]
            seen.total, seen.at = sum(seen.counts), now
