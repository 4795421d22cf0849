"""Whether a request stands in a passage or a tool result that is not its own: indirect prompt injection.

A planted request is a sentence that asks something of the reader and has little to do with its neighbours. All
sentences are read by their words, which is cheap; the few that read most like a request are encoded, with a stretch
of their surroundings, and judged together.

numpy and the standard library only: Triton's Python backend imports this file under numpy 1.26.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_app.indirect_sentences import BLOCK, BYTE_SIZES, LONGEST, WORD_SIZES, Sentence, grams, sentences

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]

SHIPPED = Path(__file__).with_name("indirect.npz")
"""The inspector that comes with Manta; `indirect.json` beside it says what trained it and how good it is."""

DIMENSION = 384
"""Of an embedding."""
LOOKS = 10
"""Traits of a suspect besides its embedding."""

REGION = 1_500
"""Characters of a text that count as one passage, about: a chunk of the index is one, a tool result may be many."""
SUSPECTS = 3
"""Sentences of a region that are encoded."""
FLOOR = -3.0
"""Lexical logit below which a sentence is not encoded. Of clean chunks 68 % have no other sentence, of BIPIA's planted
attacks 1.2 %."""
MOST_SUSPECTS = 12
"""Of a whole text, however long: what bounds the encoder's work."""
NEIGHBOURS = 360
"""Characters of the other sentences of a region that are encoded, about 90 tokens."""
BATCH = 8
"""Sentences of one encoder call; they are of like length."""


