"""One training of all heads: examples in, heads and a description of them out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.heads import NAMES, Encode, Floats, Head, Heads, layout
from serve_app.training import sources
from serve_app.training.examples import Example, written
from serve_app.training.fit import (
    FALSE_POSITIVES,
    Sample,
    Scaling,
    Verdict,
    fit_head,
    fit_idf,
    judged,
    labels,
    out_of_fold,
    prepared,
    scaling,
    threshold_at,
)

Say = Callable[[str], None]

TEMPLATES = {"injection": ("attacks", "benign"), "difficulty": ("hard", "easy")}
"""Files of positive and negative sentence templates of each head."""
EVEN_ODDS = 0.5
"""Threshold of `difficulty`: both mistakes cost about the same, so there is no false positive rate to keep."""

WEAKNESSES = (
    "About two thirds of the positive texts are the project's own templates; figures for `manta-*` are on unseen "
    "templates, by the same author.",
    "`deepset` labels some ordinary off-topic questions as attacks, and many of `cyberseceval` are attacks only "
    "beside their system prompt: no reader of the question alone finds those.",
    "Requests for harm are not injections: this head lets them pass.",
    "Of a long text, the first 256 tokens and the three most suspicious sentences are read: an attack spread over many "
    "harmless-looking sentences further down is not seen.",
    "English, some German; other languages have a handful of templates.",
    "`difficulty` is a judgement of the question's form (lookup or short fact against code, comparison, several steps, "
    "synthesis), labelled by template and by source, never by whether a small model failed.",
)


def train(folder: Path, extra: Sequence[Path], encode: Encode, say: Say) -> tuple[Heads, dict[str, Any]]:
    """Heads from the data sets below `folder`, the user's own files, and the project's templates.

    Raises ValueError for a file with a malformed line.
    """
    data = {name: _samples(name, _examples(name, folder, extra), encode) for name in NAMES}
    idf = fit_idf([sample for samples in data.values() for sample in samples])
    heads: dict[str, Head] = {}
    thresholds: dict[str, float] = {}
    description: dict[str, Any] = {}
    for name, samples in data.items():
        say(f"{name}: {len(samples)} texts, judging each by heads that did not see it")
        verdicts = out_of_fold(samples)
        chosen = scaling(verdicts)
        thresholds[name] = _threshold(name, verdicts, chosen)
        heads[name] = replace(fit_head(samples, idf), **asdict(chosen))
        description[name] = _figures(verdicts, chosen, thresholds[name])
        say(f"{name}: leaving out one source at a time")
        description[name]["left_out"] = _left_out(samples)
    made = Heads(heads, idf, thresholds)
    say("injection: planting attacks in long texts")
    description["injection"]["planted"] = _planted(data["injection"], encode)
    description["injection"]["only_measured"] = _only_measured(made, folder, encode)
    return made, _described(description)


def _examples(name: str, folder: Path, extra: Sequence[Path]) -> list[Example]:
    positive, negative = TEMPLATES[name]
    own = [example for path in extra for example in sources.given(path, name)]
    return [*sources.read(folder, name), *own, *written(positive, True), *written(negative, False)]


def _samples(name: str, examples: Sequence[Example], encode: Encode) -> list[Sample]:
    order = sorted(range(len(examples)), key=lambda position: len(examples[position].text))
    rows: dict[int, Floats] = {}
    for start in range(0, len(order), 16):  # Of like length: the longest of a batch sets its price.
        batch = order[start : start + 16]
        rows.update(zip(batch, encode([examples[position].text for position in batch]), strict=True))
    return prepared(name, examples, np.stack([rows[position] for position in range(len(examples))]))


def _threshold(name: str, verdicts: Sequence[Verdict], chosen: Scaling) -> float:
    if name != "injection":
        return EVEN_ODDS
    # Sentences of pages are nobody's questions, and easy: they would make room for other mistakes.
    asked = [verdict for verdict in verdicts if not verdict.example.source.startswith("sentences-")]
    probability = np.array([verdict.probability(chosen) for verdict in asked])
    return threshold_at(probability, np.array([verdict.example.positive for verdict in asked]))


def _figures(verdicts: Sequence[Verdict], chosen: Scaling, threshold: float) -> dict[str, Any]:
    blocked: dict[tuple[bool, str], list[bool]] = defaultdict(list)
    for verdict in verdicts:
        yes = verdict.probability(chosen) >= threshold
        for source in ("all", verdict.example.source):
            blocked[verdict.example.positive, source].append(yes)
    return {
        "threshold": round(threshold, 4),
        "recall": {source: _share(yes) for (positive, source), yes in sorted(blocked.items()) if positive},
        "false_positives": {source: _share(yes) for (positive, source), yes in sorted(blocked.items()) if not positive},
    }


def _left_out(samples: Sequence[Sample]) -> dict[str, Any]:
    """Recall on each source of positives when nothing of that source was trained on, at 1 % of unseen negatives."""
    found: dict[str, Any] = {}
    for source in sorted({sample.example.source for sample in samples if sample.example.positive}):
        hidden = [sample for sample in samples if _hidden(sample.example, source)]
        known = [sample for sample in samples if not _hidden(sample.example, source)]
        if len(set(labels(known).tolist())) == len(set(labels(hidden).tolist())) == 2:
            idf = fit_idf(known)
            values = np.array([verdict.logit for verdict in judged(fit_head(known, idf), hidden, idf)])
            limit = threshold_at(values, labels(hidden))
            found[source] = _share([bool(yes) for yes in values[labels(hidden)] >= limit])
    return found


def _hidden(example: Example, source: str) -> bool:
    return example.source == source if example.positive else example.fold == 0


def _planted(samples: Sequence[Sample], encode: Encode) -> dict[str, Any]:
    """Short attacks as the last line of 2,500 characters, and long benign texts whole: all of a fold not trained on."""
    known = [sample for sample in samples if sample.example.fold != 0]
    hidden = [sample for sample in samples if sample.example.fold == 0]
    idf = fit_idf(known)
    verdicts = judged(head := fit_head(known, idf), hidden, idf)
    head = replace(head, **asdict(chosen := scaling(verdicts)))
    heads = Heads(dict.fromkeys(NAMES, head), idf, {"injection": _threshold("injection", verdicts, chosen)})
    hosts = [s.example.text for s in hidden if not s.example.positive and len(s.example.text) > 1_200]
    guests = [s.example.text for s in hidden if s.example.positive and len(s.example.text) < 300]
    if not hosts:
        return {}
    found = {
        "attack in the last line": [f"{hosts[n % len(hosts)][:2_500]}\n{text}" for n, text in enumerate(guests)],
        "none, false positives": [host[:10_000] for host in hosts],
    }
    return {name: _share(_blocked(heads, texts, encode)) for name, texts in found.items()}


def _blocked(heads: Heads, texts: Sequence[str], encode: Encode) -> list[bool]:
    scores = [float(heads.read([text], encode)[1]["injection"][0]) for text in texts]
    return [score >= heads.thresholds["injection"] for score in scores]


def _only_measured(heads: Heads, folder: Path, encode: Encode) -> dict[str, Any]:
    texts: dict[str, list[str]] = defaultdict(list)
    for example in sources.read(folder, "injection", sources.REPORTED):
        texts[example.source].append(example.text)
    return {source: _share(_blocked(heads, found, encode)) for source, found in texts.items()}


def _share(yes: Sequence[bool]) -> dict[str, float]:
    return {"texts": len(yes), "share": round(sum(yes) / len(yes), 4)}


def _described(figures: dict[str, Any]) -> dict[str, Any]:
    known = (*sources.SOURCES, *sources.REPORTED)
    return {
        "trained": datetime.now(UTC).date().isoformat(),
        "layout": layout(),
        "measured": (
            "`recall` and `false_positives`: out of fold (five folds; near-duplicates and sentences of one template "
            f"share a fold). The injection threshold blocks {FALSE_POSITIVES:.0%} of the benign texts. `left_out`: "
            "nothing of that source trained, at 1 % false positives on a fifth of the benign texts, unseen too. "
            "`planted`: in long texts, one fold not trained on. `only_measured`: share flagged, the labels "
            "are not this head's question."
        ),
        "licences": {source.name: source.licence for source in known} | {"manta-*": "Apache-2.0"},
        "heads": figures,
        "weaknesses": list(WEAKNESSES),
    }
