"""What operators do to the registry, whoever carries it out: the gateway for the command line, or the command line on
the database itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What an endpoint said when it was asked for real."""

    steps: Mapping[str, str]
    """health, models, completion: what was seen, in words. All were fine, else EndpointFailed was raised."""
    served_names: tuple[str, ...] = ()
    engine: str = ""
    context_tokens: int | None = None
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)


class EndpointCheck(Protocol):
    async def check(self, entry: ModelEntry) -> CheckResult:
        """Health, its models, and one tiny completion. Raises InvalidRequest that says which failed and how."""
        ...


class RegistryOperations(Protocol):
    """Raise InvalidRequest, NotFound, Conflict, RegistryUnavailable with a sentence; nothing is changed then."""

    async def register(self, asked: Registration, *, check: bool, who: str, why: str) -> ModelEntry:
        """The entry as it stands afterwards: enabled when its endpoint was checked, else to be enabled.

        Weight, where it was not said: 100 for the first enabled version of its model, else 0.
        """
        ...

    async def deregister(self, key: Key, *, who: str, why: str) -> None: ...

    async def enable(self, key: Key, *, weight: int | None, check: bool, who: str, why: str) -> ModelEntry: ...

    async def disable(self, key: Key, *, who: str, why: str) -> ModelEntry: ...

    async def weigh(self, key: Key, weight: int, *, who: str, why: str) -> ModelEntry: ...

    async def entries(self, *, model: str = "", environment: str = "") -> tuple[ModelEntry, ...]: ...

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]: ...

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]: ...
