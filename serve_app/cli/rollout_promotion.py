"""`manta rollout promote`: all requests to a new version; with `--from` and `--to`, a version into another environment
by gates and steps that are undone when one fails."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from serve_app.cli.admin import Reached, confirmed
from serve_app.cli.client import LOCAL_KEY
from serve_app.cli.remote_rollouts import ServiceSite, rollouts_of, site_of
from serve_app.cli.service import Service
from serve_app.deployed.gateway import Site
from serve_app.errors import InvalidRequest, NotFound
from serve_app.promotion.evaluation import Limits
from serve_app.promotion.gates import Gate, Gates, Requirement, Wanted
from serve_app.promotion.promotion import Promotion
from serve_app.promotion.undoing import Said, Undone, carry_out
from serve_app.registry.entry import Environment
from serve_app.rollout.operations import Plan

MARKS = {
    "passed": "[green]passed [/]",
    "failed": "[bold red]failed [/]",
    "skipped": "[yellow]skipped[/]",
    "done": "[green]done   [/]",
    "undone": "[yellow]undone [/]",
    "left": "[bold white on red]NOT UNDONE[/]",
}
INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""
STATUS = {"promoted": 0, "refused": 2, "undone": 2, "left": 2, "interrupted": INTERRUPTED}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A promotion as it was written on the command line."""

    model: str
    source: Environment
    target: Environment
    version: str | None = None
    endpoint: str = ""
    evaluation: Path | None = None
    no_evaluation: bool = False
    least: float | None = None
    newest_s: float = 30 * 86_400
    require: frozenset[Requirement] = frozenset({"licence", "digest"})
    may_do_less: bool = False
    at_once: bool = False
    steps: tuple[int, ...] = (5, 25, 50, 100)
    hold_s: float = 600
    shadow_percent: int = 0
    source_url: str = ""
    why: str = ""

    def check(self) -> None:
        """Raises InvalidRequest for options that do not go together."""
        if self.source == self.target:
            raise InvalidRequest(f"to: {self.target} is where it comes from; name another environment")
        if (self.evaluation is None) != self.no_evaluation:
            raise InvalidRequest(
                "evaluation: name the report of an evaluation (`manta eval retrieval` writes report/retrieval.json), "
                "or say --no-evaluation"
            )
        if (self.evaluation is None) != (self.least is None):
            raise InvalidRequest("least: say the least nDCG@10 that the report of --evaluation must have, as in 0.9")

    @property
    def limits(self) -> Limits | None:
        if self.evaluation is None or self.least is None:
            return None
        return Limits(report=self.evaluation, least=self.least, newest=timedelta(seconds=self.newest_s))

    @property
    def plan(self) -> Plan:
        return Plan(
            model=self.model,
            environment=self.target,
            to_version=self.version or "",
            steps=self.steps,
            hold_s=self.hold_s,
            shadow_percent=self.shadow_percent,
        )


@dataclass
class Told:
    """What was said on the way: line by line for readers, or kept for one JSON document."""

    console: Console | None
    gates: list[Gate] = field(default_factory=list)
    steps: list[Said] = field(default_factory=list)
    left: tuple[Said, ...] = ()

    def title(self, words: str) -> None:
        if self.console:
            self.console.print(f"[bold]{escape(words)}[/]", soft_wrap=True)

    def gate(self, gate: Gate) -> None:
        self.gates.append(gate)
        self._line(gate.state, gate.name, gate.words)

    def step(self, said: Said) -> None:
        self.steps.append(said)
        self._line(said.state, said.step, said.words)

    def _line(self, state: str, name: str, words: str) -> None:
        if self.console:
            shown = f"  {MARKS[state]} {escape(name)}" + (f": {escape(words)}" if words else "")
            self.console.print(shown, soft_wrap=True)

    def document(self, outcome: str) -> dict[str, Any]:
        return {
            "outcome": outcome,
            "gates": [asdict(gate) for gate in self.gates],
            "steps": [asdict(step) for step in self.steps],
            "left": [asdict(step) for step in self.left],
        }


async def promoted(there: Reached, asked: Asked, told: Told, yes: bool) -> str:
    """promoted; refused by a gate; undone or interrupted: nothing is changed; left: something is, and was told."""
    asked.check()
    promotion = Promotion(
        wanted=await _wanted(there, asked),
        registry=there.registry,
        rollouts=rollouts_of(there),
        target=site_of(there),
        who=there.who,
        why=asked.why or f"promotion from {asked.source}",
        plan=asked.plan,
    )
    wanted, before = promotion.wanted, await promotion.snapshot()
    told.title(f"{wanted.model}@{wanted.version} from {wanted.source} to {wanted.target}: gates")
    async with _source(there, asked.source_url) as source:
        if not await Gates(wanted, before, source).run(told.gate):
            return "refused"
    share = "all" if wanted.at_once else f"{asked.steps[0] if asked.steps else 0} %"
    confirmed(f"Send {share} of {wanted.model}'s requests in {wanted.target} to version {wanted.version}?", yes)
    told.title("steps")
    try:
        with interruptible():
            await carry_out(promotion.steps(before), told.step)
    except Undone as undone:
        told.left = undone.left
        return "left" if undone.left else "interrupted" if undone.is_interrupted else "undone"
    return "promoted"


async def _wanted(there: Reached, asked: Asked) -> Wanted:
    return Wanted(
        model=asked.model,
        version=asked.version or await _serving(there, asked.model, asked.source),
        source=asked.source,
        target=asked.target,
        endpoint=asked.endpoint.rstrip("/"),
        require=asked.require,
        may_do_less=asked.may_do_less,
        at_once=asked.at_once,
        evaluation=asked.limits,
    )


async def _serving(there: Reached, model: str, environment: str) -> str:
    """The version that takes most of the model's requests there. Raises where none or several do."""
    found = [one for one in await there.registry.entries(model=model, environment=environment) if one.is_enabled]
    most = max((one.weight for one in found), default=0)
    versions = [one.version for one in found if one.weight == most]
    if not versions:
        raise NotFound(f"model: no version of {model!r} is enabled in {environment}; `manta registry list` shows all")
    if len(versions) > 1:
        raise InvalidRequest(f"version: {' and '.join(versions)} take as many requests in {environment}; say --version")
    return versions[0]


@asynccontextmanager
async def _source(there: Reached, url: str) -> AsyncIterator[Site]:
    """The gateway of the environment it comes from, where that is another one."""
    if not url:
        yield site_of(there)
        return
    key = os.environ.get("MANTA_FROM_API_KEY") or os.environ.get("MANTA_API_KEY", LOCAL_KEY)
    service = Service.at(url.rstrip("/"), key)
    async with service.client:
        yield ServiceSite(service)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM cancel the task that runs in here, however often: what is undone then is undone whole.

    asyncio's own way would end the process at the second Ctrl-C, in the middle of it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in signals]
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
