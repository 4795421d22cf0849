from pydantic import Field

from serve_app.section import Fraction, Section


class GateSettings(Section):
    """When a rollout goes back by itself: when the new version is worse than the others by more than is tolerated here,
    which a test has to show."""

    min_requests: int = Field(default=20, gt=0)
    """Of the canary, before anything is concluded; and answers that are judged, before a step is taken."""
    step_requests: int = Field(default=50, gt=0)
    """Of each, before a step is taken after its hold. Of versions that fail three requests in ten, 19 of 20 are found
    with 45 of their requests (benchmarks/results/gates.md)."""
    significance: float = Field(default=0.01, gt=0, lt=0.5)
    """Chance of taking a good version back, over the whole step and all gates."""
    errors: Fraction = 0.01
    """Share of requests that may fail beyond those of the others: a restart of one replica fails a few."""
    fallbacks: Fraction = 0.02
    """The same, of requests that another version had to answer."""
    blocked: Fraction = 0.02
    """Share of answers that the guardrail may cut beyond those of the others: other words meet other rules."""
    refused: Fraction = 0.03
    """Share of answers that may decline beyond those of the others."""
    grounded: Fraction = 0.05
    """Share of citations that their passages may support less: words, which this is judged by, err by as much."""
    first_token: float = Field(default=1.25, ge=1)
    """Its time may be this many times the others', at the 95th percentile and at the median; less is noticed by
    nobody."""
    tokens_per_s: float = Field(default=0.8, gt=0, le=1)
    """They may be this many times the others', at the median."""
    cost: float = Field(default=1.25, ge=1)
    """The same, of the price of a request, at the 95th percentile and at the median."""
