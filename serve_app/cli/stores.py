"""`manta stores`: what is in the vector stores, and their end."""

import json
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer
from openai.types import VectorStore
from openai.types.vector_stores import VectorStoreFile
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from serve_app.cli.client import connect, told
from serve_app.cli.known_stores import known_store

stores_app = typer.Typer(no_args_is_help=True)
Store = Annotated[str, typer.Argument(help="Id or name of the vector store.")]
Output = Annotated[Literal["table", "json"], typer.Option(help="For readers, or as the service says it.")]


@stores_app.command("list")
def list_stores(output: Output = "table") -> None:
    """List your vector stores, the newest first."""
    with told():
        stores = list(connect().vector_stores.list(limit=100))
    if output == "json":
        typer.echo(json.dumps([store.model_dump(mode="json") for store in stores], indent=2, ensure_ascii=False))
        return
    table = Table("id", "name", "files", "waiting", "failed", "size", "made")
    for store in stores:
        table.add_row(store.id, escape(store.name or ""), *_numbers(store))
    Console(highlight=False).print(table)


@stores_app.command()
def show(store: Store, output: Output = "table") -> None:
    """Show a vector store and every file in it, with its status and why it is not there whole."""
    with told():
        client = connect()
        shown = known_store(client, store)
        files = list(client.vector_stores.files.list(shown.id, limit=100))
    if output == "json":
        facts = {**shown.model_dump(mode="json"), "files": [file.model_dump(mode="json") for file in files]}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{escape(shown.name or '')}[/bold] {shown.id}", soft_wrap=True)
    for line in _about(shown):
        console.print(escape(line), soft_wrap=True)
    table = Table("file", "status", "chunks", "size", "attributes", "reason")
    for file in files:
        table.add_row(*(escape(cell) for cell in _cells(file)), style="red" if file.status == "failed" else None)
    console.print(table)


@stores_app.command()
def delete(
    store: Store,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a vector store and all that was indexed in it; the files stay files."""
    with told():
        client = connect()
        doomed = known_store(client, store)
        total = doomed.file_counts.total
        if not yes:
            typer.confirm(f"Delete {doomed.name!r} ({doomed.id}) with {total} file(s)?", abort=True)
        client.vector_stores.delete(doomed.id)
    typer.echo(f"{doomed.id}: deleted")


def _about(store: VectorStore) -> list[str]:
    """What its owner said of it, and when it ends."""
    lines = [str((store.model_extra or {}).get("description") or "")]
    if store.expires_at:
        lines.append(f"ends {_minute(store.expires_at)} unless it is used before")
    return [line for line in lines if line]


def _minute(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _numbers(store: VectorStore) -> tuple[str, ...]:
    counts = store.file_counts
    made = _minute(store.created_at)
    numbers = (counts.completed, counts.in_progress, counts.failed)
    return (*map(str, numbers), decimal(store.usage_bytes), made)


def _cells(file: VectorStoreFile) -> tuple[str, ...]:
    ours = file.model_extra or {}
    attributes = ", ".join(f"{key}={value}" for key, value in (file.attributes or {}).items())
    reason = file.last_error.message if file.last_error else ""
    chunks = str(ours.get("chunk_count", ""))
    return (str(ours.get("filename", file.id)), file.status, chunks, decimal(file.usage_bytes), attributes, reason)
