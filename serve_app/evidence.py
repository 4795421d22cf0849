"""Which units of the passages answer a question: words first, then meaning, then a floor below which nothing does."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.sentences import CONTENTS, Unit, units
from serve_app.turn import Passage

MOST_CANDIDATES = 16
"""Each costs the encoder 1.5 ms."""
PARTLY = 0.6
"""What a word of the question counts that stands only in code, in the headings or in what the unit introduces."""
SAME_QUESTION = 0.5
"""Share of the question's words in a heading from which on "Yes" below it answers this question and not another."""
FEWEST_TERMS = 3
READ_CHARACTERS = 400
WORDS_FLOOR = 0.55
"""Share of the question's words, by weight, that must be found when words are all there is."""
FLOOR = 0.5
NEAR_BEST = 0.82
"""Share of the best score that a further unit of the same passage must reach."""
NEAR_BEST_ELSEWHERE = 0.92
"""The same for a unit of another passage: what is not beside the answer is seldom part of it."""
UNHEARD = 0.12
"""What each name in the question counts against the passages when none of them has it."""
SAME = 0.7

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
POINTER = re.compile(
    r"\b(?:refer to|see|learn more|check out|for (?:more|further|details)|stay tuned|visit)\b", re.IGNORECASE
)
ANNOUNCEMENT = re.compile(
    r"\b(?:this|the (?:present|following|current)) (?:topic|guide|tutorial|page|section|document|article|study|paper|"
    r"post|chapter)\b|\bin this (?:topic|guide|tutorial|page|section|document|article|study|paper|post|chapter)\b|"
    r"\b(?:aims?|purpose|objectives?|goals?) (?:of|was|were|is|are|to)\b|^(?:\W|\w{1,3}\))*to (?:determine|examine|"
    r"assess|evaluate|investigate|compare|describe|analy[sz]e|study|explore|identify|test)\b|"
    r"\bwe (?:investigated|examined|assessed|evaluated|studied|aimed|sought|compared|explored)\b|\bwhether\b",
    re.IGNORECASE,
)
"""It says what the text is about to answer, not the answer."""
COMMAND = re.compile(r"[`~]{3,}\s*(?:\w|\n\s*\$ )")
"""A code block that says its language or opens with a prompt; the others are mostly output."""
VERDICT = re.compile(r"\W*(?:yes|no)\b", re.IGNORECASE)
NAME = re.compile(r"(?<=[^\s.?!:]\s)\w*[A-Z]\w*")
"""A word with a capital that does not open its sentence."""
DEPENDENT = re.compile(
    r"\W*(?:for (?:example|instance)|however|therefore|thus|hence|otherwise|in (?:this|that|these|such) cases?|"
    r"as a result|also|then|instead|in addition|additionally|furthermore|moreover|but|and|or|so|it|its|they|their|"
    r"this|that|these|those|similarly|likewise|here|finally|next|on the other hand|to do (?:so|this|that))\b(?!:)",
    re.IGNORECASE,
)


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

    @property
    def weakness(self) -> float:
        """What a reader would miss in the unit if it stood alone: it points elsewhere, announces, or breaks off."""
        unit = self.unit
        if unit.kind == "code":
            return 0.1 if COMMAND.match(unit.text) else 0.2
        flaws = (
            (0.15, POINTER.search(unit.text)),
            (0.1, ANNOUNCEMENT.search(unit.text)),
            (0.1, _leans(unit) and not _continued(self.siblings, self.order)),
            (0.15, VERDICT.match(unit.text) and self.heading < SAME_QUESTION),
            (0.1, unit.text.endswith("?")),
            (0.1, unit.kind == "sentence" and unit.text[-1].isalnum()),
            (0.15, not unit.leads and len(self.terms) < FEWEST_TERMS),
        )
        return sum(weight for weight, present in flaws if present)


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
    own = [[terms(unit.text) for unit in siblings] for siblings in read]
    weights = _weights(asked, [stems for stem_lists in own for stems in stem_lists])
    unheard = UNHEARD * _unheard(question, passages)
    best_score = max((passage.score for passage in passages), default=0.0) or 1.0
    found: list[Candidate] = []
    for n, passage in enumerate(passages):
        for order, unit in enumerate(read[n]):
            path = [part for part in (passage.title, passage.heading, unit.heading) if part]
            nearest = [part.rpartition(" > ")[2] for part in path[-1:]]
            above = terms(" ".join(path))
            stems = own[n][order]
            wholly = asked & stems if unit.kind != "code" else frozenset[str]()
            partly = asked & (above | stems | _introduced(read[n], order, own[n])) - wholly
            found.append(
                Candidate(
                    number=n + 1,
                    order=order,
                    siblings=read[n],
                    reading=": ".join([*nearest, unit.text])[:READ_CHARACTERS],
                    terms=stems,
                    words=_share(wholly, weights) + PARTLY * _share(partly, weights),
                    unheard=unheard,
                    heading=_share(asked & above, weights),
                    prior=passage.score / best_score / (1 + 0.05 * order),
                )
            )
    return tuple(sorted(found, key=lambda c: c.words + 0.2 * c.prior, reverse=True)[:MOST_CANDIDATES])


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


