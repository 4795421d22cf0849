"""Whether a new version is worse than the others it is compared with: a test each of eight figures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from serve_app.rollout.counts import SMALLEST, Counts, Histogram
from serve_app.rollout.evidence import Sample, of_quantiles, of_shares
from serve_app.rollout.gate_settings import GateSettings

Gate = Literal["errors", "fallbacks", "blocked", "refused", "grounded", "first_token", "tokens_per_s", "cost"]
GATES: tuple[Gate, ...] = get_args(Gate)
FREE = 2 * SMALLEST
"""Prices below are none."""
State = Literal["breach", "fine", "not enough", "no figures"]
Unit = Literal["share", "ms", "tokens/s", "currency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one gate found."""

    gate: Gate
    figure: str
    """What is compared, for people: `errors`, `p95 first token`."""
    unit: Unit
    canary: float | None
    stable: float | None
    """None where nothing was counted."""
    tolerance: float
    """Of a share: how much may be added or lost; of the others: how many times it may be."""
    evidence: float
    """How many times likelier the counts are if the difference is beyond the tolerance: 1 says nothing."""
    needed: float
    """Evidence of a breach."""
    samples: int
    """The canary's."""
    state: State

    @property
    def difference(self) -> float | None:
        """Canary less stable of a share, canary over stable of the others; None where one is missing."""
        if self.canary is None or self.stable is None:
            return None
        if self.unit == "share":
            return self.canary - self.stable
        return self.canary / self.stable if self.stable else None

    @property
    def words(self) -> str:
        allowed = f"{self.tolerance:.0%} apart" if self.unit == "share" else f"{self.tolerance:g} times"
        return (
            f"{self.figure} {written(self.canary, self.unit)} against {written(self.stable, self.unit)} "
            f"({allowed} tolerated, {self.samples} requests)"
        )

    def figures(self) -> dict[str, Any]:
        return {**asdict(self), "difference": self.difference, "evidence": round(min(self.evidence, 1e12), 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    state: Literal["breach", "fine", "not enough"]
    findings: tuple[Finding, ...] = ()
    """One of each gate, in the order of GATES."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """By arm."""

    @property
    def breaches(self) -> tuple[Finding, ...]:
        """The clearest first."""
        found = [finding for finding in self.findings if finding.state == "breach"]
        return tuple(sorted(found, key=lambda finding: -finding.evidence))

    @property
    def gate(self) -> Gate | None:
        """The one that was breached most clearly."""
        return self.breaches[0].gate if self.breaches else None

    @property
    def words(self) -> str:
        return "; ".join(finding.words for finding in self.breaches) or self.state

    def figures(self) -> dict[str, Any]:
        """For an audit row: JSON."""
        gates = {finding.gate: finding.figures() for finding in self.findings}
        return {"verdict": self.state, "gate": self.gate, "requests": dict(self.requests), "gates": gates}


def verdict(canary: Counts, stable: Counts, settings: GateSettings) -> Verdict:
    """May be asked for as often as one likes: the chance that a version no worse than tolerated is ever found in breach
    on a step is at most `significance` over all gates, each of which has an eighth of it (Bonferroni), where requests
    do not depend on each other."""
    findings = tuple(found(canary, stable, settings) for found in (*_SHARES, *_QUANTILES))
    requested, judged = min(canary.requests, stable.requests), min(canary.judged, stable.judged)
    enough = requested >= settings.step_requests and judged >= settings.min_requests
    state: Literal["breach", "fine", "not enough"] = "fine" if enough else "not enough"
    if any(finding.state == "breach" for finding in findings):
        state = "breach"
    requests = {"canary": canary.requests, "stable": stable.requests}
    return Verdict(state=state, findings=findings, requests=requests)


@dataclass(frozen=True, slots=True)
class _Share:
    """A gate on the mean of something between 0 and 1, of which more is worse."""

    gate: Literal["errors", "fallbacks", "blocked", "refused", "grounded"]
    figure: str
    sample: Callable[[Counts], Sample]
    more_is_better: bool = False
    """The sample counts what is missing; people read what is there."""

    def __call__(self, canary: Counts, stable: Counts, settings: GateSettings) -> Finding:
        tolerance: float = getattr(settings, self.gate)
        one, other = self.sample(canary), self.sample(stable)
        evidence = of_shares(one, other, tolerance)
        return Finding(
            gate=self.gate,
            figure=self.figure,
            unit="share",
            canary=self._shown(one),
            stable=self._shown(other),
            tolerance=tolerance,
            evidence=_capped(evidence),
            needed=needed(settings),
            samples=one[1],
            state=state_of(evidence, one[1], canary.requests, settings),
        )

    def _shown(self, sample: Sample) -> float | None:
        total, count = sample
        if not count:
            return None
        return 1 - total / count if self.more_is_better else total / count


@dataclass(frozen=True, slots=True)
class _Quantile:
    """A gate on quantiles of a histogram, of which higher ones are worse: it has the mean of their evidence."""

    gate: Literal["first_token", "tokens_per_s", "cost"]
    figure: str
    unit: Unit
    histogram: Callable[[Counts], Histogram]
    shares: tuple[float, ...]
    """The one that is shown first."""
    shown: Callable[[float], float]
    """A value of the histogram in the unit."""

    def __call__(self, canary: Counts, stable: Counts, settings: GateSettings) -> Finding:
        tolerance: float = getattr(settings, self.gate)
        ratio = max(tolerance, 1 / tolerance)
        one, other = self.histogram(canary), self.histogram(stable)
        found = {share: of_quantiles(one, other, share, ratio) for share in self.shares}
        evidence = math.log(sum(map(_capped, found.values())) / len(found))
        state = state_of(evidence, one.total, canary.requests, settings)
        share = max(found, key=lambda share: found[share]) if state == "breach" else self.shares[0]
        values = [h.quantile(share) for h in (one, other)]
        canary_value, stable_value = (None if value is None else self.shown(value) for value in values)
        return Finding(
            gate=self.gate,
            figure=f"{'median' if share == 0.5 else f'p{share * 100:g}'} {self.figure}",
            unit=self.unit,
            canary=canary_value,
            stable=stable_value,
            tolerance=tolerance,
            evidence=_capped(evidence),
            needed=needed(settings),
            samples=one.total,
            state=state,
        )


def needed(settings: GateSettings) -> float:
    return len(GATES) / settings.significance


def state_of(evidence: float, samples: int, requests: int, settings: GateSettings) -> State:
    if not samples:
        return "no figures"
    if requests < settings.min_requests:
        return "not enough"
    if evidence >= math.log(needed(settings)):
        return "breach"
    return "fine" if samples >= settings.min_requests else "not enough"


def written(value: float | None, unit: Unit) -> str:
    if value is None:
        return "none"
    match unit:
        case "share":
            return f"{value:.1%}"
        case "ms":
            return f"{value:.0f} ms"
    return f"{value:.4g}"


def _capped(logarithm: float) -> float:
    return math.exp(max(-50.0, min(logarithm, 50.0)))


_SHARES = (
    _Share("errors", "errors", lambda c: (c.failures, c.requests)),
    _Share("fallbacks", "fallbacks", lambda c: (c.fallbacks, c.requests)),
    _Share("blocked", "answers cut by the guardrail", lambda c: (c.blocked, c.judged)),
    _Share("refused", "answers that decline", lambda c: (c.refused, c.judged)),
    _Share("grounded", "supported citations", lambda c: (c.cited - c.grounded, c.cited), more_is_better=True),
)
_QUANTILES = (
    _Quantile("first_token", "first token", "ms", lambda c: c.first_token, (0.95, 0.5), lambda s: s * 1000),
    _Quantile("tokens_per_s", "tokens per second", "tokens/s", lambda c: c.per_token, (0.5,), lambda s: 1 / s),
    _Quantile("cost", "cost of a request", "currency", lambda c: c.cost, (0.5, 0.95), lambda c: c if c > FREE else 0),
)
