"""From what a search found to what an engine reads: nothing twice, not all from one document, and no section torn."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from serve_app.turn import Passage
from serve_app.wording import words

SAME = 0.9
"""Share of common words, of all words of two passages, from which they are one: a page and its copy in another
version or language mirror differ in a date or a link."""
SPARE = 4
"""Passages looked for beyond those wanted: what takes the place of duplicates."""
MOST_OF_ONE = 0.67
"""Share of the passages that may come from one document while others have something to say."""


def selected(found: Sequence[Passage], top_k: int, min_score: float) -> tuple[Passage, ...]:
    """At most `top_k` of the passages at or above `min_score`, best first.

    Near duplicates of a better passage are left out. Passages of one document beyond its share stand behind those of
    others. Neighbours under one heading are joined, in the place and with the score of the better one.
    """
    distinct = _distinct(passage for passage in found if passage.score >= min_score)
    return tuple(_joined(_spread(distinct, top_k)[:top_k]))


def _distinct(passages: Iterable[Passage]) -> list[Passage]:
    kept: list[tuple[Passage, frozenset[str]]] = []
    for passage in passages:
        said = frozenset(words(passage.text))
        if all(_likeness(said, other) < SAME for _, other in kept):
            kept.append((passage, said))
    return [passage for passage, _ in kept]


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _spread(passages: Sequence[Passage], top_k: int) -> list[Passage]:
    most = max(1, round(top_k * MOST_OF_ONE))
    seen: Counter[str] = Counter()
    first: list[Passage] = []
    later: list[Passage] = []
    for passage in passages:
        (first if seen[passage.file_id] < most else later).append(passage)
        seen[passage.file_id] += 1
    return first + later


def _joined(passages: Sequence[Passage]) -> list[Passage]:
    """Neighbours as one passage: a list and the sentence that introduces it are cut apart by their length alone."""
    runs: list[list[Passage]] = []
    for passage in passages:
        near = [run for run in runs if any(_are_neighbours(passage, one) for one in run)]
        runs = [run for run in runs if run not in near]
        runs.append([*(one for run in near for one in run), passage])
    place = {passage.key: number for number, passage in enumerate(passages)}
    return [_one(run) for run in sorted(runs, key=lambda run: min(place[one.key] for one in run))]


def _are_neighbours(one: Passage, other: Passage) -> bool:
    return (
        one.ordinal is not None
        and other.ordinal is not None
        and abs(one.ordinal - other.ordinal) == 1
        and (one.file_id, one.heading, one.page) == (other.file_id, other.heading, other.page)
    )


def _one(run: Sequence[Passage]) -> Passage:
    if len(run) == 1:
        return run[0]
    ordered = sorted(run, key=lambda passage: passage.ordinal or 0)
    return replace(
        ordered[0],
        text="\n".join(passage.text for passage in ordered),
        score=max(passage.score for passage in ordered),
        suspicion=joined_suspicion(ordered),
    )


def joined_suspicion(parts: Sequence[Passage]) -> float | None:
    """The worst of the parts; a stretch nobody judged makes the whole unjudged."""
    judged = [passage.suspicion for passage in parts if passage.suspicion is not None]
    return max(judged) if len(judged) == len(parts) else None
