"""How relevant a passage is to a question: one number in [0, 1] from its meaning and its words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve_app.ports import Query
from serve_app.turn import Passage
from serve_app.wording import Wording, named_in, normalised

MEANING = (0.5, 0.7)
"""Weight of the cosine against the words, for a question of at most SHORT and of at least LONG words that count, and in
between in proportion: few words are looked for as they are, a sentence is asked for what it means."""
SHORT, LONG = 3, 8
SHARE = 0.25
"""Of the word score what the share of the question's words is; BM25 is the rest."""
# Chosen on the tasks of benchmarks/retrieval.py. Weights that follow the share of words found, or how far the best
# stand out, were no better on tasks they were not fitted on.


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that one of the two searches found."""

    passage: Passage
    cosine: float | None = None
    """None: too far from the question in meaning to be among the nearest."""
    bm25: float = 0.0
    """0: too poor in the question's words to be among the best."""


def body(*, title: str, heading: str, text: str) -> str:
    """What is searched for words: a passage says under its headings what it need not repeat."""
    return "\n".join(part for part in (title, heading, text) if part)


def rank(query: Query, candidates: Sequence[Candidate]) -> tuple[Passage, ...]:
    """The best `query.top_k` passages, best first, scored; ties by id, so the same question has the same answer.

    The score is the weighted mean of the cosine and of the word score. The word score is the weighted mean of the
    share of the question's words that the passage has, and of its BM25 relative to the best one's, scaled to the best
    one's share.
    Both halves are absolute: a question about something else scores low even for its best passage, whatever
    the size of the collection (raw BM25 grows with it, and min-max or reciprocal ranks always find a winner).

    A `query.ranking.meaning` of 1 or 0 orders by the one search alone and leaves out what it did not find.
    """
    if query.ranking.meaning == 1 and query.embedding is not None:
        return _first(query, [(one.cosine, one) for one in candidates if one.cosine is not None], 1.0)
    wording = Wording.of(query.text)
    if query.ranking.meaning == 0:
        found = [(one.bm25, one) for one in candidates if one.bm25 > 0]
        best, passage = max(((bm25, one.passage) for bm25, one in found), key=lambda pair: pair[0], default=(0.0, None))
        return _first(query, found, _share(wording, passage) / best if passage else 0.0)
    shares = [_share(wording, candidate.passage) for candidate in candidates]
    lexical = _word_scores(shares, candidates)
    nearness = lexical if query.embedding is None else _cosines(candidates)
    weight = _meaning(len(wording.words)) if query.ranking.meaning is None else query.ranking.meaning
    scores = [weight * near + (1 - weight) * worded for near, worded in zip(nearness, lexical, strict=True)]
    return _first(query, list(zip(scores, candidates, strict=True)), 1.0)


def _first(query: Query, found: Sequence[tuple[float, Candidate]], scale: float) -> tuple[Passage, ...]:
    """In the order of the numbers as they are; times `scale` and clipped to [0, 1] they are the scores."""
    ordered = sorted(found, key=lambda pair: (-pair[0], pair[1].passage.id))[: query.top_k]
    return tuple(replace(one.passage, score=max(0.0, min(1.0, number * scale))) for number, one in ordered)


def _meaning(asked: int) -> float:
    """Of a question with no word that counts, the meaning is all there is."""
    short, long = MEANING
    return short + (long - short) * min(1.0, max(0.0, (asked - SHORT) / (LONG - SHORT))) if asked else 1.0


def body_of(passage: Passage) -> str:
    return body(title=passage.title, heading=passage.heading, text=passage.text)


def _cosines(candidates: Sequence[Candidate]) -> list[float]:
    """Cosines clipped to [0, 1]; a candidate found by its words alone can at most be as near as the farthest of the
    nearest, and is taken to be (measured: as good as its true cosine, and nothing more to fetch)."""
    known = [max(0.0, min(1.0, candidate.cosine)) for candidate in candidates if candidate.cosine is not None]
    farthest = min(known, default=0.0)
    return [farthest if candidate.cosine is None else max(0.0, min(1.0, candidate.cosine)) for candidate in candidates]


def _word_scores(shares: Sequence[float], candidates: Sequence[Candidate]) -> list[float]:
    best, best_share = max(
        ((candidate.bm25, share) for candidate, share in zip(candidates, shares, strict=True)), default=(0.0, 0.0)
    )
    scale = (1 - SHARE) * best_share / best if best > 0 else 0.0
    return [SHARE * share + scale * candidate.bm25 for candidate, share in zip(candidates, shares, strict=True)]


def _share(wording: Wording, passage: Passage) -> float:
    """Of the question's words, and of its identifiers once more as a whole: an index may have cut them to pieces."""
    asked = len(wording.words) + len(wording.identifiers)
    if not asked:
        return 0.0
    read = body_of(passage)
    present = len(wording.counting.intersection(normalised(read).split()))
    if wording.identifiers:
        lowered = read.lower()
        present += sum(named_in(lowered, identifier) for identifier in wording.identifiers)
    return present / asked
