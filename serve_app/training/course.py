"""One training of all heads: examples in, heads and a description of them out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.heads import ATTACK, HARM, HARMS, OUTPUTS, Heads, Look
from serve_app.lexicon import Floats, Lexicon
from serve_app.training import branch, card, sources
from serve_app.training.branch import Branch, Lesson
from serve_app.training.examples import WRITTEN, Example, planted, written
from serve_app.training.fit import Parts, fit_joints, fit_lexicon, folds_of, read_lexicon, threshold_at, told

Say = Callable[[str], None]

PLANTED = 220
"""Attacks planted between stretches of pages, for training."""
TOKENS = 96
"""Of a text, that the branch is trained on: serving reads 256, and what is an attack usually says so early."""
FALSE_ATTACKS = 0.008
"""Share of the benign texts that people ask which the threshold lets be blocked out of fold; 0.01 is wanted."""
FALSE_HARMS = 0.075
"""The same of XSTest's safe half, for the harms; 0.08 is what is wanted."""
EVEN_ODDS = 0.5
"""Threshold of `difficulty`: both mistakes cost about the same, so there is no false positive rate to keep."""
IMPORTANCE = np.array([1.0, 0.3, 1.0, *(0.3 for _ in HARMS), 0.2], dtype=np.float32)
"""Of each output in training the branch."""


class Encodes(Protocol):
    """What training needs of the encoder."""

    @property
    def weights(self) -> Mapping[str, Floats]: ...

    def shared(self, texts: Sequence[str]) -> list[Floats]: ...

    def branched(self, weights: Mapping[str, Floats]) -> Look: ...


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one training made, not yet joined."""

    lexicon: Lexicon
    branch: Branch


@dataclass(frozen=True, slots=True)
class Course:
    """All that is trained on."""

    examples: Sequence[Example]
    lesson: Lesson
    parts: Parts
    start: Mapping[str, Floats]
    """The encoder's own weights."""

    @classmethod
    def of(cls, examples: Sequence[Example], encoder: Encodes) -> "Course":
        weights = np.array([[example.weight] for example in examples], dtype=np.float32) * IMPORTANCE
        lesson = Lesson(_shared(examples, encoder), told(examples), weights)
        return cls(examples, lesson, Parts.of(examples), encoder.weights)

    def fitted(self, groups: Sequence[Sequence[int]], threads: int) -> list[Fitted]:
        """One training for each group of rows, as many at a time as there are threads."""
        return branch.in_turn(threads, [partial(self.fit, rows) for rows in groups])

    def fit(self, rows: Sequence[int]) -> Fitted:
        made = branch.fit(self.start, self.lesson, rows)
        return Fitted(fit_lexicon(self.parts, self.lesson.labels, rows), made)

    def read(self, fitted: Fitted, rows: Sequence[int]) -> tuple[Floats, Floats]:
        """Logits of the lexicon and of the branch, shape (len(rows), outputs) each."""
        words = read_lexicon(fitted.lexicon, self.parts, rows)
        return words, branch.logits(fitted.branch, self.lesson.shared, rows)


def train(
    folder: Path, extra: Sequence[Path], encoder: Encodes, say: Say, threads: int = 2
) -> tuple[Heads, dict[str, Any]]:
    """Heads from the data sets below `folder`, the user's own files, and the project's templates.

    Raises ValueError for a file with a malformed line.
    """
    examples = gathered(folder, extra)
    say(f"{len(examples)} texts: reading them with the lower half of the encoder")
    course = Course.of(examples, encoder)
    folds = folds_of(examples)
    say(f"training {len(folds)} times without a part of the texts, to judge that part, and once with all")
    *partial_ones, whole = course.fitted([*(known for known, _ in folds), range(len(examples))], threads)
    words, seen = (np.zeros((len(examples), len(OUTPUTS)), dtype=np.float32) for _ in range(2))
    for fitted, (_, hidden) in zip(partial_ones, folds, strict=True):
        words[hidden], seen[hidden] = course.read(fitted, hidden)
    weights = np.array([example.weight for example in examples])
    joints = fit_joints(words, seen, course.lesson.labels, weights)
    values = heads_of(whole, joints, {}).joined(words, seen)
    limits = thresholds(examples, values)
    say("planting attacks in long pages")
    judge = heads_of(partial_ones[0], joints, limits)
    measured = card.planted(judge, [examples[row] for row in folds[0][1]], encoder.branched(judge.branch))
    heads = heads_of(whole, joints, limits)
    return heads, card.described(examples, values, heads, measured)


def gathered(folder: Path, extra: Sequence[Path]) -> list[Example]:
    """Everything to train on."""
    own = [example for path in extra for example in sources.given(path)]
    found = [*sources.read(folder), *own, *(example for name in WRITTEN for example in written(name))]
    return [*found, *planted(found, PLANTED)]


def heads_of(fitted: Fitted, joints: Floats, thresholds: Mapping[str, float]) -> Heads:
    made = fitted.branch
    return Heads(fitted.lexicon, made.weights, made.biases, joints, made.layers, thresholds)


def thresholds(examples: Sequence[Example], values: Floats) -> dict[str, float]:
    """By head, from joint logits of shape (texts, outputs) out of fold."""
    asked = {source.name for source in sources.SOURCES if source.asked}
    clean = [e.labels.get("attack") is False and e.labels.get("harm") is False for e in examples]
    benign = np.array([yes and e.source in asked for yes, e in zip(clean, examples, strict=True)])
    safe = np.array([yes and e.source == "xstest" for yes, e in zip(clean, examples, strict=True)])
    attack = _limit(values[:, ATTACK], benign, FALSE_ATTACKS)
    harm = _limit(values[:, HARM], safe, FALSE_HARMS)
    return {"prompt_injection": attack, "jailbreak": attack, **dict.fromkeys(HARMS, harm), "difficulty": EVEN_ODDS}


def _limit(values: Floats, negative: NDArray[np.bool_], rate: float) -> float:
    if not negative.any():  # None of the data sets is there: even odds are all that is left.
        return EVEN_ODDS
    logit = threshold_at(values[negative], np.zeros(int(negative.sum()), dtype=bool), rate)
    return float(1 / (1 + np.exp(-logit)))


def _shared(examples: Sequence[Example], encoder: Encodes) -> list[NDArray[np.float16]]:
    order = sorted(range(len(examples)), key=lambda position: len(examples[position].text))
    rows: dict[int, NDArray[np.float16]] = {}
    for start in range(0, len(order), 16):  # Of like length: the longest of a batch sets its price.
        batch = order[start : start + 16]
        # No token is shorter than a character, and few of the first TOKENS words are longer than six.
        texts = [examples[position].text[: 6 * TOKENS] for position in batch]
        rows.update((p, s[:TOKENS].astype(np.float16)) for p, s in zip(batch, encoder.shared(texts), strict=True))
    return [rows[position] for position in range(len(examples))]
