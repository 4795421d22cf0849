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
LATE_FALSE_POSITIVES = 0.001
"""The same per window that the embedding did not see: a long text has many."""
MOST_WINDOWS = 12
"""Windows of one text that train: a manual page must not outweigh a hundred questions."""
LEXICAL_STRENGTH = 50.0
EMBEDDING_STRENGTH = 10.0
"""scikit-learn's C of the two logistic regressions."""

SILENT = -1e9
"""A late bias that no window overcomes."""

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

    late_bias: float
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an unscaled head said of an example."""

    example: Example
    lexical: Floats
    """One logit per window."""
    semantic: float
    """The embedding's logit."""

    def probability(self, scaling: Scaling) -> float:
        # The real rule, on a head whose weights are already multiplied out: training cannot drift from serving.
        nothing = np.zeros(0, dtype=np.float32)
        head = Head(nothing, 0.0, nothing, self.semantic, scaling.late_bias, scaling.slope, scaling.intercept)
        return head.probability(self.lexical, nothing)

    def logit(self, scaling: Scaling) -> float:
        probability = min(max(self.probability(scaling), 1e-12), 1 - 1e-12)
        return float(np.log(probability / (1 - probability)))


def prepared(head: str, examples: Sequence[Example], embeddings: Floats) -> list[Sample]:
    samples = []
    for example, seen in zip(examples, embeddings, strict=True):
        plain = normalised(example.text)
        samples.append(Sample(example, seen, tuple(windows(plain)) if head == "injection" else (ends(plain),)))
    return samples


def fit_idf(samples: Sequence[Sample]) -> Floats:
    """ln((1 + n) / (1 + df)) + 1, and 0 for a bucket that no training text has."""
    parts = [part for sample in samples for part in _training_parts(sample)]
    frequency = np.zeros(2 * BLOCK, dtype=np.float32)
    for part in parts:
        buckets, _ = weighted(part, _ONES)
        frequency[buckets] += 1
    idf = np.log((1 + len(parts)) / (1 + frequency)) + 1
    return np.where(frequency > 0, idf, 0).astype(np.float32)


def fit_head(samples: Sequence[Sample], idf: Floats) -> Head:
    """A head without scaling, that does not listen to late windows yet. Needs examples of both labels."""
    if len(set(labels(samples).tolist())) < 2:
        raise ValueError(f"the {len(samples)} texts to train on have one label only; give examples of both")
    lexical, lexical_bias = _lexical(samples, idf)
    embedding, embedding_bias = _embedding(samples)
    return Head(lexical, lexical_bias, embedding, embedding_bias, late_bias=SILENT, slope=1.0, intercept=0.0)


def judged(head: Head, samples: Sequence[Sample], idf: Floats) -> list[Verdict]:
    verdicts = []
    for sample in samples:
        pairs = (weighted(part, idf) for part in sample.parts)
        logits = [float(head.lexical[buckets] @ values) + head.lexical_bias for buckets, values in pairs]
        semantic = float(head.embedding @ sample.seen) + head.embedding_bias
        verdicts.append(Verdict(sample.example, np.array(logits, dtype=np.float32), semantic))
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
    plain = Scaling(late_bias=SILENT, slope=1.0, intercept=0.0)
    joint = np.array([verdict.logit(plain) for verdict in verdicts])
    platt = LogisticRegression(C=1e6, class_weight="balanced").fit(joint[:, None], positive)
    # A late window must be as rare among benign windows as LATE_FALSE_POSITIVES to reach the logit that blocks.
    benign = np.concatenate([verdict.lexical for verdict in verdicts if not verdict.example.positive])
    late_bias = threshold_at(joint, positive) - float(np.quantile(benign, 1 - LATE_FALSE_POSITIVES))
    return Scaling(late_bias=late_bias, slope=float(platt.coef_[0, 0]), intercept=float(platt.intercept_[0]))


def threshold_at(values: NDArray[np.floating], positive: NDArray[np.bool_], rate: float = FALSE_POSITIVES) -> float:
    """The lowest threshold at which at most `rate` of the negatives are at or above it."""
    negatives = np.sort(values[~positive])[::-1]
    return float(np.nextafter(np.float32(negatives[int(rate * len(negatives))]), np.float32(np.inf)))


def labels(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    return np.array([sample.example.positive for sample in samples])


def _lexical(train: Sequence[Sample], idf: Floats) -> tuple[Floats, float]:
    pairs, positive, weights = [], [], []
    for sample in train:
        parts = _training_parts(sample)
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


def _training_parts(sample: Sample) -> tuple[str, ...]:
    return sample.parts[:: -(-len(sample.parts) // MOST_WINDOWS)]
