"""From examples to heads: words and branch fitted, joined on texts that neither saw, and given thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from serve_app.heads import ATTACK, DIFFICULTY, HARM, JAILBREAK, OUTPUTS, REACHED, ends
from serve_app.lexicon import BLOCK, Floats, Lexicon, normalised, weighted, windows
from serve_app.training.examples import FOLDS, Example

STRENGTH = 50.0
"""scikit-learn's C of the lexicon's logistic regressions."""

READ = (ATTACK, JAILBREAK, HARM, DIFFICULTY)
"""Outputs that words are read for: which harm it is, the branch says better."""

_ONES = np.ones(2 * BLOCK, dtype=np.float32)

Told = NDArray[np.float32]
"""Shape (texts, outputs): 0, 1, or nan where nobody knows."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The normalised stretches of each example that the lexicon reads."""

    windows: tuple[tuple[str, ...], ...]
    ends: tuple[str, ...]
    """What `difficulty` is read from."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Parts":
        plain = [normalised(example.text) for example in examples]
        return cls(tuple(tuple(windows(text, REACHED)) for text in plain), tuple(map(ends, plain)))


def told(examples: Sequence[Example]) -> Told:
    unknown = float("nan")
    return np.array([[float(e.labels.get(name, unknown)) for name in OUTPUTS] for e in examples], dtype=np.float32)


def folds_of(examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
    """(known, hidden) rows of each fold."""
    fold = [example.fold for example in examples]
    rows = range(len(examples))
    return [([r for r in rows if fold[r] != f], [r for r in rows if fold[r] == f]) for f in range(FOLDS)]


def fit_lexicon(parts: Parts, labels: Told, rows: Sequence[int]) -> Lexicon:
    """Trained on these rows. It says nothing of an output that is not READ, or without texts of both labels."""
    idf = fit_idf([part for row in rows for part in parts.windows[row]])
    weights = np.zeros((len(OUTPUTS), 2 * BLOCK), dtype=np.float32)
    biases = np.zeros(len(OUTPUTS), dtype=np.float32)
    for by_ends in (False, True):
        stretches = [(row, part) for row in rows for part in ((parts.ends[row],) if by_ends else parts.windows[row])]
        owners = np.array([row for row, _ in stretches])
        matrix = _matrix([part for _, part in stretches], idf)
        for output in READ:
            if (output == DIFFICULTY) == by_ends:
                fitted = _logistic(matrix, labels[owners, output], owners)
                if fitted:
                    weights[output], biases[output] = fitted
    return Lexicon(weights, biases, idf)


def read_lexicon(lexicon: Lexicon, parts: Parts, rows: Sequence[int]) -> Floats:
    """Shape (len(rows), outputs), as `Heads.logits` reads a text's words."""
    made = np.zeros((len(rows), len(OUTPUTS)), dtype=np.float32)
    for position, row in enumerate(rows):
        made[position] = np.max([lexicon.logits(part) for part in parts.windows[row]], axis=0)
        if len(parts.windows[row]) > 1:
            made[position, DIFFICULTY] = lexicon.logits(parts.ends[row])[DIFFICULTY]
    return made


def fit_idf(stretches: Sequence[str]) -> Floats:
    """ln((1 + n) / (1 + df)) + 1, and 0 for a bucket that no training text has."""
    frequency = np.zeros(2 * BLOCK, dtype=np.float32)
    for part in stretches:
        buckets, _ = weighted(part, _ONES)
        frequency[buckets] += 1
    idf = np.log((1 + len(stretches)) / (1 + frequency)) + 1
    return np.where(frequency > 0, idf, 0).astype(np.float32)


def fit_joints(words: Floats, seen: Floats, labels: Told, weights: NDArray[np.float64]) -> Floats:
    """Shape (outputs, 3): how much the lexicon's and the branch's logit of texts that neither was trained on count.

    No share is negative: what is then left is the better of the two alone.
    """
    joints = np.tile(np.array([0.5, 0.5, 0.0], dtype=np.float32), (len(OUTPUTS), 1))
    for output in range(len(OUTPUTS)):
        known = ~np.isnan(labels[:, output])
        positive = labels[known, output] == 1
        if 0 < positive.sum() < known.sum():
            logits = np.stack([words[known, output], seen[known, output]], axis=1)
            joints[output] = _joint(logits, positive, weights[known])
    return joints


def threshold_at(values: NDArray[np.floating], positive: NDArray[np.bool_], rate: float) -> float:
    """The lowest threshold at which at most `rate` of the negatives are at or above it."""
    negatives = np.sort(values[~positive])[::-1]
    return float(np.nextafter(np.float32(negatives[int(rate * len(negatives))]), np.float32(np.inf)))


def _joint(logits: Floats, positive: NDArray[np.bool_], weights: NDArray[np.float64]) -> Floats:
    for columns in ((0, 1), (1,), (0,)):
        model = LogisticRegression(C=1e3).fit(logits[:, columns], positive, sample_weight=weights)
        if (model.coef_[0] >= 0).all():
            joint = np.zeros(3, dtype=np.float32)
            joint[list(columns)], joint[2] = model.coef_[0], model.intercept_[0]
            return joint
    return np.array([0.0, 1.0, 0.0], dtype=np.float32)


def _matrix(stretches: Sequence[str], idf: Floats) -> csr_matrix:
    pairs = [weighted(part, idf) for part in stretches]
    return csr_matrix(
        (
            np.concatenate([values for _, values in pairs]),
            np.concatenate([buckets for buckets, _ in pairs]).astype(np.int32),
            np.cumsum([0, *(len(values) for values, _ in pairs)]),
        ),
        shape=(len(pairs), 2 * BLOCK),
    )


def _logistic(matrix: csr_matrix, labels: Floats, owners: NDArray[np.int_]) -> tuple[Floats, float] | None:
    """Weights and bias. The stretches of one text count as three at most."""
    known = np.flatnonzero(~np.isnan(labels))
    if len(set(labels[known].tolist())) < 2:
        return None
    _, inverse, counts = np.unique(owners[known], return_inverse=True, return_counts=True)
    weights = (np.minimum(counts, 3) / counts)[inverse]
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", solver="liblinear", random_state=0, tol=1e-2)
    model.fit(matrix[known], labels[known], sample_weight=weights)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])
