"""What a gateway says of itself and of what it serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.deployed.applications import Application
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    environment: str
    """Whose entries it serves."""
    applications: tuple[Application, ...] = ()
    circuits: Mapping[str, str] = field(default_factory=dict)
    """closed, open or half-open by the entry's name, on the ingress replica that was asked."""
    revision: int = 0
    """Of the registry's copy there."""
    age_s: float = 0.0
    """Since the copy was known to be right."""
    is_stale: bool = False


class Site(Protocol):
    """Where entries are served from. Raises MantaError with a sentence when it does not answer."""

    async def gateway(self) -> Gateway | None:
        """None where there is no gateway to ask: straight on the database."""
        ...

    async def check(self, entry: ModelEntry) -> CheckResult:
        """Its endpoint asked for real, from there. Raises InvalidRequest that says which step failed and how."""
        ...