_QUOTED = re.compile("^[\"'`>\u201c\u2018(\\[]|[=(:,\\[{][ ]?[\"'`\u201c]|[\"'`\u201d][,)\\]};]*$")
"""A string of a program, a quotation."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A sentence that may be a request, and what the judge needs to know of where it stands."""

    sentence: Sentence
    logit: float
    """What its words say."""
    rest: str
    """Other sentences of its region; empty where there are none."""
    place: float
    """0 for the first sentence of its region, 1 for the last."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """A linear reading of word and byte n-grams."""

    weights: Floats
    """Shape (2 * BLOCK,)."""
    idf: Floats
    """Shape (2 * BLOCK,): inverse document frequency, 0 where training never saw the bucket."""
    bias: float

    def logits(self, parts: Sequence[Sentence]) -> Floats:
        """One per sentence; a sentence must not hold a line break."""
        total = np.full(len(parts), self.bias, dtype=np.float32)
        for rows, buckets in grams(parts):
            values = self.idf[buckets]
            length = np.sqrt(np.bincount(rows, values * values, len(parts))) + 1e-9
            total += (np.bincount(rows, values * self.weights[buckets], len(parts)) / length).astype(np.float32)
        return total


@dataclass(frozen=True, slots=True)
class Judge:
    """One hidden layer over `traits`."""

    hidden: Floats
    """Shape (traits, units)."""
    hidden_bias: Floats
    output: Floats
    """Shape (units,)."""
    output_bias: float

    def logits(self, rows: Floats) -> Floats:
        made: Floats = np.maximum(rows @ self.hidden + self.hidden_bias, 0) @ self.output + np.float32(self.output_bias)
        return made


@dataclass(frozen=True, slots=True)
class Inspector:
    lexicon: Lexicon
    judge: Judge
    slope: float
    intercept: float
    """Platt's scaling of the judge's logit to a probability."""
    crowd: float
    """Power of the number of regions that the odds of a text are divided by: of many passages, one looks bad by
    chance."""
    threshold: float
    """The probability at and above which a passage is poisoned."""

    def read(self, texts: Sequence[str], encode: Encode) -> Floats:
        """Shape (len(texts),): probability that a request stands in the text that is not its own.

        0 where no sentence reads like a request: then nothing is encoded.
        """
        marked = [self.suspects(text) for text in texts]
        logits = self.judged([suspect for suspects, _ in marked for suspect in suspects], encode)
        ends = np.cumsum([len(suspects) for suspects, _ in marked])
        scores = np.zeros(len(texts), dtype=np.float32)
        for position, (suspects, regions) in enumerate(marked):
            if suspects:
                worst = float(logits[ends[position] - len(suspects) : ends[position]].max())
                scores[position] = self.probability(worst, regions)
        return scores

    def probability(self, logit: float, regions: int) -> float:
        scaled = self.slope * logit + self.intercept - self.crowd * float(np.log(max(regions, 1)))
        return float(1 / (1 + np.exp(-np.clip(scaled, -60, 60))))

    def suspects(self, text: str, floor: float = FLOOR) -> tuple[list[Suspect], int]:
        """The sentences to encode, worst first, and the number of regions of the text."""
        parts = sentences(text)
        if not parts:
            return [], 0
        logits = self.lexicon.logits(parts)
        found: list[Suspect] = []
        bounds = list(regions(parts))
        for start, end in bounds:
            order = start + np.argsort(-logits[start:end], kind="stable")
            region, ranks = parts[start:end], (order - start).tolist()
            for rank in (rank for rank in ranks[:SUSPECTS] if logits[start + rank] >= floor):
                place = rank / max(end - start - 1, 1)
                found.append(Suspect(region[rank], float(logits[start + rank]), rest_of(region, rank, ranks), place))
        found.sort(key=lambda suspect: -suspect.logit)
        return found[:MOST_SUSPECTS], len(bounds)

    @classmethod
    def load(cls, path: Path) -> "Inspector":
        """Raises FileNotFoundError; ValueError when `save` did not write the file for these features."""
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in _ARRAYS if name not in file]:
                raise ValueError(f"indirect: {path} has no {missing[0]!r}; train it anew with `manta heads train`")
            arrays = {name: file[name] for name in _ARRAYS}
        constants = json.loads(str(arrays["constants"]))
        if constants["layout"] != layout():
            raise ValueError(
                f"indirect: {path} was trained for the features {constants['layout']}, this version computes "
                f"{layout()}; train it anew with `manta heads train`"
            )
        weights, idf, hidden, bias, output = (
            arrays[name].astype(np.float32) * np.float32(constants["scales"][name]) for name in _ARRAYS[:-1]
        )
        lexicon = Lexicon(weights, idf, constants["lexicon_bias"])
        judge = Judge(hidden, bias, output, constants["output_bias"])
        return cls(lexicon, judge, **{name: constants[name] for name in _SCALARS})

    def save(self, path: Path) -> None:
        """The lexicon as int8 with one scale each, the judge as float16: a few hundred kilobytes."""
        weights, weights_scale = _quantised(self.lexicon.weights)
        idf, idf_scale = _quantised(self.lexicon.idf)
        judge = (self.judge.hidden, self.judge.hidden_bias, self.judge.output)
        scales = dict(zip(_ARRAYS, (weights_scale, idf_scale, 1.0, 1.0, 1.0), strict=False))
        constants = {"layout": layout(), "scales": scales, "lexicon_bias": self.lexicon.bias}
        constants |= {"output_bias": self.judge.output_bias} | {name: getattr(self, name) for name in _SCALARS}
        parts: list[NDArray[np.generic]] = [weights, idf, *(part.astype(np.float16) for part in judge)]
        parts.append(np.array(json.dumps(constants)))
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(zip(_ARRAYS, parts, strict=True)))

    def judged(self, suspects: Sequence[Suspect], encode: Encode) -> Floats:
        return self.judge.logits(traits(suspects, encode))


_ARRAYS = ("weights", "idf", "hidden", "hidden_bias", "output", "constants")
_SCALARS = ("slope", "intercept", "crowd", "threshold")


def layout() -> str:
    """Names the features; weights trained for others are noise."""
    return f"1/{BLOCK}/{WORD_SIZES}/{BYTE_SIZES}/{LONGEST}/{NEIGHBOURS}/{LOOKS}"


def traits(suspects: Sequence[Suspect], encode: Encode) -> Floats:
    """What the judge sees of each suspect, shape (len(suspects), 2 * DIMENSION + LOOKS): its embedding, that times its
    surroundings', and how it looks.
    """
    rows: dict[str, Floats] = {}
    for batch in batches({text for suspect in suspects for text in (suspect.sentence.text, suspect.rest) if text}):
        rows.update(zip(batch, encode(batch), strict=True))
    made = np.zeros((len(suspects), 2 * DIMENSION + LOOKS), dtype=np.float32)
    for position, suspect in enumerate(suspects):
        own = rows[suspect.sentence.text]
        around = rows[suspect.rest] if suspect.rest else np.zeros_like(own)
        made[position, :DIMENSION] = own
        made[position, DIMENSION : 2 * DIMENSION] = own * around * 8  # Scaled so that all traits are of like size.
        made[position, 2 * DIMENSION :] = looks(suspect, float(own @ around))
    return made


def batches(texts: Collection[str]) -> Iterator[list[str]]:
    """Texts of like length together: in a batch each costs what its longest does."""
    batch: list[str] = []
    for text in sorted(texts, key=lambda one: (len(one), one)):
        if batch and (len(batch) == BATCH or len(text) > 1.5 * len(batch[0]) + 20):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def looks(suspect: Suspect, likeness: float) -> tuple[float, ...]:
    """LOOKS numbers between about 0 and 2. `likeness`: cosine to the surroundings."""
    text = suspect.sentence.text
    return (
        suspect.logit / 4,
        likeness * 2,
        float(not suspect.rest),
        float(suspect.sentence.code),
        float(_QUOTED.search(text) is not None),
        float(text.endswith("?")),
        float(text.endswith(":")),
        min(len(text), LONGEST) / LONGEST,
        sum(not (one.isalnum() or one.isspace()) for one in text) / len(text) * 4,
        suspect.place,
    )


def regions(parts: Sequence[Sentence]) -> Iterator[tuple[int, int]]:
    """Where each passage of about REGION characters starts and ends. They are about equal."""
    ends = np.cumsum([len(part.text) + 1 for part in parts])
    count = max(1, round(int(ends[-1]) / REGION))
    cuts = [0, *np.searchsorted(ends, ends[-1] * np.arange(1, count) / count).tolist(), len(parts)]
    yield from ((start, end) for start, end in pairwise(cuts) if start < end)


def rest_of(parts: Sequence[Sentence], at: int, suspicious: Sequence[int]) -> str:
    """Sentences of the region other than `at`, the least suspicious first, up to NEIGHBOURS characters.

    `suspicious`: positions, worst first.
    """
    chosen: list[int] = []
    left = NEIGHBOURS
    for position in reversed(suspicious):
        if position != at and left > 0:
            chosen.append(position)
            left -= len(parts[position].text)
    return " ".join(parts[position].text for position in sorted(chosen))[:NEIGHBOURS]


def _quantised(values: Floats) -> tuple[NDArray[np.int8], float]:
    scale = float(np.abs(values).max()) / 127 or 1.0
    return np.round(values / scale).astype(np.int8), scale
