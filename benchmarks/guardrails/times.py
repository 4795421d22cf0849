"""Milliseconds of a question and of a long text, and what a streamed answer waits for."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.guardrails.figures import Figure
from benchmarks.guardrails.judges import ROOT, Local, Service
from benchmarks.guardrails.sets import PAGES, texts
from serve_app.turn import Scope

RESULTS = ROOT / "benchmarks" / "results"
CALLS = 300
SENTENCES = (
    "We moved the small model to the second node last week and since then about one answer in ten stops early.",
    "Ms Anna Keller from support saw it first, with the long reports that the finance team sends on Mondays.",
    "What should I look at before I change the context length, and does a restart lose the answers under way?",
    "The dashboard shows no error, only a queue that grows until the replica is replaced by a fresh one.",
    "Please answer to anna.keller@example.com, or call +49 30 901820 before Thursday at noon.",
)


def times(folder: Path, local: Local) -> list[Figure]:
    async def together(text: str) -> None:
        await asyncio.gather(local.screener.screen((text,), Scope()), local.classifier.classify(text))

    group, runner = "Time, one client", local.runner
    questions = [question(number) for number in range(CALLS)]
    figures = [
        *spent(
            group, "screener, 300 characters", questions, lambda q: runner.run(local.screener.screen((q,), Scope())), 8
        ),
        *spent(
            group,
            "encoder and heads, 300 characters",
            questions,
            lambda q: runner.run(local.classifier.classify(q)),
            12,
        ),
        *spent(group, "both together", questions, lambda q: runner.run(together(q)), 14),
    ]
    batch = seconds(lambda: local.judge(questions[:256])) * 1000
    figures.append(Figure(group, "256 questions in one call", batch, 1, unit="ms"))
    if page_text := "\n\n".join(text for site in PAGES for text in texts(folder, site))[:100_000]:
        screened = seconds(lambda: runner.run(local.screener.screen((page_text,), Scope()))) * 1000
        scored = seconds(lambda: runner.run(local.classifier.score((page_text,)))) * 1000
        figures.append(Figure(group, "screener, 100,000 characters of pages", screened, 1, 250, False, unit="ms"))
        figures.append(Figure(group, "heads, 100,000 characters of pages", scored, 1, 250, False, unit="ms"))
    return figures


def question(number: int) -> str:
    """300 characters, no two of them the same, so that nothing is remembered."""
    turned = SENTENCES[number % 5 :] + SENTENCES[: number % 5]
    return f"Case {number}: {' '.join(turned)}"[:300]


def spent(
    group: str, name: str, questions: Sequence[str], work: Callable[[str], object], asked: float | None
) -> list[Figure]:
    """p50 and p99 by the clock, and the mean time on the CPU, which a busy machine does not stretch as much."""
    for warm in questions[:30]:
        work(warm)
    on_cpu, taken = time.process_time(), [seconds(lambda q=q: work(q)) * 1000 for q in questions]
    cpu_ms = (time.process_time() - on_cpu) * 1000 / len(taken)
    cuts = statistics.quantiles(taken, n=100)
    note = f"{cpu_ms:.1f} ms on the CPU, all threads"
    return [
        Figure(group, f"{name}, p50", cuts[49], len(taken), asked, False, unit="ms", note=note),
        Figure(group, f"{name}, p99", cuts[98], len(taken), unit="ms"),
    ]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def round_trips(service: Service) -> list[Figure]:
    questions = [question(number) for number in range(CALLS)]
    return spent(
        "Time, one client", "POST /v1/moderations, 300 characters", questions, lambda q: service.judge([q]), None
    )


def streams() -> list[Figure]:
    """From the last run of benchmarks/streams.py."""
    path, group = RESULTS / "streams.json", "Streamed answers"
    if not path.is_file():
        return [Figure(group, "leaked characters", None, asked=0, is_floor=False, note="run benchmarks/streams.py")]
    found = json.loads(path.read_text())
    leaked, wait = sum(found["leaked_characters"].values()), found["ms_of_a_delta_that_was_screened"]
    return [
        Figure(group, "leaked characters", leaked, found["streams"], 0, False, unit="characters"),
        Figure(group, "hold-back by screening, p50", wait["p50"], found["streams"], 30, False, unit="ms"),
        Figure(group, "hold-back by screening, p99", wait["p99"], found["streams"], unit="ms"),
    ]
