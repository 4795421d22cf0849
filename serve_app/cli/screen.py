import json
import sys
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.cli.client import connect, told
from serve_app.cli.moderating import judged


def screen(
    text: Annotated[str, typer.Argument(help="What to judge; `-` reads it from standard input.")],
    output: Annotated[Literal["table", "json"], typer.Option(help="For readers, or as the service says it.")] = "table",
) -> None:
    """Judge a text as the service would a question: attacks, harm, personal data. Exit status 1 when it is refused."""
    given = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    read = given.decode("utf-8", "replace")
    with told():
        [verdict] = judged(connect(), [read])
    if output == "json":
        typer.echo(json.dumps(verdict, indent=2, ensure_ascii=False))
    else:
        show(Console(highlight=False), verdict, read)
    if verdict["flagged"]:
        raise typer.Exit(1)


def show(console: Console, verdict: dict[str, Any], text: str) -> None:
    said = (
        f"[bold red]refused by the policy {escape(verdict['policy'])}" if verdict["flagged"] else "[bold green]passes"
    )
    console.print(said)
    table = Table("category", "score", "")
    ranked = sorted(verdict["category_scores"].items(), key=lambda scored: (-scored[1], scored[0]))
    for name, score in ranked:
        is_over = verdict["categories"][name]
        remark = ("found" if name == "pii" else "over its threshold") if is_over else ""
        table.add_row(name, f"{score:.3f}", remark, style="red" if is_over else None)
    console.print(table)
    if verdict["pii"]:
        found = Table("personal data", "from", "to", "score", "text")
        for one in verdict["pii"]:
            place = str(one["start"]), str(one["end"])
            found.add_row(one["entity"], *place, f"{one['score']:.2f}", escape(text[one["start"] : one["end"]]))
        console.print(found)
