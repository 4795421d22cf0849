"""The reranker of every profile without one: a few features of a passage read beside the question, and no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_app.relevance import body_of
from serve_app.turn import Passage
from serve_app.wording import Run, Wording, named_in, normalised

FEATURES = ("found", "words", "stems", "heading", "pairs", "identifiers")
"""found: the score of the search; words: the share of the question's words that the passage has, rarer ones among the
candidates weighing more; stems: what `words` gains where a word of the passage begins like one of the question's;
heading: the share of the question's words in the nearest heading; pairs: the share of neighbouring words of the
question that are neighbours in the passage; identifiers: the share of the question's identifiers that it has."""
MOST_WORDS = 64
"""Of a question that count here: of a longer one the first are as good as all, and cost what is fixed."""
LEAST_RARITY = 0.1
"""A word that every candidate has still counts a little."""
WEIGHTS = Path(__file__).with_name("reranking.json")


@dataclass(frozen=True, slots=True)
class Weights:
    """`python -m benchmarks.retrieval --fit` makes them."""

    by_feature: Mapping[str, float]
    offset: float
    """The sum of the weighted features at which a passage scores 0.5."""

    @classmethod
    @cache
    def shipped(cls) -> "Weights":
        read = json.loads(WEIGHTS.read_text(encoding="utf-8"))
        return cls({name: float(read["weights"][name]) for name in FEATURES}, float(read["offset"]))

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (passages,), each in (0, 1)."""
        sums = features @ np.array([self.by_feature[name] for name in FEATURES])
        return np.asarray(1 / (1 + np.exp(self.offset - sums)), dtype=np.float64)


@dataclass(frozen=True)
class EmbeddedReranker:
    """A logistic function of FEATURES. A question without words that count leaves the search's scores as they are."""

    weights: Weights

    @classmethod
    def shipped(cls) -> "EmbeddedReranker":
        return cls(Weights.shipped())

    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        wording = Wording.of(question)
        if not wording.words or not passages:
            return tuple(passage.score for passage in passages)
        return tuple(float(score) for score in self.weights.scores(features(wording, passages)))


def features(wording: Wording, passages: Sequence[Passage]) -> NDArray[np.float64]:
    """Shape (passages, FEATURES), each in [0, 1]. At least one word must count."""
    asked = wording.words[:MOST_WORDS]
    starts = [_start(word) for word in asked]
    pairs = _pairs(wording)
    bodies = [body_of(passage) for passage in passages]
    runs = [normalised(body) for body in bodies]
    present = [[word in run for word in asked] for run in runs]
    begun = [
        [not has and start in run for has, start in zip(row, starts, strict=True)]
        for row, run in zip(present, runs, strict=True)
    ]
    found = np.array(present, dtype=np.float64)
    rarity = _rarity(found)
    columns = (
        [passage.score for passage in passages],
        found @ rarity,
        np.array(begun, dtype=np.float64) @ rarity,
        [_share(asked, normalised(passage.heading.rpartition(" > ")[2] or passage.title)) for passage in passages],
        [_share(pairs, run) for run in runs],
        [_named(wording.identifiers, body) for body in bodies],
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _start(word: Run) -> Run:
    """What other forms of a word, and most slips of the keyboard in it, begin with; short words have none."""
    letters = len(word) - 2
    return word[: 1 + max(4, letters - 3)] if letters > 4 else word


def _rarity(present: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the words that add up to 1: BM25's idf among the candidates."""
    having = present.sum(axis=0)
    rarity = np.log(1 + (len(present) - having + 0.5) / (having + 0.5)) + LEAST_RARITY
    return np.asarray(rarity / rarity.sum(), dtype=np.float64)


def _pairs(wording: Wording) -> list[Run]:
    """Neighbours of which one counts."""
    run = wording.run.split()[: 2 * MOST_WORDS]
    return [b" %b %b " % pair for pair in pairwise(run) if not wording.counting.isdisjoint(pair)]


def _share(wanted: Sequence[Run], run: Run) -> float:
    return sum(one in run for one in wanted) / len(wanted) if wanted else 0.0


def _named(identifiers: Sequence[str], body: str) -> float:
    if not identifiers:
        return 0.0
    lowered = body.lower()
    return sum(named_in(lowered, one) for one in identifiers) / len(identifiers)