def _introduced(siblings: Sequence[Unit], order: int, own: Sequence[frozenset[str]]) -> frozenset[str]:
    """Words of what the unit introduces: an introduction answers with them."""
    return frozenset().union(*(own[n] for n in _following(siblings, order)))


def _following(siblings: Sequence[Unit], order: int) -> list[int]:
    """Orders of the block that the unit introduces."""
    if not siblings[order].leads or order + 1 == len(siblings):
        return []
    block = siblings[order + 1].block
    return [n for n in range(order + 1, len(siblings)) if siblings[n].block == block]


def chosen(
    found: Sequence[Candidate], meanings: NDArray[np.float32] | None, most: int
) -> tuple[tuple[int, tuple[Unit, ...]], ...]:
    """(number of the passage, its units in reading order), best passage first; empty when nothing passes the floor.

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
    numbers = dict.fromkeys(candidate.number for candidate in taken)
    return tuple((number, _assembled([c for c in taken if c.number == number])) for number in numbers)


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


def _assembled(taken: Sequence[Candidate]) -> tuple[Unit, ...]:
    siblings = taken[0].siblings
    orders = set().union(*(_whole(siblings, candidate.order) for candidate in taken))
    return tuple(siblings[order] for order in sorted(orders))


def _whole(siblings: Sequence[Unit], order: int) -> set[int]:
    """The unit and what it cannot be read without."""
    run = _steps(siblings, order) if siblings[order].kind == "step" else {order}
    first = min(run)
    if first and (_following(siblings, first - 1) or (_leans(siblings[first]) and _continued(siblings, first))):
        run.add(first - 1)
    for n in sorted(run):
        run.update(_following(siblings, n))
    for n in sorted(run):
        run.update(_following(siblings, n))
    return run


def _steps(siblings: Sequence[Unit], order: int) -> set[int]:
    """All steps of a procedure and the commands between them."""
    first = last = order
    while first and _continues(siblings[first - 1], siblings[order]):
        first -= 1
    while last + 1 < len(siblings) and _continues(siblings[last + 1], siblings[order]):
        last += 1
    return set(range(first, last + 1))


def _continues(unit: Unit, step: Unit) -> bool:
    return unit.kind in ("step", "code") and unit.heading == step.heading


def _leans(unit: Unit) -> bool:
    """A sentence that opens with "It" or "For example" leans on the one before it."""
    return unit.kind == "sentence" and DEPENDENT.match(unit.text) is not None


def _continued(siblings: Sequence[Unit], order: int) -> bool:
    """The unit before stands in the same paragraph."""
    return order > 0 and siblings[order - 1].block == siblings[order].block
