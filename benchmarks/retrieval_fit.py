"""The weights of the embedded reranker: a conditional logit over what a search found, no weight below zero."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from serve_app.reranking import FEATURES, Weights

DECAY = 3e-3
"""Of the squared weights, per question."""
FLOOR, FLOOR_SHARE = 0.35, 0.975
"""`retriever.min_score`: so many questions about something else have no passage above it."""
USUAL = 0.85
"""Score of the best passage of half of all questions that the documents answer."""


@dataclass(frozen=True, slots=True)
class Lesson:
    task: str
    features: NDArray[np.float64]
    """Shape (passages, FEATURES)."""
    answers: NDArray[np.bool_]
    """Which of the passages are of a relevant document."""


def fitted(lessons: Sequence[Lesson], foreign: Sequence[NDArray[np.float64]]) -> Weights:
    """`foreign`: the features of what was found for questions that the documents do not answer."""
    usable = [one for one in lessons if one.answers.any() and not one.answers.all()]
    sums = _conditional_logit(usable)
    stranger = float(np.quantile([max(one @ sums) for one in foreign if len(one)], FLOOR_SHARE))
    usual = float(np.median([max(one.features @ sums) for one in usable]))
    low, high = (float(np.log(share / (1 - share))) for share in (FLOOR, USUAL))
    slope = (high - low) / (usual - stranger)
    scaled = {name: round(float(slope * weight), 3) for name, weight in zip(FEATURES, sums, strict=True)}
    return Weights(scaled, round(slope * stranger - low, 3))


def _conditional_logit(lessons: Sequence[Lesson]) -> NDArray[np.float64]:
    """How likely the search's passages are relevant relative to each other; every task counts the same."""
    sizes = [len(one.answers) for one in lessons]
    starts = np.cumsum([0, *sizes[:-1]])
    rows = np.concatenate([one.features for one in lessons])
    answers = np.concatenate([one.answers for one in lessons])
    of_task = Counter(one.task for one in lessons)
    importance = np.array([1 / of_task[one.task] / len(of_task) for one in lessons])
    spread = rows.std(axis=0) + 1e-6

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sums = rows @ (weights / spread)
        raised = np.exp(sums - np.repeat(np.maximum.reduceat(sums, starts), sizes))
        right = raised * answers
        every, relevant = np.add.reduceat(raised, starts), np.add.reduceat(right, starts)
        gradient = raised / np.repeat(every, sizes) - right / np.repeat(relevant, sizes)
        per_row = np.repeat(importance, sizes) * gradient
        value = float(importance @ (np.log(every) - np.log(relevant))) + DECAY * float(weights @ weights)
        return value, (per_row @ rows) / spread + 2 * DECAY * weights

    start = np.full(len(FEATURES), 0.5)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(FEATURES))
    return np.asarray(found.x / spread, dtype=np.float64)
