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
"""What a word of the question counts that stands only in the headings or in the list a unit introduces."""
READ_CHARACTERS = 400
WORDS_FLOOR = 0.55
"""Share of the question's words, by weight, that must be found when words are all there is."""
FLOOR = 0.5
NEAR_BEST = 0.8
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
    heading: float
    """Share of the question's words found in the headings."""
    prior: float
    """What speaks for the unit before it is read: its passage's rank and its place; at most 1."""

    @property
    def unit(self) -> Unit:
        return self.siblings[self.order]

    @property
    def lost(self) -> bool:
        """It refers to something that the passage does not hold."""
        unit = self.unit
        alone = self.order == 0 or self.siblings[self.order - 1].block != unit.block
        return alone and unit.kind == "sentence" and DEPENDENT.match(unit.text) is not None


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
    best_score = max((passage.score for passage in passages), default=0.0) or 1.0
    found: list[Candidate] = []
    for n, passage in enumerate(passages):
        for order, unit in enumerate(read[n]):
            path = [part for part in (passage.title, passage.heading, unit.heading) if part]
            nearest = [part.rpartition(" > ")[2] for part in path[-1:]]
            above = terms(" ".join(path))
            stems = own[n][order]
            partly = (above | _introduced(read[n], order, own[n])) - stems
            found.append(
                Candidate(
                    number=n + 1,
                    order=order,
                    siblings=read[n],
                    reading=": ".join([*nearest, unit.text])[:READ_CHARACTERS],
                    terms=stems,
                    words=_share(asked & stems, weights) + PARTLY * _share(asked & partly, weights),
                    heading=_share(asked & above, weights),
                    prior=passage.score / best_score / (1 + 0.05 * order),
                )
            )
    return tuple(sorted(found, key=lambda c: c.words + 0.2 * c.prior, reverse=True)[:MOST_CANDIDATES])


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
    scores = [score(c, None if meanings is None else float(meanings[n])) for n, c in enumerate(found)]
    ranked = sorted(zip(scores, found, strict=True), key=lambda pair: pair[0], reverse=True)
    floor = WORDS_FLOOR if meanings is None else FLOOR
    if not ranked or ranked[0][0] < floor:
        return ()
    taken: list[Candidate] = []
    for value, candidate in ranked:
        if len(taken) < most and value >= NEAR_BEST * ranked[0][0] and not _said(candidate, taken):
            taken.append(candidate)
    numbers = dict.fromkeys(candidate.number for candidate in taken)
    return tuple((number, _assembled([c for c in taken if c.number == number])) for number in numbers)


def score(candidate: Candidate, meaning: float | None) -> float:
    """How well a candidate answers, about 0 to 1; comparable across questions, so that a floor can stand."""
    text = candidate.unit.text
    penalty = 0.15 * bool(POINTER.search(text)) + 0.1 * candidate.lost + 0.1 * text.endswith("?")
    if meaning is None:
        return 0.8 * candidate.words + 0.1 * candidate.heading + 0.1 * candidate.prior - penalty
    return 0.6 * meaning + 0.3 * candidate.words + 0.1 * candidate.prior - penalty


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
    if first and (_following(siblings, first - 1) or _leans(siblings, first)):
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


def _leans(siblings: Sequence[Unit], order: int) -> bool:
    """A sentence that opens with "It" or "For example" leans on the one before it."""
    unit = siblings[order]
    same = order > 0 and siblings[order - 1].block == unit.block
    return same and unit.kind == "sentence" and DEPENDENT.match(unit.text) is not None
