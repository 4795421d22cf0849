"""What the screener finds of the sentences in tests/, and how long it takes: `python -m benchmarks.pii`.

Reach on public rows stands in the model's own description (`manta pii show`): the shipped model has learned from them.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.adapters.presidio import PresidioScreener
from serve_app.policy import GuardrailSettings
from serve_app.training.names_verdicts import Verdicts
from serve_app.turn import Scope
from tests.names_marked import sentences

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "pii.json"
QUESTION = (
    "Hello, my name is Jane Kowalski and I live at 12 Station Road, Leeds. I ordered a table from Nordwind GmbH on "
    "Monday, but the parcel went to Herr Schneider in Hamburg instead. Please call me on 0171 2345678 or write to "
    "jane.k@example.com. My husband Peter can be reached too; the order is AB-123456."
)
"""300 characters with a finding in every sentence: the dear case."""


def main(
    repeats: Annotated[int, typer.Option(help="Times each text is screened.")] = 300,
    result: Annotated[Path, typer.Option(help="File to write.")] = RESULT,
) -> None:
    screener = PresidioScreener(GuardrailSettings())
    verdicts = Verdicts()
    for text, spans in sentences(ROOT / "tests" / "names_sentences.txt"):
        verdicts.add(text, spans, screener.examine(text).findings)
    page = (ROOT / "tests" / "names_technical.md").read_text(encoding="utf-8")
    verdicts.read("tests/names_technical.md", screener.examine(page).findings, page)
    prose = " ".join(text for text, _ in sentences(ROOT / "tests" / "names_sentences.txt"))
    long = (prose * 20)[:100_000]
    measured: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
        "presidio": version("presidio-analyzer"),
        "reach": verdicts.reach(),
        "precision": verdicts.precision(),
        "false_per_500_words": verdicts.false_per_500_words(),
        "question_ms": timed(lambda: screener.examine(QUESTION[:300]), repeats),
        "answer_ms": timed(lambda: screener.examine(QUESTION[:300], Scope(answer=True)), repeats),
        "names_100_kB_ms": timed(lambda: screener.examine(long), 5),
        "technical_100_kB_ms": timed(lambda: screener.examine((page * 40)[:100_000]), 5),
    }
    result.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))


def timed(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Wall clock and processor time of one call: the second is what other work on the machine leaves alone."""
    walls, processor = [], time.process_time()
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        walls.append((time.perf_counter() - started) * 1000)
    spent = (time.process_time() - processor) * 1000 / repeats
    quantiles = statistics.quantiles(walls, n=100) if repeats > 1 else walls * 99
    return {"p50": round(quantiles[49], 2), "p99": round(quantiles[98], 2), "processor_mean": round(spent, 2)}


if __name__ == "__main__":
    typer.run(main)
