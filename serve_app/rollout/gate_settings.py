from pydantic import Field

from serve_app.section import Fraction, Section


class GateSettings(Section):
    """When a rollout goes back by itself."""

    min_requests: int = Field(default=20, gt=0)
    """Of the canary, before anything is concluded."""
    significance: Fraction = 0.01
    """Chance of taking a good version back, over the whole step."""
