"""Measures the extractive engine on real questions: how often it answers, how often it should not have.

    .venv/bin/python benchmarks/extractive.py [--show N]

Reads ../shared/data/eval and prints one JSON object; `--show N` prints N answers to read instead.
Passages are found by BM25 over the documents' excerpts, the first twenty ranked anew by the encoder.
"""

import argparse
import asyncio
import gzip
import json
import math
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_app.adapters.encoder import Encoder, ensure
from serve_app.documents.chunk import excerpts
from serve_app.documents.markdown import read_markdown
from serve_app.evidence import TERM
from serve_app.extractive import NOT_COVERED, ExtractiveEngine
from serve_app.settings import ExtractiveSettings
from serve_app.turn import Caller, Message, Passage, Turn

EVAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "eval"
TOP_K = 6
ABSTRACTS = 150


@dataclass
class Cached:
    """The encoder, asked once for each text."""

    encoder: Encoder
    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        for text in texts:
            if text not in self.rows:
                self.rows[text] = self.encoder.encode([text])[0]
        return np.stack([self.rows[text] for text in texts])


@dataclass
class Library:
    """Passages searched by BM25 (k1 1.2, b 0.75), then by meaning."""

    passages: Sequence[Passage]
    frequencies: Sequence[Counter[str]]
    documents: Counter[str]

    @classmethod
    def of(cls, passages: Sequence[Passage]) -> "Library":
        texts = (f"{passage.heading} {passage.text}" for passage in passages)
        frequencies = [Counter(TERM.findall(text.lower())) for text in texts]
        return cls(passages, frequencies, Counter(term for counts in frequencies for term in counts))

    async def search(self, question: str, encoder: Cached, without: str = "") -> tuple[Passage, ...]:
        asked = TERM.findall(question.lower())
        mean = statistics.mean(counts.total() for counts in self.frequencies)
        scored = sorted(
            (
                (self._bm25(asked, counts, mean), n)
                for n, counts in enumerate(self.frequencies)
                if self.passages[n].file_id != without
            ),
            reverse=True,
        )[:20]
        found = [self.passages[n] for _, n in scored]
        rows = await encoder.encode((question, *(f"{passage.heading}\n{passage.text}" for passage in found)))
        cosines = rows[1:] @ rows[0]
        mixed = [0.5 * max(0.0, float(c)) + 0.5 * s / (s + 12) for c, (s, _) in zip(cosines, scored, strict=True)]
        order = np.argsort(mixed)[::-1][:TOP_K]
        return tuple(replace(found[n], score=mixed[n]) for n in order)

    def _bm25(self, asked: Sequence[str], counts: Counter[str], mean: float) -> float:
        length = 1.2 * (0.25 + 0.75 * counts.total() / mean)
        total = len(self.frequencies)
        return sum(
            math.log(1 + (total - self.documents[term] + 0.5) / (self.documents[term] + 0.5))
            * (counts[term] * 2.2 / (counts[term] + length))
            for term in asked
            if counts[term]
        )


def lines(path: Path) -> Iterator[dict[str, object]]:
    content = path.read_bytes()
    for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines():
        yield json.loads(line)


def pages(wanted: frozenset[str], count: Callable[[str], int]) -> list[Passage]:
    """The excerpts of the wanted documentation pages."""
    found: list[Passage] = []
    for path in sorted((EVAL / "docs-corpus").glob("*.jsonl.gz")):
        for row in lines(path):
            if row["id"] in wanted:
                document = read_markdown(str(row["text"]), str(row["path"]), str(row["title"]))
                found += [
                    Passage(f"{row['id']}#{n}", e.text, 1.0, str(row["id"]), e.source, title=e.title, heading=e.heading)
                    for n, e in enumerate(excerpts(document, count=count, most_tokens=200))
                ]
    return found


def abstracts(count: Callable[[str], int]) -> list[Passage]:
    found: list[Passage] = []
    for _, row in zip(range(ABSTRACTS), lines(EVAL / "pubmedqa" / "corpus.jsonl"), strict=False):
        document = read_markdown(str(row["text"]), str(row["id"]), "")
        parts = excerpts(document, count=count, most_tokens=200)
        found += [Passage(f"{row['id']}#{n}", e.text, 1.0, str(row["id"]), e.source) for n, e in enumerate(parts)]
    return found


def supported(answer: str, passages: Sequence[Passage]) -> bool:
    """What stands before each marker [n] is made of stretches of passage n, white space apart."""
    parts = re.split(r"\[(\d+)\](?=\n\n|$)", answer)
    runs = zip(parts[0::2], parts[1::2], strict=False)
    return all(_made_of(squeezed(run), squeezed(passages[int(number) - 1].text)) for run, number in runs)


def squeezed(text: str) -> str:
    return "".join(re.sub(r"^\|( --- \|)+$", "", text, flags=re.MULTILINE).split())


