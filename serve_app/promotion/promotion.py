"""A version's way from one environment into another: gates, then steps that are undone when one fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.deployed.gateway import Site
from serve_app.errors import Conflict, Rejected
from serve_app.promotion.gates import Wanted
from serve_app.promotion.undoing import Step
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.operations import RegistryOperations
from serve_app.registry.registration import Registration, is_http
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.operations import Plan, RolloutOperations

ALL = 100


@dataclass(frozen=True, kw_only=True)
class Promotion:
    wanted: Wanted
    registry: RegistryOperations
    rollouts: RolloutOperations
    target: Site
    who: str
    why: str = ""
    plan: Plan = field(default_factory=lambda: Plan(model="", environment="", to_version=""))
    """Steps, hold and shadow share of the rollout in the target environment; whose it is, is set here."""
    ours: set[str] = field(default_factory=set)
    """What this promotion has changed, or may have: what someone else did meanwhile is not undone."""

    @property
    def key(self) -> Key:
        """Of the entry that comes to be."""
        return self.wanted.model, self.wanted.version, self.wanted.target

    async def snapshot(self) -> Snapshot:
        """The model's versions in both environments, and its rollouts under way."""
        return Snapshot(
            entries=await self.registry.entries(model=self.wanted.model),
            rollouts=tuple(
                one.rollout for one in await self.rollouts.under_way(model=self.wanted.model) if one.rollout is not None
            ),
        )

    def steps(self, before: Snapshot) -> tuple[Step, ...]:
        """`before`: as it was when the gates passed."""
        source = before.find((self.wanted.model, self.wanted.version, self.wanted.source))
        assert source is not None
        versions = before.versions(self.wanted.model, self.wanted.target)
        is_first = not any(entry.is_enabled and entry.weight for entry in versions)
        target = self.wanted.target
        change = [] if is_first else [Step(name=f"rollout in {target}", do=self._start, undo=self._stop)]
        if self.wanted.at_once and not is_first:
            change.append(Step(name="all requests", do=self._finish, undo=self._return))
        return (
            _noted(self, versions),
            Step(name=f"register in {target}", do=lambda: self._register(source, is_first), undo=self._deregister),
            Step(name=f"endpoint test for {target}", do=self._check),
            Step(name=f"enable in {target}", do=self._enable, undo=self._disable),
            *change,
        )

    async def entry(self) -> ModelEntry | None:
        found = await self.registry.entries(model=self.wanted.model, environment=self.wanted.target)
        return next((entry for entry in found if entry.key == self.key), None)

    async def _register(self, source: ModelEntry, is_first: bool) -> str:
        """Not routed to yet, and without weight: what is there goes on answering."""
        if await self.entry():
            raise Conflict(f"{self.wanted.model}@{self.wanted.version} was registered by someone else meanwhile")
        weight = ALL if is_first else 0
        asked = Registration.of(
            source, environment=self.wanted.target, weight=weight, **_elsewhere(source, self.wanted)
        )
        with self._claimed("entry"):
            made = await self.registry.register(asked, check=False, who=self.who, why=self.why)
        return f"{made.name} at {made.endpoint}, weight {made.weight}, not routed to yet"

    async def _deregister(self) -> None:
        if "entry" in self.ours and await self.entry():
            await self.registry.deregister(self.key, who=self.who, why=self._undoing)

    async def _check(self) -> str:
        entry = await self.entry()
        if entry is None:
            raise Conflict(f"{self.wanted.model}@{self.wanted.version} was deregistered by someone else meanwhile")
        gateway, checked = await self.target.gateway(), await self.target.check(entry)
        seen = "; ".join(f"{step}: {seen}" for step, seen in checked.steps.items())
        return f"{seen} (asked by {f'a gateway of {gateway.environment}' if gateway else 'this command'})"

    async def _enable(self) -> str:
        with self._claimed("status"):
            made = await self.registry.enable(self.key, weight=None, check=False, who=self.who, why=self.why)
        return f"{made.name} can be asked for as such, weight {made.weight}"

    async def _disable(self) -> None:
        entry = await self.entry()
        if "status" in self.ours and entry and entry.is_enabled:
            await self.registry.disable(self.key, who=self.who, why=self._undoing)

    async def _start(self) -> str:
        model, version, target = self.wanted.model, self.wanted.version, self.wanted.target
        plan = replace(self.plan, model=model, to_version=version, environment=target)
        with self._claimed("rollout"):
            standing = await self.rollouts.start(plan, who=self.who, why=self.why)
        percent = standing.rollout.percent if standing.rollout else 0
        return f"{percent} % of {model} in {target} go to {version}"

    async def _stop(self) -> None:
        for standing in await self.rollouts.under_way(model=self.wanted.model, environment=self.wanted.target):
            is_it = standing.rollout and standing.rollout.to_version == self.wanted.version
            if is_it and "rollout" in self.ours:
                await self._rollback()

    async def _finish(self) -> str:
        with self._claimed("requests"):
            await self.rollouts.act("promote", self.wanted.model, self.wanted.target, who=self.who, why=self.why)
        return f"{self.wanted.version} answers all requests; `manta rollout rollback {self.wanted.model}` goes back"

    async def _return(self) -> None:
        newest = await self.rollouts.history(model=self.wanted.model, environment=self.wanted.target, limit=1)
        is_it = newest and newest[0].to_version == self.wanted.version and newest[0].state == "promoted"
        if is_it and "requests" in self.ours:
            await self._rollback()

    @contextmanager
    def _claimed(self, what: str) -> Iterator[None]:
        """A refusal says that nothing was changed; any other failure leaves it open."""
        self.ours.add(what)
        try:
            yield
        except Rejected:
            self.ours.discard(what)
            raise

    async def _rollback(self) -> None:
        await self.rollouts.act("rollback", self.wanted.model, self.wanted.target, who=self.who, why=self._undoing)

    @property
    def _undoing(self) -> str:
        return f"undoing a promotion from {self.wanted.source} that did not come to its end"


def _elsewhere(source: ModelEntry, wanted: Wanted) -> dict[str, Any]:
    """What another endpoint changes of the entry: how it is spoken to where it is of the other kind."""
    endpoint = wanted.endpoint or source.endpoint
    if is_http(endpoint) == is_http(source.endpoint):
        return {"endpoint": endpoint}
    engine = "openai" if is_http(endpoint) else "vllm"
    return {"endpoint": endpoint, "engine": engine, "egress": None, "served_name": None, "key_env": None}


def _noted(promotion: Promotion, before: tuple[ModelEntry, ...]) -> Step:
    """The first step, and the last undone: it looks whether all is as it was."""
    wanted = promotion.wanted

    async def look() -> str:
        shown = ", ".join(f"{entry.version} {entry.status} weight {entry.weight}" for entry in before)
        return shown or f"no version of {wanted.model}"

    async def compare() -> None:
        now = await promotion.registry.entries(model=wanted.model, environment=wanted.target)
        if promotion.ours and now != before:
            raise Conflict(
                f"{wanted.target} is not as it was before; `manta registry history --model {wanted.model} "
                f"--environment {wanted.target}` shows who changed what"
            )

    return Step(name=f"{wanted.target} as it is", do=look, undo=compare)
