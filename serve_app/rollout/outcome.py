"""What one attempt of one version came to: all that a rollout's gates know."""

from dataclasses import dataclass

from serve_app.registry.entry import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """None where a figure does not apply: no documents were cited, nothing was answered."""

    key: Key
    who: str = ""
    """What the caller keeps its version by, its session's name or the like; empty where nothing ties it to others."""
    failed: bool = False
    """No answer, or half of one: by the endpoint's fault, for it refuses what is asked of it, or it was not tried
    because its circuit is open."""
    fell_back: bool = False
    """Another candidate answered in its place."""
    blocked: bool = False
    """The guardrail cut the answer."""
    refused: bool = False
    """The model declined to answer."""
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    grounded: float | None = None
    """Share of the answer's citations that their passage supports."""
    cost: float | None = None
    shadow: bool = False
    """Its answer was thrown away."""
    agreement: float | None = None
    """Shadow: cosine of its answer and the one that was given."""
