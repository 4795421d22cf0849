"""`manta playbook`: the named entries of playbook stores, through the public API."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import openai
import typer
from openai.types import VectorStore, VectorStoreSearchResponse
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.cli.client import connect, told
from serve_app.cli.known_stores import known_store
from serve_app.playbook import KEY, NAME, is_playbook, key

MOST_FOUND = 50
MOST_VALUES = 256
"""Of one comparison in a filter."""

playbook_app = typer.Typer(no_args_is_help=True)
Stores = Annotated[str | None, typer.Option("--store", help="Id or name of one store; without it all playbook stores.")]
Output = Annotated[Literal["table", "json"], typer.Option(help="For readers, or for programs.")]


@playbook_app.command("list")
def list_entries(store: Stores = None, output: Output = "table") -> None:
    """List the entries that you may see. Exit status 1 when there is none."""
    with told():
        client = connect()
        rows = [
            {"name": _attribute(one, NAME), "store": place.name, "store_id": place.id, "source": one.filename}
            for place in _stores(client, store)
            for one in _entries(client, place)
        ]
    rows.sort(key=lambda row: key(row["name"]))
    if output == "json":
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        table = Table("name", "store", "source")
        for row in rows:
            table.add_row(*(escape(row[field]) for field in ("name", "store", "source")))
        Console(highlight=False).print(table)
    if not rows:
        raise typer.Exit(1)


@playbook_app.command()
def show(
    name: Annotated[str, typer.Argument(help="Case and spaces do not count.")],
    store: Stores = None,
) -> None:
    """Print an entry, whole, as an engine reads it."""
    with told():
        client = connect()
        found = [
            one
            for place in _stores(client, store)
            for one in client.vector_stores.search(place.id, query=name, max_num_results=MOST_FOUND).data
        ]
    exact = [one for one in found if _attribute(one, KEY) == key(name)]
    if not exact:
        near = ", ".join(repr(_attribute(one, NAME)) for one in found[:3])
        shown = f"near it are {near}" if near else "`manta playbook list` shows those there are"
        typer.secho(f"no playbook entry is named {name!r}: {shown}", err=True, fg="red")
        raise typer.Exit(2)
    for one in exact:
        typer.echo("\n".join(part.text for part in one.content))


def _stores(client: openai.OpenAI, wanted: str | None) -> list[VectorStore]:
    if wanted is not None:
        return [known_store(client, wanted)]
    return [store for store in client.vector_stores.list(limit=100) if is_playbook(store.metadata or {})]


def _entries(client: openai.OpenAI, store: VectorStore) -> Iterator[VectorStoreSearchResponse]:
    """All of a store: each search leaves out the names that the ones before brought."""
    seen: list[str] = []
    while True:
        known = [seen[start : start + MOST_VALUES] for start in range(0, len(seen), MOST_VALUES)]
        others = [{"type": "nin", "key": KEY, "value": names} for names in known]
        filters: Any = {"type": "and", "filters": [{"type": "gt", "key": KEY, "value": ""}, *others]}
        found = client.vector_stores.search(store.id, query="playbook", filters=filters, max_num_results=MOST_FOUND)
        fresh = [one for one in found.data if _attribute(one, KEY) not in seen]
        if not fresh:
            return
        yield from fresh
        seen += dict.fromkeys(_attribute(one, KEY) for one in fresh)


def _attribute(found: VectorStoreSearchResponse, name: str) -> str:
    return str((found.attributes or {}).get(name, ""))
