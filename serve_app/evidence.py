"""Which units of the passages answer a question: words first, then meaning, then a floor below which nothing does."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.quotation import Run, following, misplaced, opening, weakness, whole
from serve_app.sentences import CONTENTS, Unit, units
from serve_app.turn import Passage

MOST_CANDIDATES = 8
"""Twice as many, read twice as far, took the encoder four times as long and answered no better."""
PARTLY = 0.6
"""What a word of the question counts that stands only in code, in the headings or in what the unit introduces."""
READ_CHARACTERS = 200
"""The encoder pads every text to the longest."""
WORDS_FLOOR = 0.45
"""The score below which nothing answers when words are all there is."""
FLOOR = 0.5
"""The score below which nothing answers, with meaning. `benchmarks/extractive.py` shows what moving it costs."""
NEAR_BEST = 0.82
"""Share of the best score that a further unit of the same passage must reach."""
NEAR_BEST_ELSEWHERE = 0.92
"""The same for a unit of another passage: what is not beside the answer is seldom part of it."""
UNHEARD = 0.12
"""What each name in the question counts against the passages when none of them has it."""
SAME = 0.7
"""Share of the shorter unit's words that the other has, from which on they say the same."""

TERM = re.compile(r"[^\W_]+")
SUFFIX = re.compile(
    r"(?:ization|isation|ational|ations?|ically|ments?|ingly|ings?|edly|ies|ied|ers?|ors?|ed|es|ly|s|e|y)$"
)
STOPWORDS = frozenset(
    TERM.findall(
        "a about above after again all also am an and any are as at be because been before being below between "
        "both but by can could did do does doing don done down during each else ever few for from further get got "
        "had has have having he her here hers him his how i if in into is it its itself just let ll may me might "
        "more most much must my no nor not now of off on once one only or other our out over own please s same "
        "shall she should so some such t tell than that the their them then there these they this those through "
        "to too under until up use used using ve very was we were what when where which while who whom whose why "
        "will with without would you your d m re explain describe happen mean means"
    )
)
ASKS_HOW = re.compile(r"\W*(?:please |tell me |show me )*how (?:do|to|can|could|should|would|must)\b", re.IGNORECASE)
NAME = re.compile(r"(?<=[^\s.?!:]\s)\w*[A-Z]\w*")
"""A word with a capital that does not open its sentence."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit that may answer, with what its words say of the question."""

    number: int
    """1-based position of its passage in the turn: the number of its marker."""
    order: int
    """Position of the unit in its passage."""
    siblings: tuple[Unit, ...]
    """All units of its passage."""
    reading: str
    """What the encoder reads: the nearest heading and the text."""
    terms: frozenset[str]
    words: float
    """Share of the question's words, by weight, found in the unit (wholly) and its headings (in part)."""
    unheard: float
    """Held against all candidates of a question: names in it that no passage mentions."""
    heading: float
    """Share of the question's words found in the headings."""
    prior: float
    """What speaks for the unit before it is read: its passage's rank and its place; at most 1."""

    @property
    def unit(self) -> Unit:
        return self.siblings[self.order]

    asks_how: bool
    """The question wants something to do."""
    continued: Run | None = None
    """The passage that goes on where an introduction at the end of this one stops."""

    @property
    def weakness(self) -> float:
        unit = self.unit
        idle = self.asks_how and not unit.leads and unit.kind not in ("code", "step")
        return weakness(self.siblings, self.order) + 0.15 * misplaced(unit, self.heading) + 0.05 * idle


