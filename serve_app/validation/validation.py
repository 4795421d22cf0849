"""Seven steps that say whether a model can be used."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from serve_app.deployed.cluster import RayService
from serve_app.deployed.gateway import Gateway
from serve_app.errors import MantaError, NotFound, Unavailable
from serve_app.registry.entry import ModelEntry
from serve_app.validation.answering import answered, counted, healthy, registered
from serve_app.validation.finding import Finding, State, failed, skipped
from serve_app.validation.running import consumed, released, replicated
from serve_app.validation.target import Health, Target

PAUSE_S = 1.0
REPLICAS_ASKED = 10
"""Times that /metrics is asked until the answer was counted: any of several ingress replicas may have given it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    name: str
    finding: Finding
    seconds: float

    @property
    def state(self) -> State:
        return self.finding.state


@dataclass
class Validation:
    """What is found on the way: a step reads what those before it learnt."""

    target: Target
    model: str
    environment: str
    version: str = ""
    patience_s: float = 30.0
    """For the service to become ready."""
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    entries: tuple[ModelEntry, ...] | None = None
    gateway: Gateway | None = None
    rayservice: RayService | None = None
    faults: dict[str, MantaError] = field(default_factory=dict)
    """Why a side could not be asked: gateway, registry, rayservice."""
    steps: list[Step] = field(default_factory=list)

    async def run(self, say: Callable[[Step], None]) -> Sequence[Step]:
        """Raises NotFound for a model that is registered nowhere, Unavailable where nothing answers at all."""
        health, tries = await self._health()
        await self._look(health is not None)
        for name, step in (
            ("application", self._released),
            ("replicas", self._replicated),
            ("health", lambda: self._healthy(health, tries)),
            ("registry", self._registered),
            ("inference", self._answered),
            ("metrics", self._counted),
            ("resources", self._consumed),
        ):
            begun = self.clock()
            try:
                finding = await step()
            except MantaError as error:
                finding = failed(str(error))
            self.steps.append(Step(name=name, finding=finding, seconds=self.clock() - begun))
            say(self.steps[-1])
        return self.steps

    async def _health(self) -> tuple[Health | None, int]:
        """The last answer, once it is ready or patience is at its end; with the number of tries."""
        begun, tries, health = self.clock(), 0, None
        while True:
            tries += 1
            try:
                health = await self.target.health()
            except Unavailable as error:
                self.faults["service"] = error
            if (health and health.is_ready) or self.clock() - begun >= self.patience_s:
                return health, tries
            await self.pause(PAUSE_S)

    async def _look(self, is_there: bool) -> None:
        """All sides at once, before the first step: what cannot be asked is told by the step that needs it."""
        try:
            self.rayservice = await self.target.rayservice()
        except Unavailable as error:
            self.faults["rayservice"] = error
        if not is_there:
            if self.rayservice is None:
                raise self.faults.get("rayservice") or self.faults["service"]
            return
        try:
            self.entries = await self.target.entries(self.model)
        except Unavailable as error:
            self.faults["registry"] = error
        if self.entries == ():
            raise NotFound(f"model: no model {self.model!r} is registered; `manta registry list` shows those there are")
        try:
            self.gateway = await self.target.gateway()
        except Unavailable as error:
            self.faults["gateway"] = error

    @property
    def enabled(self) -> tuple[ModelEntry, ...]:
        """The versions that are asked about."""
        return tuple(
            entry
            for entry in self.entries or ()
            if entry.environment == self.environment and entry.is_enabled and self.version in ("", entry.version)
        )

    def _unknown(self, *sides: str) -> Finding | None:
        """Where none of these sides could be asked, though it should have been."""
        faults = [self.faults[side] for side in sides if side in self.faults]
        return failed("; ".join(map(str, faults))) if faults else None

    async def _released(self) -> Finding:
        if unknown := self._unknown("rayservice", "gateway"):
            return unknown
        if not self.enabled and self.rayservice is None:
            return skipped("no version of it is enabled here")
        if self.rayservice and self.rayservice.environment not in ("", self.environment):
            serves = f"RayService {self.rayservice.full_name} serves {self.rayservice.environment}"
            return failed(f"{serves}, not {self.environment}")
        return released(self.enabled, self.gateway, self.rayservice)

    async def _replicated(self) -> Finding:
        return self._unknown("rayservice", "gateway") or replicated(self.enabled, self.gateway, self.rayservice)

    async def _healthy(self, health: Health | None, tries: int) -> Finding:
        return healthy(health, tries) if health else failed(f"{self.faults['service']} ({tries} tries)", tries=tries)

    async def _registered(self) -> Finding:
        if self.entries is None:
            return self._unknown("registry") or skipped("no service answers")
        return registered(self.model, self.version, self.environment, self.entries, self.gateway)

    async def _answered(self) -> Finding:
        if not self._is_there:
            return skipped("no service answers")
        asked = f"{self.model}@{self.version}" if self.version else self.model
        plain = any(entry.engine == "extractive" for entry in self.enabled)
        return answered(self.model, self.version, await self.target.answer(asked, plain=plain))

    async def _counted(self) -> Finding:
        if not self._is_there:
            return skipped("no service answers")
        texts: list[str] = []
        finding = failed("nothing was asked")
        for _ in range(REPLICAS_ASKED):
            texts.append(await self.target.metrics())
            try:
                finding = counted(self.model, texts)
            except ValueError as error:
                return failed(f"/metrics is not in Prometheus' format: {error}")
            if finding.state == "passed":
                break
        return finding

    async def _consumed(self) -> Finding:
        return consumed(self.enabled, self.gateway, self.rayservice)

    @property
    def _is_there(self) -> bool:
        return self.entries is not None or "registry" in self.faults
