from pydantic import Field

from serve_app.section import Fraction, Section


class RouterSettings(Section):
    small: str
    """Model for `model: auto` when the question is easy, and whenever the classifier is missing."""
    large: str
    """Model for `model: auto` when the question is difficult. The same as `small` where there is one model."""
    difficulty_threshold: Fraction = 0.5
    fallbacks: dict[str, tuple[str, ...]] = {}
    """By model, those that answer in its place when it cannot, in this order; `auto`'s are its small and its large."""
    retry_share: Fraction = 0.2
    """Of the requests, most that may be tried again: a failing endpoint must not double the load of the others."""
    shadow_forbidden: frozenset[str] = frozenset()
    """Tenants whose requests are never sent a second time for comparison."""
    receipts: int = Field(default=100_000, gt=0)
    """Receipts kept in the database; the oldest go first."""
