"""How long a search takes beyond the encoder, by the number of chunks; written to `results/search.*`.

Chunks are made of the texts of a folder (`--texts`, without it this repository's and its dependencies' documentation),
mixed at random where they do not suffice, with embeddings around 1,000 random centres: what counts for the time is how
many there are, how long they are and how often their words occur. One caller asks, one question after another.

    python -m benchmarks.search --texts FOLDER
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from serve_app.adapters.milvus import MilvusIndex
from serve_app.milvus_settings import MilvusSettings
from serve_app.ports import Chunk, Query
from serve_app.sight import Sight, Terms

ROOT = Path(__file__).parents[1]
SIZES = (1_000, 5_000, 20_000, 50_000, 100_000)
CHARACTERS = 800
"""Of a chunk: 200 tokens."""
DIMENSION = 384
SEARCHES = 120
WARM = 10
"""Searches before the first is counted."""
WRITTEN_AT_ONCE = 256
MODES = ("meaning", "words", "both")


def texts(folder: Path | None) -> list[tuple[str, str]]:
    """(title, stretch) from Markdown and text files; from this machine's documentation where no folder is given."""
    found = [folder] if folder else [ROOT, Path(np.__file__).parents[1]]
    suffixes = {".md", ".txt", ".rst"}
    files = [
        path
        for place in found
        for path in sorted(place.rglob("*"))
        if path.suffix in suffixes and not ({".git", "var"} & set(path.parts)) and path.stat().st_size > CHARACTERS
    ]
    pieces = []
    for path in files[:3_000]:
        content = path.read_text(encoding="utf-8", errors="replace")[:200_000]
        pieces += [(path.stem, content[at : at + CHARACTERS]) for at in range(0, len(content) - 80, CHARACTERS)]
    random.Random(0).shuffle(pieces)
    return pieces


