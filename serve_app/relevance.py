"""How relevant a passage is to a question: one number in [0, 1] from its meaning and its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve_app.ports import Query
from serve_app.turn import Passage

WORD = re.compile(r"\w+")

STOP_WORDS = frozenset(
    WORD.findall("""
    a about above after again all also am an and any are as at be because been before being below between both
    but by can cannot could did do does doing down during each either else ever every few for from further get
    had has have having he her here hers him his how i if in into is it its itself just let may me might mine
    more most must my myself neither no nor not of off on once only or other our ours out over own per please
    same shall she should so some such than that the their theirs them then there these they this those through
    to too under until up upon us very via was we were what when where whether which while who whom whose why
    will with within without would yet you your yours yourself
    """)
)
"""Words too common to tell two passages apart. Both indexes leave them out."""

MEANING = 0.5
"""Weight of the cosine against the words. Flat between 0.4 and 0.6 on documentation pages and on PubMedQA."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that one of the two searches found."""

    passage: Passage
    cosine: float | None = None
    """None: too far from the question in meaning to be among the nearest."""
    bm25: float = 0.0
    """0: too poor in the question's words to be among the best."""


def words(text: str) -> list[str]:
    """The words of a text that count, in order, in lower case."""
    return [word for word in WORD.findall(text.lower()) if word not in STOP_WORDS]


def body(*, title: str, heading: str, text: str) -> str:
    """What is searched for words: a passage says under its headings what it need not repeat."""
    return "\n".join(part for part in (title, heading, text) if part)


def rank(query: Query, candidates: Sequence[Candidate]) -> tuple[Passage, ...]:
    """The best `query.top_k` passages, best first, scored; ties by id, so the same question has the same answer.

    The score is the mean of the cosine and of the word score. The word score is the mean of the share of the
    question's words that the passage has, and of its BM25 relative to the best one's, scaled to the best one's share.
    Both halves are absolute: a question about something else scores low even for its best passage, whatever
    the size of the collection (raw BM25 grows with it, and min-max or reciprocal ranks always find a winner).
    """
    asked = frozenset(words(query.text))
    wording = _word_scores(asked, candidates)
    meaning = wording if query.embedding is None else _cosines(candidates)
    weight = MEANING if asked else 1.0
    scored = [
        replace(candidate.passage, score=weight * cosine + (1 - weight) * word_score)
        for candidate, cosine, word_score in zip(candidates, meaning, wording, strict=True)
    ]
    return tuple(sorted(scored, key=lambda passage: (-passage.score, passage.id))[: query.top_k])


def _cosines(candidates: Sequence[Candidate]) -> list[float]:
    """Cosines clipped to [0, 1]; a candidate found by its words alone can at most be as near as the farthest of the
    nearest, and is taken to be (measured: as good as its true cosine, and nothing more to fetch)."""
    known = [max(0.0, min(1.0, candidate.cosine)) for candidate in candidates if candidate.cosine is not None]
    farthest = min(known, default=0.0)
    return [farthest if candidate.cosine is None else max(0.0, min(1.0, candidate.cosine)) for candidate in candidates]


def _word_scores(asked: frozenset[str], candidates: Sequence[Candidate]) -> list[float]:
    shares = [_share(asked, candidate.passage) for candidate in candidates]
    best, best_share = max(
        ((candidate.bm25, share) for candidate, share in zip(candidates, shares, strict=True)), default=(0.0, 0.0)
    )
    if best <= 0:
        return [share / 2 for share in shares]
    return [
        (share + candidate.bm25 / best * best_share) / 2 for candidate, share in zip(candidates, shares, strict=True)
    ]


def _share(asked: frozenset[str], passage: Passage) -> float:
    if not asked:
        return 0.0
    present = asked.intersection(WORD.findall(body_of(passage).lower()))
    return len(present) / len(asked)


def body_of(passage: Passage) -> str:
    return body(title=passage.title, heading=passage.heading, text=passage.text)
