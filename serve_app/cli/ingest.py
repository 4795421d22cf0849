"""`manta ingest`: files and folders into a vector store, through the public API."""

from pathlib import Path
from typing import Annotated

import openai
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from serve_app.cli.client import connect, told
from serve_app.cli.gathering import Found, gather
from serve_app.cli.uploading import Outcome, upload
from serve_app.documents.parse import KINDS


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help=f"Files or folders: {KINDS}, JSON lines packed as .jsonl.gz, too.")
    ],
    store: Annotated[
        str, typer.Option(help="Name or id of the vector store; it is made if it is not there.")
    ] = "default",
) -> None:
    """Read documents into the service, and say what was skipped and why. Exit status 1 when anything was."""
    found = gather(tuple(paths), Path.cwd())
    with told():
        outcomes = [*found.faults, *_ingest_all(connect(), store, found)]
    _print_summary(Console(), outcomes, found.ignored)
    if any(outcome.skipped for outcome in outcomes):
        raise typer.Exit(1)


def _ingest_all(client: openai.OpenAI, store: str, found: Found) -> list[Outcome]:
    if not found.files:
        return []
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    outcomes: list[Outcome] = []
    with Progress(*columns, rate, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("ingesting", total=len(found.files), rate="")
        for outcome in upload(client, store, found.files):
            outcomes.append(outcome)
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} files/s" if speed else "")
            if not console.is_terminal:
                console.print(_line(outcome), soft_wrap=True, markup=False, highlight=False)
    return outcomes


def _line(outcome: Outcome) -> str:
    said = f"{outcome.name}: {outcome.chunks} chunks" if outcome.chunks or not outcome.skipped else outcome.name
    return f"{said}, skipped: {outcome.skipped}" if outcome.skipped else said


def _print_summary(console: Console, outcomes: list[Outcome], ignored: int) -> None:
    whole = [outcome for outcome in outcomes if outcome.chunks]
    skipped = [outcome for outcome in outcomes if outcome.skipped]
    table = Table(show_header=True, header_style="bold")
    for heading in ("files", "chunks", "skipped", "ignored"):
        table.add_column(heading, justify="right")
    chunks = sum(outcome.chunks for outcome in outcomes)
    table.add_row(str(len(whole)), str(chunks), str(len(skipped)), str(ignored))
    console.print(table)
    for outcome in skipped:
        console.print(f"skipped {outcome.name}: {outcome.skipped}", soft_wrap=True, markup=False, highlight=False)
    if ignored:
        console.print(f"ignored {ignored} files of other kinds", highlight=False)
