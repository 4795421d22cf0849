"""`manta validate`: whether a model can be used, in seven steps."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.cli.admin import Output, documented, sentences
from serve_app.cli.client import LOCAL_KEY, service_url
from serve_app.cli.deployment_sides import Where
from serve_app.cli.durations import seconds
from serve_app.cli.service import Service
from serve_app.cli.validate_target import ServiceTarget
from serve_app.registry.entry import Environment
from serve_app.validation.finding import State
from serve_app.validation.validation import Step, Validation

COLOURS: dict[State, str] = {"passed": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def validate(
    model: Annotated[str, typer.Option(help="The model, as callers ask for it.")],
    environment: Annotated[Environment, typer.Option()] = "development",
    version: Annotated[str, typer.Option(help="This version, not whichever takes the request.")] = "",
    url: Annotated[str, typer.Option(help="Of the service; without it MANTA_URL.")] = "",
    rayservice: Annotated[str, typer.Option("--rayservice", help="Look at this RayService too.")] = "",
    namespace: Annotated[str, typer.Option(help="Of the RayService; without it the context's.")] = "",
    wait: Annotated[str, typer.Option(help="For the service to become ready: 30s, 10m.")] = "30s",
    timeout: Annotated[str, typer.Option(help="For the answer.")] = "60s",
    output: Output = "table",
) -> None:
    """Check a model in seven steps: application, replicas, health, registry, inference, metrics, resources. Exit
    status 0 when none failed, 1 when one did, 2 for bad input or where nothing answers."""
    console = Console(highlight=False) if output == "table" else None
    begun = time.monotonic()
    with sentences():
        where = Where(environment=environment, model=model, rayservice=rayservice, namespace=namespace)
        steps = asyncio.run(
            validated(
                where,
                (url or service_url()).rstrip("/"),
                version,
                seconds(wait, "wait"),
                seconds(timeout, "timeout"),
                console,
            )
        )
    took_s = time.monotonic() - begun
    if console:
        console.print(summary(model, environment, steps, took_s), soft_wrap=True)
    else:
        documented(document(model, environment, version, steps, took_s))
    if any(step.state == "failed" for step in steps):
        raise typer.Exit(1)


async def validated(
    where: Where, url: str, version: str, wait_s: float, answer_s: float, console: Console | None
) -> Sequence[Step]:
    """Each step is shown once it is done."""
    service = Service.at(url, os.environ.get("MANTA_API_KEY", LOCAL_KEY))
    async with service.client:
        validation = Validation(
            ServiceTarget(service, where, answer_s),
            where.model,
            where.environment or "development",
            version,
            patience_s=wait_s,
        )
        return await validation.run(lambda step: console.print(row(step)) if console else None)


def row(step: Step) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=7)
    table.add_column(width=11)
    table.add_column(width=7, justify="right")
    table.add_column()
    spent = f"[dim]{step.seconds:.1f} s[/]"
    table.add_row(f"[{COLOURS[step.state]}]{step.state}[/]", step.name, spent, escape(step.finding.words))
    return table


def summary(model: str, environment: str, steps: Sequence[Step], took_s: float) -> str:
    counts = {state: sum(step.state == state for step in steps) for state in COLOURS}
    told = ", ".join(f"[{COLOURS[state]}]{number} {state}[/]" for state, number in counts.items() if number)
    return f"[bold]{escape(model)}[/] in {environment}: {told} in {took_s:.1f} s"


def document(model: str, environment: str, version: str, steps: Sequence[Step], took_s: float) -> dict[str, Any]:
    return {
        "model": model,
        "version": version or None,
        "environment": environment,
        "outcome": "failed" if any(step.state == "failed" for step in steps) else "passed",
        "seconds": round(took_s, 3),
        "steps": [{"step": step.name, **asdict(step.finding), "seconds": round(step.seconds, 4)} for step in steps],
    }
