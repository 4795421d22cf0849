"""Whether a passage says what it is cited for, as far as words and numbers tell: cheap enough for every answer."""

import re

from serve_app.evidence import terms
from serve_app.sentences import split
from serve_app.turn import Passage

SUPPORTED = 0.5
"""Share of a sentence's content words from which on the passage says so. Of sentences that people wrote from an
abstract (conclusions in PubMedQA) it keeps 0.65, of the same sentences held against the most similar other abstract
0.03, and all that are quoted."""
UNSUPPORTED = 0.2
"""Share below which it does not: 0.06 of the former, 0.54 of the latter. Between the two, words do not tell."""
FEWEST_WORDS = 3
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MARKUP = re.compile(r"\[\d{1,3}\]|^[ \t>#*+|-]+|^[ \t]*\d+[.)][ \t]", re.MULTILINE)


def supported(claim: str, passage: Passage) -> bool | None:
    """True: it says so, with every number; False: it speaks of something else; None: words do not tell."""
    said = terms(claim)
    if len(said) < FEWEST_WORDS:
        return None
    text = f"{passage.place}\n{passage.text}"
    share = len(said & terms(text)) / len(said)
    if share < UNSUPPORTED:
        return False
    known = frozenset(_NUMBER.findall(text))
    return True if share >= SUPPORTED and known.issuperset(_NUMBER.findall(claim)) else None


def last_claim(text: str) -> str:
    """The last sentence of what stands before a marker; a list's introduction says nothing without its items."""
    paragraphs = [part for part in _MARKUP.sub(" ", text).strip().split("\n\n") if part.strip()]
    sentences = split(" ".join(paragraphs[-1].split())) if paragraphs else []
    return sentences[-1] if sentences else ""