def _made_of(said: str, text: str) -> bool:
    """Longest stretches first, each of at least eight characters."""
    while said:
        length = next((n for n in range(len(said), 7, -1) if said[:n] in text), 0)
        if not length:
            return False
        said = said[length:]
    return True


async def answer(engine: ExtractiveEngine, question: str, passages: tuple[Passage, ...]) -> str:
    turn = Turn(id="t", caller=Caller("t", "k"), messages=(Message("user", question),), model="extractive")
    events = [event async for event in engine.generate(turn.grounded(passages))]
    return "".join(getattr(event, "text", "") for event in events)


async def speed(encoder: Encoder, rows: Sequence[tuple[str, tuple[Passage, ...]]]) -> dict[str, float]:
    """Milliseconds to the first delta with and without the encoder in this process, microseconds of each later one."""

    async def encode(texts: tuple[str, ...]) -> NDArray[np.float32]:
        return encoder.encode(texts)

    figures: dict[str, float] = {}
    for mode, chosen in (("meaning", encode), ("words", None)):
        engine, firsts, later = ExtractiveEngine(ExtractiveSettings(), chosen, encoder.count), [], []
        for question, passages in rows:
            turn = Turn(id="t", caller=Caller("t", "k"), messages=(Message("user", question),), model="m", stream=True)
            started = time.perf_counter()
            times = [time.perf_counter() async for _ in engine.generate(turn.grounded(passages))]
            firsts.append(1e3 * (times[0] - started))
            later += [1e6 * (b - a) for a, b in pairwise(times[:-1])]
        figures |= {f"{mode} first delta p50 ms": round(statistics.median(firsts), 2)}
        figures |= {f"{mode} first delta p99 ms": round(float(np.quantile(firsts, 0.99)), 2)}
        figures |= {f"{mode} delta p50 us": round(statistics.median(later), 2)}
    return figures


async def measured(show: int) -> dict[str, object]:
    encoder = Encoder(ensure(Path(tempfile.gettempdir()) / "manta-encoder"), threads=2)
    cached = Cached(encoder)
    queries = list(lines(EVAL / "docs-corpus" / "heading_queries.jsonl"))
    asked = [q for q in queries if str(q["query"]).endswith("?")]
    howtos = [
        q for q in queries if str(q["query"]).split()[0] in ("Configure", "Install", "Deploy", "Create", "Enable")
    ]
    gold = {str(q["query"]): q["relevant"][0] for q in (*asked, *howtos)}  # type: ignore[index]
    docs = Library.of(pages(frozenset(gold.values()), encoder.count))
    medicine = Library.of(abstracts(encoder.count))
    asked_of_abstracts = list(lines(EVAL / "pubmedqa" / "queries.jsonl"))[:ABSTRACTS]
    clinical = {str(row["id"]): str(row["query"]) for row in asked_of_abstracts}
    faq, steps = (
        [str(q["query"]) for q in asked],
        [f"How do I {str(q['query'])[0].lower()}{str(q['query'])[1:]}?" for q in howtos],
    )
    sets: dict[str, list[tuple[str, tuple[Passage, ...]]]] = {
        "documentation questions": [(q, await docs.search(q, cached)) for q in faq],
        "how-to headings": [(q, await docs.search(q, cached)) for q in steps],
        "clinical questions": [(q, await medicine.search(q, cached)) for q in clinical.values()],
        "none: clinical over documentation": [(q, await docs.search(q, cached)) for q in clinical.values()],
        "none: documentation over abstracts": [(q, await medicine.search(q, cached)) for q in faq + steps],
        "near: clinical without its abstract": [(q, await medicine.search(q, cached, i)) for i, q in clinical.items()],
        "near: documentation without its page": [(q, await docs.search(q, cached, gold[q])) for q in faq],
    }
    result: dict[str, object] = {"speed": await speed(encoder, sets["documentation questions"])}
    for mode, encode in (("meaning", cached.encode), ("words", None)):
        engine = ExtractiveEngine(ExtractiveSettings(), encode, encoder.count)
        for name, rows in sets.items():
            answers = [await answer(engine, question, passages) for question, passages in rows]
            spoken = [(a, p) for a, (_, p) in zip(answers, rows, strict=True) if a != NOT_COVERED]
            result[f"{mode} | {name}"] = {
                "questions": len(rows),
                "answered": round(len(spoken) / len(rows), 3),
                "supported": round(sum(supported(a, p) for a, p in spoken) / (len(spoken) or 1), 3),
                "words p50": statistics.median(len(a.split()) for a, _ in spoken) if spoken else 0,
            }
            if show and mode == "meaning":
                for (question, _), text in list(zip(rows, answers, strict=True))[:: max(1, len(rows) // show)][:show]:
                    print(f"\n######## [{name}] {question}\n{text}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--show", type=int, default=0)
    if not EVAL.is_dir():
        sys.exit(f"the evaluation sets are missing: {EVAL} is not there")
    print(json.dumps(asyncio.run(measured(parser.parse_args().show)), indent=1))
