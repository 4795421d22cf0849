"""The words of requests: a logistic regression over hashed n-grams of sentences."""

import random
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from serve_app.indirect import Floats, Lexicon
from serve_app.indirect_sentences import BLOCK, Sentence, grams, sentences
from serve_app.training.indirect_examples import Chunk, Request

MOST_SENTENCES = 40_000
"""Of clean pages."""
STRENGTH = 20.0
"""scikit-learn's C."""
REQUESTS_WEIGHT = 0.25
"""All requests together weigh this much of all clean sentences."""
MOST_OF_LONG = 2
"""Sentences of a long prompt that count as requests: those that read most like one."""


def fit_lexicon(pages: Sequence[Chunk], asked: Sequence[Request]) -> Lexicon:
    clean = list(dict.fromkeys(part for page in pages for part in sentences(page.text)))
    random.Random(0).shuffle(clean)
    clean = clean[:MOST_SENTENCES]
    short = [part for one in asked if not one.is_long for part in one.parts]
    first = _fit(short, clean[: MOST_SENTENCES // 3])
    long = []
    for one in asked:
        if one.is_long:
            order = np.argsort(-first.logits(one.parts), kind="stable")
            long += [one.parts[at] for at in order[:MOST_OF_LONG].tolist()]
    return _fit([*short, *long], clean)


def _fit(positive: Sequence[Sentence], negative: Sequence[Sentence]) -> Lexicon:
    positive = list(dict.fromkeys(positive))
    parts = [*positive, *negative]
    frequency = np.asarray((_matrix(parts, np.ones(2 * BLOCK, np.float32)) > 0).sum(axis=0)).ravel()
    idf = np.where(frequency > 0, np.log((1 + len(parts)) / (1 + frequency)) + 1, 0).astype(np.float32)
    weight = max(1.0, REQUESTS_WEIGHT * len(negative) / len(positive))
    made = LogisticRegression(C=STRENGTH, solver="liblinear", class_weight={True: weight, False: 1.0}, random_state=0)
    made.fit(_matrix(parts, idf), np.arange(len(parts)) < len(positive))
    return Lexicon(made.coef_[0].astype(np.float32), idf, float(made.intercept_[0]))


def _matrix(parts: Sequence[Sentence], idf: Floats) -> csr_matrix:
    """Row for row what `Lexicon.logits` multiplies its weights with."""
    rows, columns, values = [], [], []
    for row, bucket in grams(parts):
        value = idf[bucket]
        length = np.sqrt(np.bincount(row, value * value, len(parts))) + 1e-9
        rows.append(row)
        columns.append(bucket)
        values.append(value / length[row])
    places = (np.concatenate(rows), np.concatenate(columns))
    return csr_matrix((np.concatenate(values), places), shape=(len(parts), 2 * BLOCK), dtype=np.float32)