def terms(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning."""
    return frozenset(_stem(word) for word in TERM.findall(text.lower()) if word not in STOPWORDS)


def _stem(word: str) -> str:
    stem = SUFFIX.sub("", word) if len(word) > 4 else word.removesuffix("s")
    return stem if len(stem) >= 3 else word


def candidates(question: str, passages: Sequence[Passage]) -> tuple[Candidate, ...]:
    """The likeliest units by words, at most MOST_CANDIDATES, likeliest first."""
    asked = terms(question)
    read = [() if CONTENTS.search(passage.heading) else units(passage.text) for passage in passages]
    stems = {unit: terms(unit.text) for siblings in read for unit in siblings}
    weights = _weights(asked, list(stems.values()))
    unheard = UNHEARD * _unheard(question, passages)
    best_score = max((passage.score for passage in passages), default=0.0) or 1.0
    found: list[Candidate] = []
    for n, order in ((n, order) for n, siblings in enumerate(read) for order in range(len(siblings))):
        unit, siblings = read[n][order], read[n]
        is_open = unit.leads and order + 1 == len(siblings)
        beyond = _beyond(passages, read, n) if is_open else None
        if (is_open and beyond is None) or not (unit.leads or unit.kind == "code" or len(stems[unit]) > 1):
            continue
        path = [part for part in (passages[n].title, passages[n].heading, unit.heading) if part]
        above = asked & terms(" ".join(path))
        introduced = [siblings[later] for later in following(siblings, order)] + list(beyond[1] if beyond else ())
        wholly = asked & stems[unit] if unit.kind != "code" else frozenset[str]()
        partly = (asked & stems[unit].union(above, *(stems[later] for later in introduced))) - wholly
        candidate = Candidate(
            number=n + 1,
            order=order,
            siblings=siblings,
            reading=": ".join([*(part.rpartition(" > ")[2] for part in path[-1:]), unit.text])[:READ_CHARACTERS],
            terms=stems[unit],
            words=_share(wholly, weights) + PARTLY * _share(partly, weights),
            unheard=unheard,
            heading=_share(above, weights),
            prior=passages[n].score / best_score / (1 + 0.05 * order),
            asks_how=ASKS_HOW.match(question) is not None,
            continued=beyond,
        )
        found.append(candidate)
    return tuple(sorted(found, key=lambda c: c.words + 0.2 * c.prior, reverse=True)[:MOST_CANDIDATES])


def _beyond(passages: Sequence[Passage], read: Sequence[tuple[Unit, ...]], n: int) -> Run | None:
    """The passage of the same section that begins with what the end of this one introduces.

    None where the section leaves a choice: passages do not say which comes first.
    """
    section = [
        m for m, p in enumerate(passages) if (p.file_id, p.heading) == (passages[n].file_id, passages[n].heading)
    ]
    openings = [(m + 1, opened) for m in section if m != n and (opened := opening(read[m]))]
    open_ends = [m for m in section if read[m] and read[m][-1].leads]
    return openings[0] if len(openings) == 1 and open_ends == [n] else None


def _unheard(question: str, passages: Sequence[Passage]) -> int:
    """How many names of the question stand in no passage, at most two; none in a Question Written Like a Title."""
    names = NAME.findall(question)
    if 2 * len(names) > len(TERM.findall(question)):
        return 0
    known = " ".join(f"{passage.title} {passage.heading} {passage.text}" for passage in passages).lower()
    return min(2, sum(_stem(name.lower()) not in known for name in names))


def _weights(asked: frozenset[str], stem_lists: Sequence[frozenset[str]]) -> Mapping[str, float]:
    """Rarer among the units weighs more: every unit of a page about Milvus says Milvus."""
    frequency = Counter(stem for stems in stem_lists for stem in stems & asked)
    return {stem: math.log(1 + (1 + len(stem_lists)) / (1 + frequency[stem])) for stem in asked}


def _share(stems: frozenset[str], weights: Mapping[str, float]) -> float:
    return sum(weights[stem] for stem in stems) / (sum(weights.values()) or 1.0)


def chosen(found: Sequence[Candidate], meanings: NDArray[np.float32] | None, most: int) -> tuple[Run, ...]:
    """What to quote, best passage first; empty when nothing passes the floor.

    `meanings` are the cosines of the candidates to the question. At most `most` units are picked; what a picked
    unit cannot be read without (its list, its command, the sentence it refers to) comes with it.
    """
    evidence = [score(c, None if meanings is None else float(meanings[n])) for n, c in enumerate(found)]
    if max(evidence, default=0.0) < (WORDS_FLOOR if meanings is None else FLOOR):
        return ()
    worth = [value - candidate.weakness for value, candidate in zip(evidence, found, strict=True)]
    best = max(range(len(found)), key=worth.__getitem__)
    taken: list[Candidate] = []
    for n in sorted(range(len(found)), key=worth.__getitem__, reverse=True):
        share = NEAR_BEST if found[n].number == found[best].number else NEAR_BEST_ELSEWHERE
        if len(taken) < most and worth[n] >= share * worth[best] and not _said(found[n], taken):
            taken.append(found[n])
    return _runs(taken)


def _runs(taken: Sequence[Candidate]) -> tuple[Run, ...]:
    """The passages in the order of their best unit, an introduction right before the passage that continues it."""
    runs: dict[int, Run] = {}
    for number in dict.fromkeys(candidate.number for candidate in taken):
        same = [candidate for candidate in taken if candidate.number == number]
        if number not in runs:
            runs[number] = (number, whole(same[0].siblings, [candidate.order for candidate in same]))
        for beyond in (candidate.continued for candidate in same):
            if beyond is not None:
                runs.pop(beyond[0], None)
                runs[beyond[0]] = beyond
    return tuple(runs.values())


def score(candidate: Candidate, meaning: float | None) -> float:
    """How much a candidate has to do with the question, about 0 to 1; comparable across questions."""
    if meaning is None:
        return 0.8 * candidate.words + 0.1 * candidate.heading + 0.1 * candidate.prior - candidate.unheard
    return 0.6 * meaning + 0.3 * candidate.words + 0.1 * candidate.prior - candidate.unheard


def _said(candidate: Candidate, taken: Sequence[Candidate]) -> bool:
    """Overlapping passages, and pages that copy each other, say the same thing twice."""
    return any(_alike(candidate.terms, other.terms) for other in taken if other is not candidate)


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= SAME * (min(len(one), len(other)) or 1)
