"""Rollouts that go on, and go back, by themselves."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.errors import RegistryUnavailable, Rejected
from serve_app.registry.snapshot import Change, Decide, Snapshot
from serve_app.registry.store import RegistryStore
from serve_app.rollout import changes
from serve_app.rollout.counts import Counted
from serve_app.rollout.gate_settings import GateSettings
from serve_app.rollout.gates import Verdict, verdict
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.tally import Tally
from serve_app.telemetry import Telemetry

logger = logging.getLogger("manta")

LOOK_S = 0.5
WRITE_S = 2.0
"""For the database to take a change, before the other rollouts are looked at again."""
GATES = "gates"
"""Who takes steps and rolls back, for the registry's history."""


class Copy(Protocol):
    """The registry as this process knows it."""

    @property
    def snapshot(self) -> Snapshot: ...

    def assume(self, change: Change) -> None: ...


@dataclass(frozen=True, slots=True)
class Owed:
    """A rollback that has taken effect here and is not written yet."""

    rollout: Rollout
    found: Verdict
    decide: Decide


@dataclass
class RolloutWatch:
    """Runs in every ingress replica. All of them judge the same counts and may come to the same change at once: the
    store carries it out for the first that asks. What a breach takes back has its effect here before it is written,
    and while the database is away."""

    store: RegistryStore
    live: Copy
    tally: Tally
    settings: GateSettings
    environment: str
    telemetry: Telemetry
    now: Callable[[], float] = time.time
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _owed: dict[str, Owed] = field(default_factory=dict)
    """By the rollout's id."""
    _told: set[tuple[str, str]] = field(default_factory=set)
    """What was logged, and need not be at every look: the rollout's id, and what it is about."""

    async def run(self) -> None:
        while True:
            await self.look()
            await self.pause(LOOK_S)

    async def look(self) -> None:
        """At each rollout under way, once."""
        for rollout in self.live.snapshot.rollouts:
            if rollout.environment == self.environment and rollout.id not in self._owed:
                found = judged(rollout, await self.tally.read(rollout), self.settings)
                if found.state == "breach":
                    self._take_back(rollout, found)
                elif is_due(rollout, found, self.now()):
                    await self._step(rollout, found)
        for owed in tuple(self._owed.values()):
            await self._write(owed)

    async def judge(self, rollout: Rollout) -> dict[str, Any] | None:
        """What its gates know now, as JSON has it, and what it waits for; None of one that other gateways serve."""
        if rollout.environment != self.environment:
            return None
        counted = await self.tally.read(rollout)
        found = judged(rollout, counted, self.settings)
        requests = {arm: getattr(counted, arm).requests for arm in ("canary", "stable")}
        report = {**found.figures(), "requests": requests}
        report["waits_for"] = waits_for(rollout, found, self.settings, self.now())
        if rollout.shadow_percent:
            compared = counted.shadow.compared
            report["requests"] = {**requests, "shadow": counted.shadow.requests}
            report["agreement"] = counted.shadow.agreement / compared if compared else None
        return report

    def _take_back(self, rollout: Rollout, found: Verdict) -> None:
        decide = changes.rollback_by_verdict(
            rollout.id, who=GATES, why=found.words, now=self.now(), figures=found.figures()
        )
        try:
            self.live.assume(decide(self.live.snapshot))
        except Rejected as exc:
            self._tell(rollout, "stuck", f"it is worse than the others ({found.words}) and cannot go back: {exc}")
            return
        self._owed[rollout.id] = Owed(rollout, found, decide)

    async def _write(self, owed: Owed) -> None:
        rollout, found = owed.rollout, owed.found
        try:
            change = await self._changed(owed.decide)
        except RegistryUnavailable as exc:
            self._tell(
                rollout,
                "unwritten",
                f"back to the weights before ({found.words}), on this replica until it is written: {exc}",
            )
            return
        except Rejected as exc:
            self._tell(
                rollout, "refused", f"its rollback ({found.words}) holds on this replica and cannot be written: {exc}"
            )
            return
        del self._owed[rollout.id]
        if change.is_empty:
            return
        self.telemetry.rollbacks.labels(rollout.model, found.gate).inc()
        logger.warning("rollout: %s goes back to the weights before: %s", named(rollout), found.words)

    async def _step(self, rollout: Rollout, found: Verdict) -> None:
        why = f"held for {self.now() - rollout.step_started_at:.0f} s, no worse than the others"
        decide = changes.step(rollout.id, rollout.step, who=GATES, why=why, now=self.now(), figures=found.figures())
        try:
            change = await self._changed(decide)
        except (RegistryUnavailable, Rejected) as exc:
            self._tell(rollout, "step", f"its next step has to wait: {exc}")
            return
        for after in change.rollouts:
            logger.info("rollout: %s is %s at %d %%", named(after), after.state, after.percent)

    async def _changed(self, decide: Decide) -> Change:
        try:
            async with asyncio.timeout(WRITE_S):
                return await self.store.change(decide)
        except TimeoutError:
            raise RegistryUnavailable(f"the registry's database did not answer within {WRITE_S:g} s") from None

    def _tell(self, rollout: Rollout, what: str, sentence: str) -> None:
        if (rollout.id, what) not in self._told:
            self._told.add((rollout.id, what))
            logger.warning("rollout: %s: %s", named(rollout), sentence)


def judged(rollout: Rollout, counted: Counted, settings: GateSettings) -> Verdict:
    """Without steps, by what the version answered in the shadow."""
    return verdict(counted.canary if rollout.steps else counted.shadow, counted.stable, settings)


def is_due(rollout: Rollout, found: Verdict, now: float) -> bool:
    """Whether the next step may be taken: never on too few requests, however long it has been held."""
    is_held = now - rollout.step_started_at >= rollout.hold_s
    return rollout.state == "running" and not rollout.is_at_its_last and is_held and found.state == "fine"


def waits_for(rollout: Rollout, found: Verdict, settings: GateSettings, now: float) -> str:
    """For an operator: why it does not go on."""
    if found.state == "breach":
        return "its rollback"
    if rollout.state == "paused":
        return f"an operator: `manta rollout resume {rollout.model}`"
    if rollout.is_at_its_last:
        return f"an operator: `manta rollout promote {rollout.model}`, or rollback"
    left_s = rollout.hold_s - (now - rollout.step_started_at)
    if found.state == "not enough" and min(found.requests.values()) < settings.step_requests:
        counted = " and ".join(f"{number} {arm}" for arm, number in found.requests.items())
        return f"requests: {counted}, of {settings.step_requests} each"
    if found.state == "not enough":
        return f"answers to more sessions: {settings.min_requests} of each arm have to be judged, a few of a session"
    return f"the rest of its hold, {left_s:.0f} s" if left_s > 0 else "the next look"


def named(rollout: Rollout) -> str:
    return f"{rollout.model} to version {rollout.to_version} in {rollout.environment}"
