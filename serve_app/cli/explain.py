"""`manta explain`: why a request was answered as it was."""

import json
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.cli.client import connect, told
from serve_app.routing.explain import explained


def explain(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The answer's x-request-id.")],
    output: Annotated[Literal["table", "json"], typer.Option(help="In words, or the receipt itself.")] = "table",
) -> None:
    """Say who asked, what was screened, who was chosen to answer and why, what was tried, and what it took.

    A request of your own tenant, or with an admin's key of any. No prompt and no answer is in it.
    """
    with told():
        receipt: dict[str, Any] = connect().get(f"/receipts/{quote(request_id, safe='')}", cast_to=dict[str, Any])
    if output == "json":
        typer.echo(json.dumps(receipt, indent=2, ensure_ascii=False))
        return
    table = Table.grid("", "", padding=(0, 2))
    table.columns[0].style = "bold"
    for heading, words in explained(receipt):
        table.add_row(heading, escape(words))
    Console(highlight=False).print(table)
