"""Is ranking both together never worse than the better of the two searches?

    python -m benchmarks.retrieval --data FOLDER

In one process, without Ray: library, Milvus Lite, the embedded encoder and reranker. FOLDER holds sets of documents
and questions (`retrieval_tasks.sets_of`); they are ingested once into `--work`. With `--fit` the reranker's weights are
made anew from the questions that are not held out. Results go to benchmarks/results/retrieval.{json,md,png}.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.retrieval_fit import Lesson, fitted
from benchmarks.retrieval_report import write
from benchmarks.retrieval_tasks import Set, Task, held_out, sets_of, tasks_of
from serve_app.adapters.catalog import Catalog
from serve_app.adapters.encoder import Encoder, ensure
from serve_app.adapters.milvus import MilvusIndex
from serve_app.documents.records import Paging
from serve_app.evaluation.retrieval import Asked, Comparison, Question, digest, figures, latencies_ms
from serve_app.library import Library
from serve_app.milvus_settings import MilvusSettings
from serve_app.ports import Query
from serve_app.reranking import WEIGHTS, EmbeddedReranker, features
from serve_app.settings import RetrieverSettings
from serve_app.turn import Caller, Passage, Ranking
from serve_app.wording import Wording

WAYS = {"both": Ranking(), "index": Ranking(rerank=False), "meaning": Ranking(meaning=1), "words": Ranking(meaning=0)}
"""`index` is the ranking of both without the reranker."""
RESULTS = 50
TENANT = "benchmark"
ROWS_IN_A_FILE = 500
STRANGERS = 200
"""Questions of one set asked of another, to see what is found where nothing answers."""


@dataclass
class Bench:
    encoder: Encoder
    library: Library
    stores: Mapping[str, str]
    """Ids by the name of the set."""

    def query(
        self, question: Question, stores: Sequence[str], ranking: Ranking, embedding: NDArray[np.float32]
    ) -> Query:
        return Query.of(
            Caller(TENANT, "key"),
            text=question.text,
            embedding=embedding,
            stores=tuple(self.stores[name] for name in stores),
            top_k=RESULTS,
            ranking=ranking,
        )

    async def asked(self, task: Task, stores: Sequence[str], embeddings: NDArray[np.float32]) -> dict[str, list[Asked]]:
        ways: dict[str, list[Asked]] = {way: [] for way in WAYS}
        for question, embedding in zip(task.questions, embeddings, strict=True):
            for way, ranking in WAYS.items():  # side by side: a busy machine is busy for all of them
                begun = time.perf_counter()
                found = await self.library.search(self.query(question, stores, ranking, embedding))
                seconds = time.perf_counter() - begun
                ways[way].append(Asked(question, tuple(dict.fromkeys(map(_document, found.passages))), seconds))
        return ways

    async def passages(self, question: Question, store: str, embedding: NDArray[np.float32]) -> tuple[Passage, ...]:
        """As the reranker gets them."""
        query = self.query(question, (store,), WAYS["index"], embedding)
        return (await self.library.search(query)).passages

    def encoded(self, questions: Sequence[Question]) -> NDArray[np.float32]:
        return np.concatenate([self.encoder.encode([one.text]) for one in questions])


def _document(passage: Passage) -> str:
    return str(passage.attributes["id"])


async def opened(sets: Sequence[Set], work: Path) -> Bench:
    """The library with every set in a store of its own, ingested where it is not."""
    encoder = Encoder(ensure(work / "encoder"), 2)
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{work}/catalog.db",
        files_path=str(work / "files"),
        milvus=MilvusSettings(uri=str(work / "milvus.db")),
    )

    async def encode(texts: tuple[str, ...]) -> NDArray[np.float32]:
        return await asyncio.to_thread(encoder.encode, texts)

    library = Library(
        Catalog(settings.catalog_url),
        MilvusIndex(settings.milvus),
        encode,
        settings,
        reranker=EmbeddedReranker.shipped(),
    )
    await library.open()
    return Bench(encoder, library, {one.name: await stored(library, one) for one in sets})


async def stored(library: Library, one: Set) -> str:
    """The id of the store with exactly these documents; a file of them that is there already is not read again."""
    name = f"{one.name}-{digest(one.documents)}"
    known = (await library.list_stores(TENANT, Paging(limit=100))).records
    found = next((store.id for store in known if store.name == name), None)
    if found is None:
        lines = [
            json.dumps({key: row[key] for key in ("id", "text", "title") if key in row})
            for row in one.documents.values()
        ]
        ids = [
            (await library.create_file(TENANT, f"{name}-{start}.jsonl", part.encode(), "assistants")).id
            for start in range(0, len(lines), ROWS_IN_A_FILE)
            if (part := "\n".join(lines[start : start + ROWS_IN_A_FILE]))
        ]
        found = (await library.create_store(TENANT, name, file_ids=ids)).id
    await library.drained()
    return found


def stores_of(task: Task, sets: Sequence[Set]) -> dict[str, tuple[str, ...]]:
    """Every task is asked of its own set, and of all sets together."""
    alone = {task.set: (task.set,)}
    return alone | ({"all sets": tuple(one.name for one in sets)} if len(sets) > 1 else {})


async def measured(bench: Bench, sets: Sequence[Set], least: int) -> list[dict[str, object]]:
    """One row for each task and each choice of stores: of the questions that are held out, at least `least`."""
    rows = []
    for task in (task for one in sets for task in tasks_of(one)):
        fresh = replace(task, questions=tuple(question for question in task.questions if held_out(question)))
        if len(fresh.questions) < least:
            continue
        embeddings = bench.encoded(fresh.questions)
        for where, stores in stores_of(task, sets).items():
            rows.append(_row(fresh, where, await bench.asked(fresh, stores, embeddings)))
            print(f"{task.set}, {task.name}, in {where}: {rows[-1]['ndcg']}", flush=True)
    return rows


def _row(task: Task, where: str, ways: Mapping[str, Sequence[Asked]]) -> dict[str, object]:
    alone = {way: asked for way, asked in ways.items() if way in ("both", "meaning", "words")}
    compared = Comparison.of(alone, "both")
    return {
        "set": task.set,
        "task": task.name,
        "stores": where,
        "questions": len(task.questions),
        "ndcg": {way: round(figures(asked)["ndcg@10"].mean, 4) for way, asked in ways.items()},
        "recall": {way: round(figures(asked)["recall@10"].mean, 4) for way, asked in ways.items()},
        "ahead_of_the_better": asdict(compared) if compared else None,
        "latency_ms": {way: latencies_ms(asked) for way, asked in ways.items()},
    }


async def lessons(bench: Bench, sets: Sequence[Set]) -> tuple[list[Lesson], list[NDArray[np.float64]]]:
    """What was found for the questions that are not held out, and for questions asked of another set."""
    known, foreign = [], []
    for task in (task for one in sets for task in tasks_of(one)):
        mine = [question for question in task.questions if not held_out(question)]
        for question, embedding in zip(mine, bench.encoded(mine), strict=True):
            found = await bench.passages(question, task.set, embedding)
            if found and Wording.of(question.text).words:
                answers = np.array([_document(passage) in question.relevant for passage in found])
                known.append(Lesson(f"{task.set}, {task.name}", features(Wording.of(question.text), found), answers))
        for question, embedding in zip(mine[:STRANGERS], bench.encoded(mine[:STRANGERS]), strict=True):
            for other in (one.name for one in sets if one.name != task.set and task.name == "as they are"):
                found = await bench.passages(question, other, embedding)
                foreign.append(features(Wording.of(question.text), found))
    return known, foreign


async def strangers(bench: Bench, sets: Sequence[Set]) -> dict[str, float]:
    """Share of held-out questions with a passage at or above the floor where another set was searched."""
    floor, reached = RetrieverSettings().min_score, {way: [] for way in ("both", "index")}
    for task in (next(iter(tasks_of(one))) for one in sets):
        mine = [question for question in task.questions if held_out(question)][:STRANGERS]
        for question, embedding in zip(mine, bench.encoded(mine), strict=True):
            for other in (one.name for one in sets if one.name != task.set):
                for way, above in reached.items():
                    found = await bench.library.search(bench.query(question, (other,), WAYS[way], embedding))
                    above.append(any(passage.score >= floor for passage in found.passages))
    return {way: round(float(np.mean(above)), 4) for way, above in reached.items() if above}


async def reranking_cost(bench: Bench, one: Set) -> dict[str, float]:
    """Milliseconds of processor time to rerank 50 passages: the median over held-out questions."""
    reranker, spent = EmbeddedReranker.shipped(), []
    mine = [question for question in next(iter(tasks_of(one))).questions if held_out(question)][:100]
    for question, embedding in zip(mine, bench.encoded(mine), strict=True):
        found = await bench.passages(question, one.name, embedding)
        begun = time.process_time()
        await reranker.rerank(question.text, found)
        spent.append((time.process_time() - begun) * 1000)
    return {"p50": float(np.percentile(spent, 50)), "p99": float(np.percentile(spent, 99))}


async def main(data: Path, work: Path, fit: bool, least: int) -> None:
    sets = sets_of(data)
    if not sets:
        sys.exit(f"{data} holds no sub-folder with a file of queries beside files of documents")
    for one in sets:
        print(f"{one.name}: {len(one.documents)} documents, {len(one.questions)} questions", flush=True)
    bench = await opened(sets, work)
    try:
        if fit:
            weights = fitted(*await lessons(bench, sets))
            WEIGHTS.write_text(
                json.dumps({"weights": weights.by_feature, "offset": weights.offset}, indent=2) + "\n", encoding="utf-8"
            )
            print(f"{WEIGHTS}: {weights}")
            return
        write(
            {
                "sets": {one.name: {"documents": len(one.documents), "digest": digest(one.documents)} for one in sets},
                "weights": json.loads(WEIGHTS.read_text(encoding="utf-8")),
                "tasks": await measured(bench, sets, least),
                "strangers_above_the_floor": await strangers(bench, sets),
                "reranking_50_passages_cpu_ms": await reranking_cost(bench, sets[0]),
            }
        )
    finally:
        await bench.library.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets; those of the results are not shipped")
    parser.add_argument("--work", type=Path, default=Path("var/benchmarks/retrieval"), help="kept between runs")
    parser.add_argument("--fit", action="store_true", help="write the reranker's weights instead of results")
    parser.add_argument("--least", type=int, default=40, help="leave out tasks with fewer held-out questions")
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"--data: there is no folder {given.data}; give one with sets of documents and questions")
    given.work.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(given.data, given.work.resolve(), given.fit, given.least))
