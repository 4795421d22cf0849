"""From examples to heads: tf-idf and embedding logits by logistic regression, joined, scaled, and given a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from serve_app.heads import BLOCK, Floats, Head, ends, normalised, weighted, windows
from serve_app.training.examples import FOLDS, Example

FALSE_POSITIVES = 0.01
"""Share of the benign validation texts that the threshold lets be blocked."""
LEXICAL_STRENGTH = 50.0
EMBEDDING_STRENGTH = 10.0
"""scikit-learn's C of the two logistic regressions."""

_ONES = np.ones(2 * BLOCK, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Sample:
    """An example, ready: its embedding and the normalised stretches whose words are read."""

    example: Example
    seen: Floats
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The part of a Head that is chosen on texts it was not trained on."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an unscaled head said of an example."""

    example: Example
    logit: float

    def probability(self, scaling: Scaling) -> float:
        return float(1 / (1 + np.exp(-(scaling.slope * self.logit + scaling.intercept))))


def prepared(head: str, examples: Sequence[Example], embeddings: Floats) -> list[Sample]:
    samples = []
    for example, seen in zip(examples, embeddings, strict=True):
        plain = normalised(example.text)
        samples.append(Sample(example, seen, tuple(windows(plain)) if head == "injection" else (ends(plain),)))
    return samples


def fit_idf(samples: Sequence[Sample]) -> Floats:
    """ln((1 + n) / (1 + df)) + 1, and 0 for a bucket that no training text has."""
    parts = [part for sample in samples for part in sample.parts]
    frequency = np.zeros(2 * BLOCK, dtype=np.float32)
    for part in parts:
        buckets, _ = weighted(part, _ONES)
        frequency[buckets] += 1
    idf = np.log((1 + len(parts)) / (1 + frequency)) + 1
    return np.where(frequency > 0, idf, 0).astype(np.float32)


def fit_head(samples: Sequence[Sample], idf: Floats) -> Head:
    """A head without scaling. Needs examples of both labels."""
    if len(set(labels(samples).tolist())) < 2:
        raise ValueError(f"the {len(samples)} texts to train on have one label only; give examples of both")
    lexical, lexical_bias = _lexical(samples, idf)
    embedding, embedding_bias = _embedding(samples)
    return Head(lexical, lexical_bias, embedding, embedding_bias, slope=1.0, intercept=0.0)


def judged(head: Head, samples: Sequence[Sample], idf: Floats) -> list[Verdict]:
    verdicts = []
    for sample in samples:
        pairs = (weighted(part, idf) for part in sample.parts)
        lexical = max(float(head.lexical[buckets] @ values) + head.lexical_bias for buckets, values in pairs)
        # The head's own rule, unscaled: training cannot drift from serving.
        probability = min(max(head.probability(lexical, sample.seen), 1e-12), 1 - 1e-12)
        verdicts.append(Verdict(sample.example, float(np.log(probability / (1 - probability)))))
    return verdicts


def out_of_fold(samples: Sequence[Sample]) -> list[Verdict]:
    """Every sample judged by a head that saw nothing of its fold."""
    verdicts = []
    for fold in range(FOLDS):
        known = [sample for sample in samples if sample.example.fold != fold]
        idf = fit_idf(known)
        verdicts += judged(fit_head(known, idf), [s for s in samples if s.example.fold == fold], idf)
    return verdicts


def scaling(verdicts: Sequence[Verdict]) -> Scaling:
    positive = np.array([verdict.example.positive for verdict in verdicts])
    joint = np.array([verdict.logit for verdict in verdicts])
    platt = LogisticRegression(C=1e6, class_weight="balanced").fit(joint[:, None], positive)
    return Scaling(slope=float(platt.coef_[0, 0]), intercept=float(platt.intercept_[0]))


def threshold_at(values: NDArray[np.floating], positive: NDArray[np.bool_], rate: float = FALSE_POSITIVES) -> float:
    """The lowest threshold at which at most `rate` of the negatives are at or above it."""
    negatives = np.sort(values[~positive])[::-1]
    return float(np.nextafter(np.float32(negatives[int(rate * len(negatives))]), np.float32(np.inf)))


def labels(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    return np.array([sample.example.positive for sample in samples])


def _lexical(train: Sequence[Sample], idf: Floats) -> tuple[Floats, float]:
    pairs, positive, weights = [], [], []
    for sample in train:
        parts = sample.parts
        pairs += [weighted(part, idf) for part in parts]
        positive += [sample.example.positive] * len(parts)
        weights += [min(len(parts), 3) / len(parts)] * len(parts)
    matrix = csr_matrix(
        (
            np.concatenate([values for _, values in pairs]),
            np.concatenate([buckets for buckets, _ in pairs]).astype(np.int32),
            np.cumsum([0, *(len(values) for values, _ in pairs)]),
        ),
        shape=(len(pairs), 2 * BLOCK),
    )
    model = LogisticRegression(C=LEXICAL_STRENGTH, class_weight="balanced", solver="liblinear", random_state=0)
    model.fit(matrix, positive, sample_weight=weights)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def _embedding(train: Sequence[Sample]) -> tuple[Floats, float]:
    model = LogisticRegression(C=EMBEDDING_STRENGTH, class_weight="balanced", max_iter=1_000)
    model.fit(np.stack([sample.seen for sample in train]), labels(train))
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])
