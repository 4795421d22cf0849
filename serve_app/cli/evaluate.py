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
from serve_app.evaluation.report import OURS, Evaluation, figure_rows
from serve_app.evaluation.retrieval import DEPTH, RESULTS, Asked, Question, ask, corpus_of, digest, questions_of
from serve_app.evaluation.writing import written

eval_app = typer.Typer(help="Measure the running service.", no_args_is_help=True)
ROWS_IN_A_FILE = 500

Queries = Annotated[Path, typer.Option(help='Lines {"id", "query", "relevant": [ids of documents]}; .jsonl or .gz.')]
Corpus = Annotated[list[Path], typer.Option(help='Lines {"id", "text", "title"}; files or folders. Ingested once.')]
Report = Annotated[Path, typer.Option(help="Folder for retrieval.json, .md and .html.")]
Limit = Annotated[int | None, typer.Option(help="Ask a sample of so many questions, the same every time.")]
Least = Annotated[float | None, typer.Option(help="Exit status 1 where nDCG@10 stays below this.")]
Behind = Annotated[
    float | None, typer.Option(help="Exit status 1 where nDCG@10 is so much below the better of the two searches.")
]
Compare = Annotated[bool, typer.Option(help="Ask three times: of both searches, by meaning alone, by words alone.")]

WAYS: Mapping[str, Mapping[str, Any]] = {
    OURS: {},
    "meaning": {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}},
    "words": {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}},
}
"""OpenAI's `ranking_options`, by the way of searching."""


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
    queries: Queries,
    corpus: Corpus,
    report: Report = Path("report"),
    limit: Limit = None,
    least: Least = None,
    behind: Behind = None,
    compare: Compare = True,
) -> None:
    """Ask questions with known answers of a store that holds the corpus, and report nDCG, recall and time."""
    try:
        questions, documents = questions_of(queries, limit), corpus_of(corpus)
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}", error)
    except ValueError as error:
        fail(str(error), error)
    if behind is not None and not compare:
        raise typer.BadParameter("--behind needs the comparison; leave --no-compare out")
    with told():
        client = connect()
        store = stored(client, documents)
        ways = {way: answers(client, store, questions, way) for way in (WAYS if compare else (OURS,))}
    evaluation = Evaluation(
        target=service_url(),
        corpus=digest(documents),
        documents=len(documents),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        ways=ways,
    )
    written(evaluation, report)
    shown(evaluation, report)
    if reason := shortfall(evaluation, least, behind):
        Console(stderr=True).print(reason, style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def answers(client: openai.OpenAI, store: str, questions: Sequence[Question], way: str) -> list[Asked]:
    asked = ask(questions, lambda text: found(client, store, text, WAYS[way]))
    return list(track(asked, f"asking: {way}", len(questions)))


def shown(evaluation: Evaluation, report: Path) -> None:
    console = Console()
    heads, rows = figure_rows(evaluation)
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if evaluation.verdict:
        console.print(evaluation.verdict, highlight=False)
    console.print(f"{report / 'retrieval.html'}", highlight=False, soft_wrap=True)


def shortfall(evaluation: Evaluation, least: float | None, behind: float | None) -> str:
    """Why the search is not good enough; empty where it is."""
    ndcg = evaluation.figures[OURS][f"ndcg@{DEPTH}"].mean
    if least is not None and ndcg < least:
        return f"nDCG@{DEPTH} is {ndcg:.4f}, below the {least} asked for"
    compared = evaluation.comparison
    if behind is not None and compared is not None and -compared.difference.mean > behind:
        return f"nDCG@{DEPTH} is {-compared.difference.mean:.4f} below that of {compared.better} alone, over {behind}"
    return ""


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


def found(client: openai.OpenAI, store: str, text: str, ranking: Mapping[str, Any]) -> Sequence[str]:
    """Ids of the documents of the results, best first."""
    options = {"ranking_options": dict(ranking)} if ranking else {}
    results = client.vector_stores.search(store, query=text, max_num_results=RESULTS, extra_body=options)
    return [str((result.attributes or {}).get("id", result.filename)) for result in results]
