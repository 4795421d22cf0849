"""What operators do to rollouts, whoever carries it out: the gateway for the command line, or the command line on the
database itself."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import uuid4

from serve_app.errors import InvalidRequest
from serve_app.registry.snapshot import Decide, Snapshot
from serve_app.registry.store import RegistryStore
from serve_app.rollout import changes
from serve_app.rollout.rollout import Rollout

Action = Literal["promote", "pause", "resume", "rollback"]
Report = Mapping[str, Any]
"""What a rollout's gates know, as JSON has it."""
Judge = Callable[[Rollout], Awaitable[Report | None]]


async def unjudged(_: Rollout) -> None:
    """Outcomes are counted by gateways: straight on the database nobody knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A rollout as an operator wants it."""

    model: str
    environment: str
    to_version: str
    steps: tuple[int, ...] = (5, 25, 50, 100)
    hold_s: float = 600.0
    shadow_percent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a model's rollout has come, and what its requests follow now."""

    model: str
    environment: str
    rollout: Rollout | None
    """None where weights were put back without a rollout to end."""
    weights: Mapping[str, int]
    """By version, the enabled ones."""
    report: Report | None = None
    """None where the gates' figures are not known."""


class RolloutOperations(Protocol):
    """Raise InvalidRequest, NotFound, Conflict, RegistryUnavailable with a sentence; nothing is changed then."""

    async def start(self, plan: Plan, *, who: str, why: str) -> Standing: ...

    async def act(
        self, action: Action, model: str, environment: str, *, to_version: str | None = None, who: str, why: str
    ) -> Standing:
        """`to_version`: of a rollback, None for the weights as they were before."""
        ...

    async def under_way(self, *, model: str = "", environment: str = "") -> tuple[Standing, ...]: ...

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        """Those under way and those that have ended, the newest first."""
        ...


@dataclass(frozen=True)
class StoredRollouts:
    """Implements `RolloutOperations` on the registry's store."""

    store: RegistryStore
    judge: Judge = unjudged
    now: Callable[[], float] = time.time

    async def start(self, plan: Plan, *, who: str, why: str) -> Standing:
        decide = changes.start(
            id=f"rollout-{uuid4().hex[:12]}",
            model=plan.model,
            environment=plan.environment,
            to_version=plan.to_version,
            steps=plan.steps,
            hold_s=plan.hold_s,
            shadow_percent=plan.shadow_percent,
            who=who,
            why=why,
            now=self.now(),
        )
        return await self._changed(decide, plan.model, plan.environment)

    async def act(
        self, action: Action, model: str, environment: str, *, to_version: str | None = None, who: str, why: str
    ) -> Standing:
        if to_version is not None and action != "rollback":
            raise InvalidRequest(f"to: only a rollback goes to a version of your choice, not {action}; leave it out")
        decide = await self._decision(action, model, environment, to_version, who, why)
        return await self._changed(decide, model, environment)

    async def _decision(
        self, action: Action, model: str, environment: str, to_version: str | None, who: str, why: str
    ) -> Decide:
        if action == "rollback":
            past = await self.store.rollouts(model=model, environment=environment, limit=100)
            last = next((one for one in past if not one.is_under_way), None)
            return changes.rollback(
                model, environment, last=last, to_version=to_version, who=who, why=why, now=self.now()
            )
        decide = {"promote": changes.promote, "pause": changes.pause, "resume": changes.resume}[action]
        return decide(model, environment, who=who, why=why, now=self.now())

    async def _changed(self, decide: Decide, model: str, environment: str) -> Standing:
        change = await self.store.change(decide)
        rollout = next(iter(change.rollouts), None)
        return Standing(
            model=model,
            environment=environment,
            rollout=rollout,
            weights=weights(await self.store.snapshot(), model, environment),
            report=await self.judge(rollout) if rollout and rollout.is_under_way else None,
        )

    async def under_way(self, *, model: str = "", environment: str = "") -> tuple[Standing, ...]:
        snapshot = await self.store.snapshot()
        return tuple(
            [
                Standing(
                    model=one.model,
                    environment=one.environment,
                    rollout=one,
                    weights=weights(snapshot, one.model, one.environment),
                    report=await self.judge(one),
                )
                for one in snapshot.rollouts
                if model in ("", one.model) and environment in ("", one.environment)
            ]
        )

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        return await self.store.rollouts(model=model, environment=environment, limit=limit)


def weights(snapshot: Snapshot, model: str, environment: str) -> dict[str, int]:
    """Of the enabled versions."""
    return {one.version: one.weight for one in snapshot.versions(model, environment) if one.is_enabled}
