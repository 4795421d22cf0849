"""`manta search`: the passages a question finds, through the public API."""

import json
import re
from typing import Annotated, Any, Literal

import typer
from openai.types import VectorStoreSearchResponse
from rich.console import Console
from rich.markup import escape

from serve_app.cli.client import connect, told
from serve_app.cli.known_stores import known_store

_COMPARISON = re.compile(r"(?P<key>[^=!<>]+)(?P<sign>!=|>=|<=|=|>|<)(?P<value>.*)", re.DOTALL)
_COMPARATORS = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def search(
    query: Annotated[str, typer.Argument(help="A question, or words.")],
    store: Annotated[str, typer.Option(help="Id or name of the vector store.")] = "default",
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="key=value of an attribute, or with != > >= < <=; all that are given must hold."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=50, help="Most passages.")] = 10,
    least: Annotated[float, typer.Option(min=0, max=1, help="Least score of a passage.")] = 0,
    output: Annotated[Literal["table", "json"], typer.Option(help="For readers, or as the service says it.")] = "table",
) -> None:
    """Search a vector store. Exit status 1 when nothing is found."""
    asked: dict[str, Any] = {"filters": _filter(filters)} if filters else {}
    with told():
        client = connect()
        found = client.vector_stores.search(
            known_store(client, store).id,
            query=query,
            max_num_results=limit,
            ranking_options={"score_threshold": least},
            **asked,
        ).data
    if output == "json":
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2, ensure_ascii=False))
    else:
        _show(Console(highlight=False, soft_wrap=True), found)
    if not found:
        raise typer.Exit(1)


def _show(console: Console, found: list[VectorStoreSearchResponse]) -> None:
    for number, one in enumerate(found, start=1):
        ours = one.model_extra or {}
        place = ours.get("place") or one.filename
        page = f", page {ours['page']}" if ours.get("page") else ""
        console.print(f"[bold]{number}. {escape(place)}[/bold] ({escape(one.filename)}{page}, score {one.score:.2f})")
        for part in one.content:
            console.print(escape(part.text))
        console.print()
    if not found:
        console.print("nothing found")


def _filter(given: list[str]) -> dict[str, Any]:
    parts = [_comparison(one) for one in given]
    return parts[0] if len(parts) == 1 else {"type": "and", "filters": parts}


def _comparison(given: str) -> dict[str, Any]:
    """2024 is a number or the text of it, true a truth or a word: whichever the attribute holds."""
    read = _COMPARISON.fullmatch(given)
    if read is None:
        raise typer.BadParameter(f"--filter {given!r} is not key=value; other signs are != > >= < <=")
    kind = _COMPARATORS[read["sign"]]
    meant = [{"type": kind, "key": read["key"].strip(), "value": value} for value in _values(read["value"].strip())]
    if len(meant) == 1:
        return meant[0]
    return {"type": "and" if kind == "ne" else "or", "filters": meant}


def _values(text: str) -> tuple[str | float | bool, ...]:
    if text in {"true", "false"}:
        return (text == "true", text)
    return (float(text), text) if re.fullmatch(r"[+-]?\d+(?:\.\d+)?", text) else (text,)
