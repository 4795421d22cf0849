from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import openai
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from serve_app.cli.client import connect, told
from serve_app.cli.moderating import judged
from serve_app.cli.reading import READERS
from serve_app.cli.redacting import Redacted, redacted
from serve_app.turn import Finding


def redact(
    file: Annotated[Path, typer.Argument(help=f"What to redact: {' '.join(READERS)}")],
    output: Annotated[Path | None, typer.Option(help="Where to write; without it FILE.redacted.EXT.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write over a file that is there.")] = False,
    keep: Annotated[list[str] | None, typer.Option(help="Entities to leave as they are, such as GPE.")] = None,
) -> None:
    """Write a copy of a file with its personal data replaced by <KIND_n>, the same value by the same name."""
    target = output or file.with_suffix(f".redacted{file.suffix}")
    text = read(file)
    if target.exists() and not yes:
        raise typer.BadParameter(f"{target} is there already: say --yes to write over it, or name another --output")
    client = connect()
    try:
        with told():
            done = redacted(text, file.suffix.lower(), lambda texts: found(client, texts, frozenset(keep or ())))
    except ValueError as fault:
        raise typer.BadParameter(f"{file}: {fault}") from fault
    try:
        target.write_bytes(done.text.encode())
    except OSError as fault:
        raise typer.BadParameter(f"{target} cannot be written: {fault.strerror or fault}") from fault
    show(Console(highlight=False, soft_wrap=True), done, file, target)


def read(file: Path) -> str:
    """Raises BadParameter with the reason a file cannot be redacted."""
    if file.suffix.lower() not in READERS:
        raise typer.BadParameter(f"{file} is no text file known here; redact one of {' '.join(READERS)}")
    try:
        # As bytes: line ends of every kind must be those of the copy.
        return file.read_bytes().decode()
    except UnicodeDecodeError as fault:
        raise typer.BadParameter(f"{file} is not UTF-8 (byte {fault.start}); convert it first") from fault
    except OSError as fault:
        raise typer.BadParameter(f"{file} cannot be read: {fault.strerror or fault}") from fault


def found(client: openai.OpenAI, texts: Sequence[str], keep: frozenset[str]) -> Iterator[tuple[Finding, ...]]:
    console = Console(stderr=True)
    results = judged(client, texts)
    for result in track(results, "redacting", len(texts), console=console, disable=not console.is_terminal):
        spans = (one for one in result["pii"] if one["entity"] not in keep)
        yield tuple(Finding(one["entity"], one["start"], one["end"], one["score"]) for one in spans)


def show(console: Console, done: Redacted, file: Path, target: Path) -> None:
    if not done.places:
        console.print(f"nothing was found in {file}: {target} is the same text", markup=False)
        return
    table = Table("entity", "values", "places")
    for kind, places in sorted(done.places.items()):
        table.add_row(kind, str(done.values[kind]), str(places))
    console.print(table)
    console.print(f"{target} is written", markup=False)
