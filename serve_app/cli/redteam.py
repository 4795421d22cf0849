"""`manta redteam`: attacks on an endpoint, and a report of what became of them."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from serve_app.cli.client import LOCAL_KEY, service_url
from serve_app.redteam.figures import Gates, InvalidGates, load_gates, passed_over
from serve_app.redteam.gathering import OWN_NAME, gathered
from serve_app.redteam.markdown import markdown
from serve_app.redteam.page import page
from serve_app.redteam.report import MARKDOWN_NAME, PAGE_NAME, Run, percent, previous, written
from serve_app.redteam.run import Attempt, attack
from serve_app.redteam.suite import Probe, digest, limited
from serve_app.redteam.target import Target, TargetUnreachable, connection, reach

GATES = Path(__file__).parents[1] / "redteam" / "gates.yaml"
"""Those that come with Manta."""
INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""


def redteam(
    target: Annotated[str, typer.Option(help="Address of an OpenAI-compatible API; without it MANTA_URL.")] = "",
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the target's key.")] = "",
    model: Annotated[str, typer.Option(help="A model of the target; without it `auto`, or the first listed.")] = "",
    suite: Annotated[
        list[str] | None, typer.Option(help="File or folder of attacks (.jsonl .csv .yaml), or `own`; may be repeated.")
    ] = None,
    report: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("var/redteam"),
    config: Annotated[Path, typer.Option(help="Gates.")] = GATES,
    concurrency: Annotated[int, typer.Option(help="Attempts under way at a time.", min=1, max=256)] = 4,
    limit: Annotated[int | None, typer.Option(help="Most attempts of each family.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Draws what --limit keeps.")] = 0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer asked for.", min=1)] = 256,
    stream: Annotated[bool, typer.Option("--stream", help="Ask for streams: some guardrails let them pass.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for one answer.", min=1)] = 120,
) -> None:
    """Attack a service that speaks OpenAI's API. Exit status 1 when a gate is passed over, 2 without a target."""
    gates = _gates(config)
    found = gathered(suite or [OWN_NAME])
    probes = limited(found.probes, limit, seed)
    if not probes:
        _fail("; ".join(found.faults) or "--suite: there is nothing to try")
    address = target or service_url()
    trial = Trial(address, _key(address, key_env, is_ours=not target), model, max_tokens, timeout, concurrency, stream)
    run = trial.run(probes, seed, found.faults)
    if not run.attempts:
        _fail(run.notes[-1])
    if run.is_whole and gates is not None:
        run = replace(run, gates=passed_over(gates, run.families))
    _report(run, report)
    raise typer.Exit(_status(run))


@dataclass
class Trial:
    """How a target is spoken to, and what came of it so far: all of it is there when the run is cut short."""

    address: str
    key: str
    model: str
    max_tokens: int
    timeout_s: float
    concurrency: int
    streams: bool
    attempts: list[Attempt] = field(default_factory=list)
    target: Target | None = None

    def run(self, probes: Sequence[Probe], seed: int, faults: Sequence[str]) -> Run:
        begun, started, ending, is_interrupted = datetime.now(UTC), time.monotonic(), "", False
        try:
            asyncio.run(self._attack(probes))
        except KeyboardInterrupt:
            is_interrupted = True
            ending = f"interrupted after {len(self.attempts)} of {len(probes)} attempts"
        except TargetUnreachable as exc:
            ending = str(exc)
        order = {probe: place for place, probe in enumerate(probes)}
        left = self.target.left_behind if self.target else []
        return Run(
            target=self.address,
            model=self.target.model if self.target else self.model,
            planting=self.target.planting if self.target else "",
            begun=begun,
            seconds=time.monotonic() - started,
            seed=seed,
            digest=digest(probes),
            planned=len(probes),
            attempts=tuple(sorted(self.attempts, key=lambda attempt: order[attempt.probe])),
            is_interrupted=is_interrupted,
            notes=(
                *faults,
                *(f"could not be deleted from the target: {path}" for path in left),
                *filter(None, [ending]),
            ),
        )

    async def _attack(self, probes: Sequence[Probe]) -> None:
        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        async with connection(self.address, self.key, self.timeout_s) as client:
            self.target = await reach(client, self.model, self.max_tokens, streams=self.streams)
            if not console.is_terminal:
                typer.echo(f"attacking {self.target.model} with {len(probes)} attempts", err=True)
            with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as shown:
                task = shown.add_task(f"attacking {escape(self.target.model)}", total=len(probes))

                def record(attempt: Attempt) -> None:
                    self.attempts.append(attempt)
                    shown.advance(task)

                await attack(self.target, probes, self.concurrency, record)


def _gates(path: Path) -> Gates:
    try:
        return load_gates(path)
    except InvalidGates as exc:
        _fail(str(exc))


def _key(address: str, key_env: str, *, is_ours: bool) -> str:
    """The key of our own service goes to no other host: an address that was named gets only a key that was named."""
    if key_env:
        if key_env not in os.environ:
            _fail(f"--key-env: the variable {key_env} is not set; set it, or name another")
        return os.environ[key_env]
    if is_ours or urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1"):
        return os.environ.get("MANTA_API_KEY", LOCAL_KEY)
    return ""


def _report(run: Run, folder: Path) -> None:
    last, fault = previous(folder)
    told = replace(run, notes=(*run.notes, *filter(None, [fault])))
    try:
        written(told, folder, {MARKDOWN_NAME: markdown(told, last), PAGE_NAME: page(told, last)})
    except OSError as exc:
        _fail(f"--report: {folder} cannot be written: {exc.strerror}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(told))
    for note in told.notes:
        console.print(escape(note), style="yellow")
    for gate in told.gates or ():
        console.print(f"gate passed over: {escape(gate)}", style="red")
    console.print(f"report: {escape(str(folder / PAGE_NAME))} and {MARKDOWN_NAME}")


def _table(run: Run) -> Table:
    table = Table(show_header=True, header_style="bold")
    table.add_column("family", no_wrap=True)
    for heading in ("attempts", "errors", "attack success", "reached", "false refusals"):
        table.add_column(heading, justify="right")
    for family, found in run.families.items():
        shares = (percent(value) for value in (found.attack_success, found.reached, found.false_refusals))
        table.add_row(family, str(found.attempts), str(found.counts["error"]), *shares)
    return table


def _status(run: Run) -> int:
    if run.is_whole:
        return 1 if run.gates else 0
    return INTERRUPTED if run.is_interrupted else 2


def _fail(sentence: str) -> NoReturn:
    typer.secho(sentence, err=True, fg="red")
    raise typer.Exit(2)
