"""What must be true before a version may go from one environment to another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from serve_app.deployed.disagreements import Picture, entry_faults
from serve_app.deployed.gateway import Gateway, Site
from serve_app.errors import MantaError
from serve_app.promotion.evaluation import Limits, figure, shortfall
from serve_app.registry.entry import Environment, ModelEntry
from serve_app.registry.snapshot import Snapshot

Requirement = Literal["licence", "digest", "signature", "owner"]
REQUIREMENTS: tuple[Requirement, ...] = get_args(Requirement)
State = Literal["passed", "failed", "skipped"]
Verdict = tuple[State, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A promotion as an operator asks for it."""

    model: str
    version: str
    source: Environment
    target: Environment
    endpoint: str = ""
    """Where the version runs in the target environment; empty: where it runs in the source."""
    require: frozenset[Requirement] = frozenset({"licence", "digest"})
    """What the registry must know of it. A digest and a signature are asked of weights that Manta itself loads."""
    may_do_less: bool = False
    """It may lack capabilities, or context, of what the target environment serves now."""
    at_once: bool = False
    evaluation: Limits | None = None
    """None: the operator said that there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    name: str
    state: State
    words: str


@dataclass(frozen=True)
class Gates:
    """Each asked in order, all of them: an operator sees everything that is missing at once."""

    wanted: Wanted
    snapshot: Snapshot
    """Entries of both environments, and rollouts under way."""
    source: Site
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def entry(self) -> ModelEntry | None:
        return self.snapshot.find((self.wanted.model, self.wanted.version, self.wanted.source))

    async def run(self, say: Callable[[Gate], None]) -> bool:
        """Whether none failed."""
        found = []
        for name, reasons in (
            (f"{self.wanted.source} entry", self._entry),
            (f"{self.wanted.source} health", self._health),
            ("endpoint test", self._endpoint),
            ("registry", self._registry),
            ("evaluation", self._evaluation),
        ):
            state, words = await reasons()
            found.append(Gate(name=name, state=state, words=words))
            say(found[-1])
        return all(gate.state != "failed" for gate in found)

    async def _entry(self) -> Verdict:
        entry = self.entry
        if entry is None:
            there = ", ".join(e.version for e in self.snapshot.versions(self.wanted.model, self.wanted.source))
            known = f"there are: {there}" if there else f"no version of {self.wanted.model} is"
            return "failed", f"{self.wanted.model}@{self.wanted.version} is not in {self.wanted.source}; {known}"
        if not entry.is_enabled:
            return "failed", f"{entry.name} is {entry.status} in {self.wanted.source}; `manta registry enable` it first"
        return "passed", f"{entry.name} is enabled at {entry.endpoint}"

    async def _health(self) -> Verdict:
        if self.entry is None:
            return "skipped", "nothing to look at"
        try:
            gateway = await self.source.gateway()
        except MantaError as error:
            return "failed", str(error)
        if gateway is None:
            if self.entry.application is None:
                return "skipped", "straight on the database no gateway is asked; the endpoint test says more"
            return "failed", f"only a gateway sees {self.entry.endpoint}: set MANTA_URL to one of {self.wanted.source}"
        is_elsewhere = gateway.environment != self.wanted.source
        faults = list(_faults(self.snapshot, gateway, self.entry))
        if faults and is_elsewhere:
            # with one cluster for several environments its applications are seen all the same
            faults.append(f"asked was a gateway of {gateway.environment}: --from-url names one of {self.wanted.source}")
        return ("failed", "; ".join(faults)) if faults else ("passed", _well(gateway, self.entry))

    async def _endpoint(self) -> Verdict:
        if self.entry is None:
            return "skipped", "nothing to test"
        try:
            checked = await self.source.check(self.entry)
        except MantaError as error:
            return "failed", str(error)
        return "passed", "; ".join(f"{step}: {seen}" for step, seen in checked.steps.items())

    async def _registry(self) -> Verdict:
        faults = list(registry_faults(self.wanted, self.snapshot))
        if faults:
            return "failed", "; ".join(faults)
        known = ", ".join(sorted(self.wanted.require)) or "nothing"
        return "passed", f"{self.wanted.target} does not have it, no rollout is under way, required and known: {known}"

    async def _evaluation(self) -> Verdict:
        limits = self.wanted.evaluation
        if limits is None:
            return "skipped", "--no-evaluation"
        reason = shortfall(limits, self.now())
        return ("failed", reason) if reason else ("passed", f"nDCG@10 {figure(limits.report):.4f} >= {limits.least}")


def _faults(snapshot: Snapshot, gateway: Gateway, entry: ModelEntry) -> tuple[str, ...]:
    picture = Picture(
        environment=entry.environment,
        entries=snapshot.versions(entry.model, entry.environment),
        applications=gateway.applications,
        circuits=gateway.circuits if gateway.environment == entry.environment else {},
    )
    return tuple(entry_faults(picture, entry))


def _well(gateway: Gateway, entry: ModelEntry) -> str:
    application = next((one for one in gateway.applications if one.name == entry.application), None)
    if application:
        return f"application {application.name} is {application.status} with {application.running} replica(s)"
    return "its circuit is not open"


def registry_faults(wanted: Wanted, snapshot: Snapshot) -> Iterator[str]:
    there = snapshot.find((wanted.model, wanted.version, wanted.target))
    if there:
        yield (
            f"{wanted.target} has {there.name} already ({there.status}, weight {there.weight}): "
            f"go on from there with `manta rollout start {wanted.model} --to {wanted.version} "
            f"--environment {wanted.target}`"
        )
    for environment in (wanted.source, wanted.target):
        if rollout := snapshot.rollout(wanted.model, environment):
            yield (
                f"a rollout of {wanted.model} to {rollout.to_version} is under way in {environment}: "
                f"wait for its end, or `manta rollout rollback {wanted.model} --environment {environment}`"
            )
    serving = [e for e in snapshot.versions(wanted.model, wanted.target) if e.is_enabled and e.weight]
    entry = snapshot.find((wanted.model, wanted.version, wanted.source))
    if entry:
        yield from missing_facts(entry, wanted)
        if not wanted.may_do_less:
            yield from losses(entry, serving)
    if not serving and not wanted.at_once:
        yield (
            f"{wanted.target} has no version of {wanted.model} that takes requests, so there is nothing to compare "
            "with: --at-once gives it all of them"
        )


def missing_facts(entry: ModelEntry, wanted: Wanted) -> Iterator[str]:
    has_weights = entry.engine != "extractive" and entry.application is not None
    facts = {
        "licence": bool(entry.licence),
        "owner": bool(entry.owner),
        "digest": bool(entry.digest) or not has_weights,
        "signature": entry.signature == "verified" or not has_weights,
    }
    lacking = sorted(fact for fact in wanted.require if not facts[fact])
    if lacking:
        yield (
            f"{entry.name} has no {' and no '.join(lacking)} in {wanted.source}: register it again with it, "
            "or leave it out of --require"
        )


def losses(entry: ModelEntry, serving: list[ModelEntry]) -> Iterator[str]:
    for other in serving:
        if missing := sorted(other.capabilities - entry.capabilities):
            yield f"{entry.name} lacks {', '.join(missing)}, which {other.name} has (--may-do-less)"
        if entry.context_tokens < other.context_tokens:
            yield (
                f"{entry.name} holds {entry.context_tokens} tokens, {other.name} {other.context_tokens} (--may-do-less)"
            )
