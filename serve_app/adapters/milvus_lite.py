"""Searches in Milvus Lite's data, in the process that holds it, without its loops over every row.

Milvus Lite 3.2 answers a search in Python: it walks over all rows three times to find those that are the latest and not
deleted, over each posting of each word, turns whole rows into objects to throw most columns away, and sends them to
itself over gRPC. Here the same is done on arrays that are made once for each of its immutable segments. What a row is,
which rows a filter passes, and how a question is cut into words stays Milvus Lite's. BM25 counts words over the whole
collection, as a server does; Milvus Lite counts them in each segment and compares the scores nonetheless.
"""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import milvus_lite
import numpy as np
from milvus_lite.search.filter import evaluate_mask
from milvus_lite.server_manager import server_manager_instance as lite_servers
from numpy.typing import NDArray

from serve_app.adapters.milvus_rows import OUTPUT
from serve_app.settings import asset
from serve_app.turn import Embedding

KNOWN_VERSION = "3.2."
"""What it reads is not Milvus Lite's public interface: another version is searched over gRPC, as a server is."""
K1, B = 1.5, 0.75
"""Milvus' defaults of BM25."""
MASKS = 16
"""Filters remembered for each part: the same callers ask again within seconds."""

Mask = NDArray[np.bool_]
Hit = Mapping[str, Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """A segment, or the rows not yet flushed, as arrays. Row n of all of them is row n of `table`."""

    source: Any
    table: Any
    keys: Sequence[str]
    seqs: NDArray[np.int64]
    """Number of the write that made the row."""
    vectors: NDArray[np.float32]
    lengths: NDArray[np.float32]
    """Words in each row."""
    terms: NDArray[np.uint32]
    """Words that occur, ascending; those of `terms[n]` stand in `rows[starts[n]:starts[n + 1]]`."""
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.float32]
    masks: dict[str, Mask] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Any, table: Any) -> Self:
        column = table.column("sparse").combine_chunks()
        ends = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        pairs = np.frombuffer(column.buffers()[2] or b"", np.dtype([("term", "<u4"), ("count", "<f4")]))
        pairs = pairs[ends[0] // 8 : ends[-1] // 8]
        rows = np.repeat(np.arange(len(column), dtype=np.int32), np.diff(ends) // 8)
        found = np.ascontiguousarray(pairs["term"])
        order = np.argsort(found)
        found = found[order]
        starts = np.flatnonzero(np.append(True, found[1:] != found[:-1])) if len(found) else np.zeros(0, np.int64)
        vectors = table.column("dense").combine_chunks().flatten().to_numpy().reshape(len(column), -1)
        return cls(
            source=source,
            table=table.select(["pk", *OUTPUT, *_filtered(table)]),
            keys=table.column("pk").to_pylist(),
            seqs=table.column("_seq").to_numpy().astype(np.int64),
            vectors=vectors,
            lengths=np.bincount(rows, weights=pairs["count"], minlength=len(column)).astype(np.float32),
            terms=found[starts],
            starts=np.append(starts, len(rows)),
            rows=rows[order],
            counts=pairs["count"][order],
        )

    def postings(self, term: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows with the word, and how often it stands in each."""
        at = int(np.searchsorted(self.terms, term))
        if at == len(self.terms) or self.terms[at] != term:
            return self.rows[:0], self.counts[:0]
        return self.rows[self.starts[at] : self.starts[at + 1]], self.counts[self.starts[at] : self.starts[at + 1]]

    def passing(self, where: str, compiled: Any) -> Mask:
        if (known := self.masks.get(where)) is not None:
            return known
        if len(self.masks) >= MASKS:
            self.masks.clear()
        passed: Mask = evaluate_mask(compiled, self.table)
        self.masks[where] = passed
        return passed


@dataclass(frozen=True, slots=True)
class View:
    """The collection at one moment: its parts, and the rows of each that are the latest and not deleted."""

    parts: Sequence[Part]
    alive: Sequence[Mask]


class LiteReader:
    """Its methods block; they may be called from several threads."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection
        self._lock = threading.Lock()
        self._parts: dict[int, Part] = {}
        self._flushed: tuple[Any, Sequence[Mask]] = (None, ())
        self.search("tried once", None, 'tenant == ""', 1)

    def search(self, text: str, embedding: Embedding | None, where: str, limit: int) -> tuple[list[Hit], list[Hit]]:
        """The `limit` nearest by meaning, and the `limit` best by words, as Milvus' hits."""
        view = self.view()
        compiled = self._collection._compile_filter(where)
        masks = [alive & part.passing(where, compiled) for part, alive in zip(view.parts, view.alive, strict=True)]
        near, worded = [], []
        if embedding is not None:
            near = _best(
                [np.where(m, p.vectors @ embedding, -np.inf) for p, m in zip(view.parts, masks, strict=True)], limit
            )
        if text:
            (asked,) = self._collection._prepare_sparse_queries([text], "sparse")
            scores = _bm25(view, asked)
            worded = _best([np.where(m & (s > 0), s, -np.inf) for s, m in zip(scores, masks, strict=True)], limit)
        rows = _rows(view.parts, {place for place, _ in (*near, *worded)})
        return [_hit(rows[place], score) for place, score in near], [
            _hit(rows[place], score) for place, score in worded
        ]

    def view(self) -> View:
        # The rows not yet flushed first: a flush in between shows them twice, the other order would hide them.
        memory = self._collection._memtable
        written = [(key, seq) for key, (_, _, seq) in memory.pk_index_snapshot()]
        gone = [(key, seq) for key, (seq, _) in memory.delete_index_snapshot().items()]
        table = memory.to_arrow_table() if written else None
        segments, tombstones = self._collection._read_snapshot()
        with self._lock:
            parts = [self._part(segment) for segment in segments if segment.num_rows]
            self._parts = {id(part.source): part for part in parts}
            alive = self._alive(parts, tombstones.snapshot)
        if written or gone:
            alive = [mask.copy() for mask in alive]
            for key, seq in (*written, *gone):
                for part, mask in zip(parts, alive, strict=True):
                    if (row := part.source.find_row(key)) is not None and part.seqs[row] <= seq:
                        mask[row] = False
        if table is not None and len(table):
            parts, alive = [*parts, Part.of(memory, table)], [*alive, np.ones(len(table), bool)]
        return View(parts, alive)

    def _part(self, segment: Any) -> Part:
        known = self._parts.get(id(segment))
        return known if known is not None and known.source is segment else Part.of(segment, segment.table)

    def _alive(self, parts: Sequence[Part], deleted: Mapping[str, int]) -> Sequence[Mask]:
        """Of flushed rows, by the latest write to their keys; remembered until there is another flush or compaction."""
        state = ([id(part.source) for part in parts], len(deleted), sum(deleted.values()))
        if self._flushed[0] == state:
            return self._flushed[1]
        latest: dict[str, int] = dict(deleted)
        for part in parts:
            for key, seq in zip(part.keys, part.seqs.tolist(), strict=True):
                if latest.get(key, -1) < seq:
                    latest[key] = seq
        alive = [
            np.fromiter((latest[key] == seq for key, seq in zip(part.keys, part.seqs.tolist(), strict=True)), bool)
            for part in parts
        ]
        self._flushed = (state, alive)
        return alive


def reader_of(uri: str, collection: str) -> LiteReader | None:
    """Of the Milvus Lite that this process has opened at `uri`; None where its version is not one we can read."""
    version = milvus_lite.__version__
    try:
        if version.startswith(KNOWN_VERSION):
            _, database, _ = lite_servers._servers[str(asset(uri))]
            return LiteReader(database.get_collection(collection))
        unknown = f"{KNOWN_VERSION}x is what we can read"
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        unknown = f"{type(exc).__name__}: {exc}"
    logger.warning("Milvus Lite %s is searched over gRPC, which takes some five times as long (%s)", version, unknown)
    return None


def _filtered(table: Any) -> list[str]:
    """Columns of which filters speak and hits do not; the vectors are not copied along."""
    return [name for name in table.column_names if name not in ("pk", *OUTPUT, "body", "dense", "sparse", "_seq")]


def _bm25(view: View, asked: Mapping[int, float]) -> list[NDArray[np.float32]]:
    scores = [np.zeros(len(part.keys), np.float32) for part in view.parts]
    documents = sum(int(np.count_nonzero(alive)) for alive in view.alive)
    length = sum(float(part.lengths @ alive) for part, alive in zip(view.parts, view.alive, strict=True))
    average = length / documents if length else 1.0
    for term, weight in asked.items():
        found = [part.postings(term) for part in view.parts]
        having = sum(int(np.count_nonzero(alive[rows])) for alive, (rows, _) in zip(view.alive, found, strict=True))
        rarity = weight * np.log1p((documents - having + 0.5) / (having + 0.5))
        for part, score, (rows, counts) in zip(view.parts, scores, found, strict=True):
            norm = counts + K1 * (1 - B + B * part.lengths[rows] / average)
            score[rows] += rarity * counts * (K1 + 1) / norm
    return scores


def _best(scores: Sequence[NDArray[np.float32]], limit: int) -> list[tuple[tuple[int, int], float]]:
    """((part, row), score) of the best, best first, of those with a score at all."""
    if not scores:
        return []
    every = np.concatenate(scores)
    chosen = np.argpartition(-every, limit - 1)[:limit] if len(every) > limit else np.arange(len(every))
    chosen = chosen[np.isfinite(every[chosen])]
    chosen = chosen[np.argsort(-every[chosen], kind="stable")]
    ends = np.cumsum([len(part) for part in scores])
    parts = np.searchsorted(ends, chosen, side="right")
    rows = chosen - np.where(parts > 0, ends[parts - 1], 0)
    return [((int(p), int(r)), float(every[at])) for p, r, at in zip(parts, rows, chosen, strict=True)]


def _rows(parts: Sequence[Part], places: set[tuple[int, int]]) -> dict[tuple[int, int], dict[str, Any]]:
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for at, part in enumerate(parts):
        rows = sorted(row for owner, row in places if owner == at)
        taken = part.table.select(["pk", *OUTPUT]).take(rows).to_pylist() if rows else []
        found |= {(at, row): fields for row, fields in zip(rows, taken, strict=True)}
    return found


def _hit(fields: dict[str, Any], score: float) -> Hit:
    attributes = json.loads(fields["$meta"] or "{}")
    return {"pk": fields["pk"], "distance": score, "entity": fields | attributes}
