"""How good a search is: questions with known answers, asked through the public API."""

import gzip
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DEPTH = 10
"""nDCG, recall and reciprocal rank are taken of the first ten documents."""
RESULTS = 50
"""Results asked for: several of them may be of one document."""
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    text: str
    relevant: frozenset[str]
    """Ids of the documents that answer it; all count the same."""


@dataclass(frozen=True, slots=True)
class Asked:
    question: Question
    found: tuple[str, ...]
    """Ids of documents, best first, each once."""
    seconds: float

    @property
    def ndcg(self) -> float:
        """Binary gains, log2 discount (Järvelin and Kekäläinen 2002), of the first DEPTH documents."""
        gain = sum(1 / math.log2(rank + 2) for rank, id in enumerate(self.first) if id in self.question.relevant)
        best = sum(1 / math.log2(rank + 2) for rank in range(min(DEPTH, len(self.question.relevant))))
        return gain / best

    @property
    def recall(self) -> float:
        return len(self.question.relevant.intersection(self.first)) / len(self.question.relevant)

    @property
    def reciprocal_rank(self) -> float:
        return next((1 / rank for rank, id in enumerate(self.first, 1) if id in self.question.relevant), 0.0)

    @property
    def first(self) -> tuple[str, ...]:
        return self.found[:DEPTH]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with its 95 % interval, from resampled questions."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        drawn = np.random.default_rng(0).choice(np.asarray(values), size=(RESAMPLES, len(values))).mean(axis=1)
        low, high = np.percentile(drawn, (2.5, 97.5))
        return cls(float(np.mean(values)), float(low), float(high))


Search = Callable[[str], Sequence[str]]
"""A question -> ids of documents, best first; a document may come several times."""


def ask(questions: Sequence[Question], search: Search) -> Iterator[Asked]:
    for question in questions:
        begun = time.perf_counter()
        found = search(question.text)
        yield Asked(question, tuple(dict.fromkeys(found)), time.perf_counter() - begun)


def figures(asked: Sequence[Asked]) -> dict[str, Figure]:
    return {
        f"ndcg@{DEPTH}": Figure.of([one.ndcg for one in asked]),
        f"recall@{DEPTH}": Figure.of([one.recall for one in asked]),
        f"mrr@{DEPTH}": Figure.of([one.reciprocal_rank for one in asked]),
    }


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way of searching beside the better of the others, by nDCG on the same questions."""

    better: str
    difference: Figure
    """Above 0 where the way is ahead; the interval is of the paired differences."""
    ahead: int
    behind: int
    """Questions; on the others they are level."""

    @classmethod
    def of(cls, ways: Mapping[str, Sequence[Asked]], way: str) -> "Comparison | None":
        """None where there is no other way."""
        means = {name: float(np.mean([one.ndcg for one in asked])) for name, asked in ways.items() if name != way}
        if not means:
            return None
        better = max(means, key=means.__getitem__)
        apart = [ours.ndcg - other.ndcg for ours, other in zip(ways[way], ways[better], strict=True)]
        return cls(better, Figure.of(apart), sum(one > 0 for one in apart), sum(one < 0 for one in apart))


def lost(ways: Mapping[str, Sequence[Asked]], way: str) -> list[tuple[float, str, Asked]]:
    """Questions on which another way was ahead: by how much, which way, and what this one found; the most first."""
    others = [name for name in ways if name != way]
    found = []
    for place, ours in enumerate(ways[way]):
        best = max(others, key=lambda name: ways[name][place].ndcg, default=way)
        found.append((ways[best][place].ndcg - ours.ndcg, best, ours))
    return sorted((one for one in found if one[0] > 0), key=lambda one: (-one[0], one[2].question.id))


def latencies_ms(asked: Sequence[Asked]) -> dict[str, float]:
    spent = [one.seconds * 1000 for one in asked]
    return {"p50": float(np.percentile(spent, 50)), "p99": float(np.percentile(spent, 99))}


def questions_of(path: Path, limit: int | None = None) -> list[Question]:
    """Lines `{"id", "query", "relevant": [ids]}`; of more than `limit` a sample that is the same every time.

    Raises ValueError for a line that is none.
    """
    found = []
    for number, row in enumerate(rows(path), 1):
        try:
            relevant = frozenset(map(str, row["relevant"]))
            found.append(Question(str(row.get("id", number)), str(row["query"]), relevant))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f'{path}, line {number}: need "query" and a list "relevant", found {sorted(row)}'
            ) from error
        if not relevant:
            raise ValueError(f"{path}, line {number}: no document is relevant; leave such questions out")
    if not found:
        raise ValueError(f"{path} holds no questions")
    return found if limit is None or limit >= len(found) else random.Random(0).sample(found, limit)


def corpus_of(paths: Sequence[Path]) -> dict[str, Mapping[str, Any]]:
    """Documents by id: lines `{"id", "text", "title"?}` of .jsonl or .jsonl.gz files, or of all such in a folder."""
    documents: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        files = sorted(path.rglob("*.jsonl*")) if path.is_dir() else [path]
        for file in files:
            for number, row in enumerate(rows(file), 1):
                if not isinstance(row.get("id"), str) or not isinstance(row.get("text"), str):
                    raise ValueError(f'{file}, line {number}: need strings "id" and "text", found {sorted(row)}')
                documents[row["id"]] = row
    if not documents:
        raise ValueError(f"no documents in {', '.join(map(str, paths))}")
    return documents


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: give one object a line")
            yield row


def digest(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """Names a corpus by its content: the same one is ingested once."""
    state = hashlib.sha256()
    for id in sorted(documents):
        state.update(json.dumps(documents[id], sort_keys=True).encode())
    return state.hexdigest()[:16]