def chunks(pieces: Sequence[tuple[str, str]], start: int, stop: int) -> list[Chunk]:
    """Chunks by number; beyond the real ones halves of two are joined."""
    made = []
    for number in range(start, stop):
        title, text = pieces[number % len(pieces)]
        if number >= len(pieces):
            other = pieces[(number * 7_919) % len(pieces)][1]
            text = text[: CHARACTERS // 2] + other[CHARACTERS // 2 :]
        document = number // 20
        made.append(
            Chunk(
                id=f"{number:032x}",
                tenant="acme",
                store=f"vs_{document % 3}",
                file_id=f"file-{document:024x}",
                ordinal=number % 20,
                text=text,
                source=f"docs/{title}-{document}.md",
                title=title,
                heading=f"{title} > Part {number % 7}",
                attributes={"language": "en", "ingested_at": 1.7e9 + number, "year": 2000 + document % 25},
                terms=Terms(access=frozenset({f"group {document % 9}"})) if document % 5 == 0 else Terms(),
            )
        )
    return made


def embeddings(start: int, stop: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(1).normal(size=(1_000, DIMENSION))
    generator = np.random.default_rng((2, start))
    rows = centres[generator.integers(0, 1_000, stop - start)] + 0.8 * generator.normal(size=(stop - start, DIMENSION))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def questions(pieces: Sequence[tuple[str, str]]) -> list[str]:
    """Eight words in a row from a text: what people type, and more common words than they do."""
    generator = random.Random(4)
    asked = []
    while len(asked) < 60:
        words = generator.choice(pieces)[1].split()
        if len(words) > 30:
            at = generator.randrange(len(words) - 10)
            asked.append(" ".join(words[at : at + 8]))
    return asked


def query(text: str, mode: str, top_k: int, number: int, **more: Any) -> Query:
    (embedding,) = embeddings(number, number + 1)
    return Query(
        sight=Sight(tenant="acme", groups=frozenset({"group 1", "group 2"}), now=time.time()),
        text="" if mode == "meaning" else text,
        embedding=None if mode == "words" else embedding,
        stores=("vs_0", "vs_1"),
        top_k=top_k,
        **more,
    )


async def timed(index: MilvusIndex, queries: Sequence[Query]) -> dict[str, float]:
    """Milliseconds of each, p50 and p99, and of this process's CPU for one."""
    for one in queries[:WARM]:
        await index.search(one)
    cpu, took = time.process_time(), []
    for one in queries:
        began = time.perf_counter()
        await index.search(one)
        took.append((time.perf_counter() - began) * 1_000)
    used = (time.process_time() - cpu) * 1_000 / len(queries)
    return {
        "p50": round(statistics.median(took), 2),
        "p99": round(sorted(took)[int(len(took) * 0.99)], 2),
        "cpu": round(used, 2),
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "both, top 50": {"mode": "both", "top_k": 50},
    "both, 20 files hidden": {
        "mode": "both",
        "top_k": 10,
        "hidden": tuple((f"vs_{n % 3}", f"file-{n:024x}") for n in range(20)),
    },
    "both, filter on an attribute": {
        "mode": "both",
        "top_k": 10,
        "filters": {"type": "gte", "key": "year", "value": 2010},
    },
}


async def measured(index: MilvusIndex, pieces: Sequence[tuple[str, str]], size: int) -> dict[str, Any]:
    asked = questions(pieces)
    cases = {mode: {"mode": mode, "top_k": 10} for mode in MODES} | VARIANTS
    found = {}
    for name, given in cases.items():
        queries = [query(asked[n % len(asked)], number=n, **given) for n in range(SEARCHES)]
        found[name] = await timed(index, queries)
    return found | {"during ingestion": await while_writing(index, pieces, size, asked)}


async def while_writing(
    index: MilvusIndex, pieces: Sequence[tuple[str, str]], size: int, asked: Sequence[str]
) -> dict[str, float]:
    """Searches while as many chunks come in as two cores encode: 45 a second, in files of 15."""

    async def write() -> None:
        at = size
        while True:
            began = time.perf_counter()
            await index.upsert(chunks(pieces, at, at + 15), embeddings(at, at + 15))
            at += 15
            await asyncio.sleep(max(0.0, 15 / 45 - (time.perf_counter() - began)))

    writing = asyncio.create_task(write())
    try:
        return await timed(index, [query(asked[n % len(asked)], "both", 10, n) for n in range(SEARCHES)])
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def resident() -> float:
    return round(psutil.Process().memory_info().rss / 2**20, 0)


async def run(pieces: Sequence[tuple[str, str]], sizes: Sequence[int], folder: str) -> list[dict[str, Any]]:
    settings = MilvusSettings(uri=f"{folder}/milvus.db")
    index = MilvusIndex(settings)
    await index.open()
    rows, there, before = [], 0, resident()
    for size in sizes:
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(there, size, WRITTEN_AT_ONCE):
            stop = min(start + WRITTEN_AT_ONCE, size)
            await index.upsert(chunks(pieces, start, stop), embeddings(start, stop))
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
        written = size - there
        there = size
        found = await measured(index, pieces, size)
        row = {
            "chunks": size,
            "written_per_second": round(written / seconds),
            "write_cpu_ms": round(used * 1_000 / written, 2),
            "resident_mib": resident() - before,
            "ms": found,
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    await index.close()
    began = time.perf_counter()
    again = MilvusIndex(settings)
    await again.open()
    rows[-1]["opened_in_s"] = round(time.perf_counter() - began, 1)
    await again.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="folder of Markdown or text files")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "search.json")
    parser.add_argument("--render", action="store_true", help="only write table and picture of the JSON that is there")
    given = parser.parse_args()
    if not given.render:
        with tempfile.TemporaryDirectory(prefix="manta-") as folder:
            rows = asyncio.run(run(texts(given.texts), sorted(given.sizes), folder))
        machine = {
            "date": time.strftime("%Y-%m-%d"),
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[1],
            "python": platform.python_version(),
            "milvus_lite": version("milvus-lite"),
            "command": f"python -m benchmarks.search {' '.join(sys.argv[1:])}",
        }
        given.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    from benchmarks.search_report import write

    write(given.output)


if __name__ == "__main__":
    main()
