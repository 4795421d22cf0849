from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from serve_app.registry.entry import Capability
from serve_app.section import Fraction, Section

AUTO = "auto"
"""The model that stands for the router's own choice."""

Task = Literal["question", "code", "math", "writing", "translation", "summary", "extraction", "chat"]
"""What a question wants done, as far as it shows."""
TASKS: tuple[Task, ...] = get_args(Task)


class RouteRule(Section):
    """For `model: auto`. It fits a request that meets all of its conditions; one that is not set is always met."""

    name: str = Field(min_length=1, max_length=60, pattern="^[ -:<-~]+$")
    """For headers and receipts: printable ASCII without a semicolon."""
    tenants: frozenset[str] = frozenset()
    tasks: frozenset[Task] = frozenset()
    """Met by a question whose task is one of these with at least `router.task_threshold`; not without a classifier."""
    min_difficulty: Fraction | None = None
    """The classifier's, as is `max_difficulty`; neither is met without a classifier."""
    max_difficulty: Fraction | None = None
    needs: frozenset[Capability] = frozenset()
    """Met by a request that needs all of these."""
    min_prompt_tokens: int | None = Field(default=None, ge=0)
    """Estimated, high rather than low; so is `max_prompt_tokens`. Passages are not in it."""
    max_prompt_tokens: int | None = Field(default=None, ge=0)

    models: tuple[str, ...] = ()
    """Those that may answer, the preferred first, and no others; empty leaves it to the difficulty."""
    max_cost: float | None = Field(default=None, gt=0)
    """Of a request, in the operator's currency, by prices and estimated tokens."""
    max_first_token_ms: float | None = Field(default=None, gt=0)
    """A version whose 95th percentile of late is above it is left out."""

    @model_validator(mode="after")
    def _decides_something(self) -> Self:
        if not self.models and self.max_cost is None and self.max_first_token_ms is None:
            raise ValueError(
                f"rule {self.name!r} decides nothing; give it `models`, `max_cost` or `max_first_token_ms`"
            )
        for least, most in (("min_difficulty", "max_difficulty"), ("min_prompt_tokens", "max_prompt_tokens")):
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"rule {self.name!r} fits nothing: {least} {low} is above {most} {high}")
        return self


class RouterSettings(Section):
    small: str
    """Model for `model: auto` when the question is easy, and whenever the classifier is missing."""
    large: str
    """Model for `model: auto` when the question is difficult. The same as `small` where there is one model."""
    difficulty_threshold: Fraction = 0.5
    rules: tuple[RouteRule, ...] = ()
    """For `model: auto`: the first that fits decides, before the difficulty does."""
    task_threshold: Fraction = 0.5
    """Least probability of a task that a rule goes by."""
    sticky: Literal["session", "user", "key"] = "session"
    """What a caller keeps its version of a model by: its session, else its user; its user alone; or its API key."""
    fallbacks: dict[str, tuple[str, ...]] = {}
    """By model, those that answer in its place when it cannot, in this order; `auto` has its small and large first."""
    retry_share: Fraction = 0.2
    """Of the requests, most that may be tried again: a failing endpoint must not double the load of the others."""
    shadow_forbidden: frozenset[str] = frozenset()
    """Tenants whose requests are never sent a second time for comparison."""
    receipts: int = Field(default=100_000, gt=0)
    """Receipts kept in the database; the oldest go first."""
