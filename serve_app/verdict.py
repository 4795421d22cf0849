"""From scores to a yes or no, the same for a question, a passage and `/v1/moderations`."""

from collections.abc import Mapping

from serve_app.policy import CATEGORIES, PolicySettings
from serve_app.turn import Scores


def limits(policy: PolicySettings, shipped: Mapping[str, float]) -> dict[str, float]:
    """The probability that refuses, by category; categories that the policy switched off are missing.

    `shipped`: the thresholds the models were trained to; it may hold other heads' too.
    """
    chosen = {name: policy.thresholds.get(name, shipped[name]) for name in CATEGORIES if name in shipped}
    return {name: limit for name, limit in chosen.items() if limit is not None}


def broken(scores: Scores, limits: Mapping[str, float]) -> tuple[str, ...]:
    """Categories at or above their limit, the one furthest above it first. A score that is no number is above any."""
    over = [name for name, limit in limits.items() if name in scores and not scores[name] < limit]
    return tuple(sorted(over, key=lambda name: limits[name] - scores[name]))
