"""`manta eval`: how good the service is at something, measured through its public API."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from serve_app.cli.client import connect, fail, service_url, told
from serve_app.cli.uploading import upload
from serve_app.evaluation.report import HEADS, Evaluation, written
from serve_app.evaluation.retrieval import RESULTS, ask, corpus_of, digest, questions_of

eval_app = typer.Typer(help="Measure the running service.", no_args_is_help=True)
ROWS_IN_A_FILE = 500

Queries = Annotated[Path, typer.Option(help='Lines {"id", "query", "relevant": [ids of documents]}; .jsonl or .gz.')]
Corpus = Annotated[list[Path], typer.Option(help='Lines {"id", "text", "title"}; files or folders. Ingested once.')]
Report = Annotated[Path, typer.Option(help="Folder for retrieval.json, .md and .html.")]
Limit = Annotated[int | None, typer.Option(help="Ask a sample of so many questions, the same every time.")]
Least = Annotated[float | None, typer.Option(help="Exit status 1 where nDCG@10 stays below this.")]


@dataclass(frozen=True, slots=True)
class Rows:
    """A stretch of the corpus as a file to upload."""

    name: str
    documents: tuple[Mapping[str, Any], ...]

    def content(self) -> bytes:
        kept = ("id", "text", "title", "url")
        lines = ({name: row[name] for name in kept if name in row} for row in self.documents)
        return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode("utf-8", "replace")


@eval_app.callback()
def main() -> None:
    """Measure the running service."""


@eval_app.command()
def retrieval(
    queries: Queries, corpus: Corpus, report: Report = Path("report"), limit: Limit = None, least: Least = None
) -> None:
    """Ask questions with known answers of a store that holds the corpus, and report nDCG, recall and time."""
    console = Console()
    try:
        questions, documents = questions_of(queries, limit), corpus_of(corpus)
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}", error)
    except ValueError as error:
        fail(str(error), error)
    with told():
        client = connect()
        store = stored(client, documents)
        asked = list(track(ask(questions, lambda text: found(client, store, text)), "asking", len(questions)))
    evaluation = Evaluation(
        target=service_url(),
        corpus=digest(documents),
        documents=len(documents),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        ways={"both": asked},
    )
    figures = written(evaluation, report)
    table = Table(*HEADS)
    for way, by in figures.items():
        for name, figure in by.items():
            table.add_row(way, name, f"{figure.mean:.4f}", f"{figure.low:.4f} to {figure.high:.4f}")
    console.print(table)
    console.print(f"{report / 'retrieval.html'}", highlight=False)
    ndcg = figures["both"]["ndcg@10"].mean
    if least is not None and ndcg < least:
        console.print(f"nDCG@10 is {ndcg:.4f}, below the {least} asked for", style="red")
        raise typer.Exit(1)


def stored(client: openai.OpenAI, documents: Mapping[str, Mapping[str, Any]]) -> str:
    """The store that holds this corpus; ingested first where it does not."""
    name = f"eval-{digest(documents)}"
    rows = list(documents.values())
    parts = range(0, len(rows), ROWS_IN_A_FILE)
    files = tuple(Rows(f"{name}-{start}.jsonl", tuple(rows[start : start + ROWS_IN_A_FILE])) for start in parts)
    known = next((store for store in client.vector_stores.list(limit=100) if store.name == name), None)
    if known is not None and known.file_counts.completed == len(files):
        return known.id
    for outcome in track(upload(client, name, files), "ingesting", len(files)):
        if outcome.skipped and not outcome.chunks:
            raise typer.BadParameter(f"{outcome.name} could not be ingested: {outcome.skipped}")
    return next(store.id for store in client.vector_stores.list(limit=100) if store.name == name)


def found(client: openai.OpenAI, store: str, text: str) -> Sequence[str]:
    """Ids of the documents of the results, best first."""
    results = client.vector_stores.search(store, query=text, max_num_results=RESULTS)
    return [str((result.attributes or {}).get("id", result.filename)) for result in results]
