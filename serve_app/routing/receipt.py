"""What became of one request, for whoever has to answer for it. No prompt, no answer and no personal value is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.routing.route import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    id: str
    """The request's, as in `x-request-id`."""
    at: float
    """Unix seconds of its end."""
    tenant: str
    key_id: str
    asked: str
    """`model` of the request."""
    operation: str
    outcome: str
    """"answered", "abandoned", or the code of the error."""
    model: str = ""
    version: str = ""
    endpoint: str = ""
    digest: str = ""
    signature: str = ""
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """`Route.facts`."""
    attempts: tuple[Attempt, ...] = ()
    policy: str = ""
    """The tenant's guardrail policy, and in `refused_by` what it was refused for."""
    refused_by: str = ""
    redacted: Mapping[str, int] = field(default_factory=dict)
    """Placeholders by entity."""
    passages: tuple[str, ...] = ()
    """`file_id/chunk_id` of those the engine read."""
    withheld: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    """In the operator's currency."""


class Receipts(Protocol):
    def keep(self, receipt: Receipt) -> None:
        """Never waits and never raises: what cannot be written is counted and logged."""
        ...

    async def find(self, request_id: str, *, tenant: str | None = None) -> Receipt | None:
        """The newest of that id, of any ingress replica; a tenant's alone where one is named.

        Raises RegistryUnavailable when only the database would know.
        """
        ...
