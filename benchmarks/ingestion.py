"""How fast documents become searchable, beside the encoder alone; what questions notice of it; and how much memory it
takes; written to `results/ingestion.*`.

Everything is real and in this process: library, catalog, Milvus Lite, encoder, inspector; documents are parsed in the
parser's own process. Pages are made of the paragraphs of a folder (`--texts`, without it the documentation of this
repository and its dependencies). What is compared is measured in turns, so that other work on the machine falls on all.

    python -m benchmarks.ingestion [throughput] [questions] [memory]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.milvus import MilvusIndex
from serve_app.classifier import EmbeddedClassifier
from serve_app.documents.records import Paging, Wish
from serve_app.library import Library
from serve_app.milvus_settings import MilvusSettings
from serve_app.ports import Query
from serve_app.settings import RetrieverSettings, asset
from serve_app.turn import Caller

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TENANT = "benchmark"
PARTS = ("throughput", "questions", "memory")
ROUNDS = 4
PAGES = 16
"""Of one round."""
PAGE_CHARACTERS = 4_000
SHORT_CHARACTERS = 450
"""Of each of the many pages that memory is measured with: one chunk."""
QUESTIONS = 20
"""Of one round, idle; and as many as the ingestion of a round leaves time for, one every ASKED_EVERY_S."""
ASKED_EVERY_S = 0.15


@dataclass
class Measured:
    """The classifier, and what it was asked and how long that took."""

    classifier: EmbeddedClassifier
    texts: list[str] = field(default_factory=list)
    passages: list[str] = field(default_factory=list)

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        self.texts += texts
        return await self.classifier.encode(texts)

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        self.passages += texts
        return await self.classifier.inspect(texts)


@dataclass(frozen=True)
class Clock:
    """Wall time, and processor time of this process, which other work on the machine does not stretch as much."""

    wall: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def spent(self) -> NDArray[np.float64]:
        return np.array([time.perf_counter() - self.wall, time.process_time() - self.processor])


def paragraphs(folder: Path | None) -> list[str]:
    places = [folder] if folder else [ROOT, Path(np.__file__).parents[1]]
    files = [path for place in places for path in sorted(place.rglob("*")) if path.suffix in {".md", ".txt", ".rst"}]
    texts = (path.read_text(encoding="utf-8", errors="replace")[:100_000] for path in files[:2_000])
    return [part.strip() for text in texts for part in text.split("\n\n") if 120 < len(part) < 1_200]


def pages(parts: Iterator[str], count: int, characters: int, name: str) -> list[tuple[str, bytes]]:
    """(name, Markdown), with a heading for each paragraph."""
    made = []
    for number in range(count):
        text = f"# {name} {number}\n"
        while len(text) < characters:
            text += f"\n## Part {len(text)}\n\n{next(parts)}\n"
        made.append((f"{name}/{number}.md", text.encode()))
    return made


@asynccontextmanager
async def opened(folder: Path, measured: Measured, *, inspects: bool) -> AsyncIterator[tuple[Library, str]]:
    """A library in `folder`, and the id of its one store."""
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{folder}/catalog.db",
        files_path=str(folder / "files"),
        milvus=MilvusSettings(uri=str(folder / "milvus.db")),
    )
    index = MilvusIndex(settings.milvus)
    await index.open()
    inspect = measured.inspect if inspects else None
    library = Library(Catalog(settings.catalog_url), index, measured.encode, settings, inspect=inspect)
    await library.open()
    try:
        yield library, (await library.create_store(TENANT, "pages")).id
    finally:
        await library.close()
        await index.close()


async def attach(library: Library, store: str, documents: Sequence[tuple[str, bytes]]) -> None:
    kept = [await library.create_file(TENANT, name, content, "assistants") for name, content in documents]
    for start in range(0, len(kept), 2_000):
        await library.attach_batch(TENANT, store, {file.id: Wish() for file in kept[start : start + 2_000]})


async def throughput(folder: Path, parts: Iterator[str], measured: Measured) -> dict[str, Any]:
    """Ingestion with and without inspection, the encoder and the inspector alone, in turns on the same chunks."""
    spent = {name: np.zeros(2) for name in ("ingestion", "ingestion, inspected", "encoder", "inspector")}
    chunks = {name: 0 for name in spent}
    async with (
        opened(folder / "plain", measured, inspects=False) as plain,
        opened(folder / "inspected", measured, inspects=True) as inspected,
    ):
        for number in range(-1, ROUNDS):  # the first is not counted
            documents = pages(parts, PAGES, PAGE_CHARACTERS, f"round {number}")
            took = {}
            for name, (library, store) in (("ingestion", plain), ("ingestion, inspected", inspected)):
                measured.texts.clear()
                measured.passages.clear()
                clock = Clock()
                await attach(library, store, documents)
                await library.drained()
                took[name] = clock.spent()
            texts, passages = sorted(measured.texts, key=len), tuple(measured.passages)
            clock = Clock()
            await measured.classifier.encode(tuple(texts))
            took["encoder"], clock = clock.spent(), Clock()
            await measured.classifier.inspect(passages)
            took["inspector"] = clock.spent()
            for name in spent if number >= 0 else ():
                spent[name] += took[name]
                chunks[name] += len(texts)
    alone = spent["encoder"]
    return {
        name: {
            "chunks": chunks[name],
            "chunks_per_s": round(chunks[name] / spent[name][0], 1),
            "of_encoder": round(alone[0] / spent[name][0], 3),
            "processor_ms_per_chunk": round(spent[name][1] / chunks[name] * 1000, 2),
            "of_encoder_processor": round(alone[1] / spent[name][1], 3),
        }
        for name in spent
    }


async def questions(folder: Path, parts: Iterator[str], measured: Measured) -> dict[str, Any]:
    """Milliseconds from a question to its passages, encoding included, idle and during ingestion, in turns."""
    times: dict[str, list[float]] = {"idle": [], "during ingestion": []}
    async with opened(folder / "questions", measured, inspects=True) as (library, store):

        async def ask(number: int) -> float:
            started = time.perf_counter()
            text = f"How is version {number} installed with the package manager?"
            embedding = (await measured.classifier.encode((text,)))[0]
            caller = Caller(TENANT, "benchmark")
            await library.search(Query.of(caller, text=text, embedding=embedding, stores=(store,), top_k=6))
            return (time.perf_counter() - started) * 1000

        await attach(library, store, pages(parts, 4 * PAGES, PAGE_CHARACTERS, "stock"))
        await library.drained()
        for number in range(ROUNDS):
            await asyncio.sleep(1)  # what was written last is flushed
            for asked in range(QUESTIONS):
                times["idle"].append(await ask(asked))
            await attach(library, store, pages(parts, PAGES, PAGE_CHARACTERS, f"asked {number}"))
            drained = asyncio.create_task(library.drained())
            while not drained.done():
                times["during ingestion"].append(await ask(len(times["during ingestion"])))
                await asyncio.wait([drained], timeout=ASKED_EVERY_S)
    found: dict[str, Any] = {
        name: {
            "questions": len(taken),
            "p50_ms": round(statistics.median(taken), 1),
            "p95_ms": round(float(np.quantile(taken, 0.95)), 1),
        }
        for name, taken in times.items()
    }
    return found | {"p50_ratio": round(found["during ingestion"]["p50_ms"] / found["idle"]["p50_ms"], 2)}


async def memory(folder: Path, parts: Iterator[str], measured: Measured, count: int, most_s: float) -> dict[str, Any]:
    """Megabytes of this process and of the parser's while many short pages are ingested, one sample each second.

    After `most_s` seconds what is ingested by then is what was measured.
    They are not inspected, which keeps nothing and would take longer than all the rest.
    """
    this, samples = psutil.Process(), []
    async with opened(folder / "many", measured, inspects=False) as (library, store):
        started = time.perf_counter()
        await attach(library, store, pages(parts, count, SHORT_CHARACTERS, "many"))
        accepted_s = time.perf_counter() - started
        drained = asyncio.create_task(library.drained())
        while not drained.done() and time.perf_counter() - started < most_s:
            await asyncio.wait([drained], timeout=1)
            measured.texts.clear()
            measured.passages.clear()
            done = (await library.get_store(TENANT, store)).counts.completed
            samples.append((time.perf_counter() - started, done, *_megabytes(this)))
        drained.cancel()
        failed = await library.list_attached(TENANT, store, Paging(limit=1), "failed")
    return {
        "accepted": count,
        "ingested": samples[-1][1],
        "failed": len(failed.records),
        "accepted_s": round(accepted_s, 1),
        "ingested_s": round(samples[-1][0], 1),
        "samples": [[round(value, 1) for value in sample] for sample in samples[:: max(1, len(samples) // 200)]],
        "least_mb": round(min(sample[2] for sample in samples)),
        "most_mb": round(max(sample[2] for sample in samples)),
        "parser_most_mb": round(max(sample[3] for sample in samples)),
    }


def _megabytes(process: psutil.Process) -> tuple[float, float]:
    """Of this process, and of its children."""
    children = [child.memory_info().rss for child in process.children() if child.is_running()]
    return process.memory_info().rss / 1e6, sum(children) / 1e6


def drawn(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    rates = {name: one["chunks_per_s"] for name, one in found["throughput"].items() if name != "load"}
    left.barh([*rates][::-1], [*rates.values()][::-1], color="#2f6fb2")
    left.set_xlabel("chunks per second")
    left.set_title("Ingestion beside the encoder alone")
    if "memory" in found:
        samples = np.array(found["memory"]["samples"])
        right.plot(samples[:, 1], samples[:, 2], label="service", color="#2f6fb2")
        right.plot(samples[:, 1], samples[:, 3], label="parser", color="#c0653a")
        right.set_ylim(bottom=0)
        right.set_xlabel("pages ingested")
        right.set_ylabel("resident MB")
        right.set_title("Memory")
        right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def told(found: dict[str, Any]) -> str:
    lines = ["# Ingestion", "", found["said"], ""]
    lines += [
        "| | chunks/s | of the encoder alone | processor ms per chunk | of the encoder's |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['chunks_per_s']} | {one['of_encoder']:.0%} | {one['processor_ms_per_chunk']} "
        f"| {one['of_encoder_processor']:.0%} |"
        for name, one in found["throughput"].items()
        if name != "load"
    ]
    asked = found["questions"]
    lines += ["", "| a question, encoded and searched | p50 ms | p95 ms | asked |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {asked[name]['p50_ms']} | {asked[name]['p95_ms']} | {asked[name]['questions']} |"
        for name in ("idle", "during ingestion")
    ]
    lines += ["", f"During ingestion the p50 is {asked['p50_ratio']} times the idle one."]
    loads = ", ".join(f"{part} {found[part]['load']}" for part in PARTS if part in found)
    lines += ["", f"The machine's load when it was measured ({os.cpu_count()} would be busy): {loads}."]
    if many := found.get("memory"):
        took = f"accepted in {many['accepted_s']} s; {many['ingested']} of them searchable after {many['ingested_s']} s"
        held = f"{many['least_mb']} to {many['most_mb']} MB; of the parser at most {many['parser_most_mb']} MB"
        lines += [
            "",
            f"{many['accepted']} pages of one chunk: {took}, {many['failed']} failed. Resident memory of the process, "
            f"encoder and index included: {held}.",
        ]
    return "\n".join([*lines, "", "![](ingestion.png)", ""])


async def main(texts: Path | None, parts: Sequence[str], count: int, most_s: float) -> None:
    """What was measured before of the other parts stays."""
    stretches = cycle(paragraphs(texts))
    measured = Measured(EmbeddedClassifier.load(asset("var/encoder"), threads=os.cpu_count() or 1))
    known = RESULTS / "ingestion.json"
    found: dict[str, Any] = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            if part == "throughput":
                found[part] = await throughput(Path(folder), stretches, measured)
            elif part == "questions":
                found[part] = await questions(Path(folder), stretches, measured)
            else:
                found[part] = await memory(Path(folder), stretches, measured, count, most_s)
            found[part]["load"] = round(os.getloadavg()[0], 1)
    measured.classifier.close()
    found["said"] = (
        f"Measured on {os.cpu_count()} cores ({platform.processor() or platform.machine()}), Milvus Lite "
        f"{version('milvus-lite')}, ONNX Runtime {version('onnxruntime')}, Python {platform.python_version()}."
    )
    known.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "ingestion.md").write_text(told(found), encoding="utf-8")
    drawn(found, RESULTS / "ingestion.png")


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("parts", nargs="*", default=PARTS, help=f"what to measure: {', '.join(PARTS)}")
    reader.add_argument("--texts", type=Path, help="folder of texts that the pages are made of")
    reader.add_argument("--pages", type=int, default=10_000, help="how many short pages to measure the memory with")
    reader.add_argument("--most-s", type=float, default=3_600, help="seconds after which that measurement ends")
    given = reader.parse_args()
    asyncio.run(main(given.texts, given.parts, given.pages, given.most_s))
    sys.stdout.write((RESULTS / "ingestion.md").read_text(encoding="utf-8"))
