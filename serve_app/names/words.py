"""A text as words with their places, in stretches that are labelled one at a time."""

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 160
"""Most words of a stretch; longer ones are cut at a line's or a sentence's end if one stands in their last third."""

_WORD = re.compile(
    r"[^\W\d_]++(?:[\u0300-\u036f]++[^\W\d_]*+|['’][^\W\d_]{2,}+)*+(?!\w)"  # letters; O'Neill is one, Smith's are three
    r"|\w++"  # whatever has a digit or an underscore in it
    r"|\n[\s]*+"
    r"|[^\w\s]{4,}+"  # rulers, dots, anything unreadable
    r"|[^\w\s]"
)


_LOWER = re.compile(r"(?<!\w)[a-zß-öø-ÿ]{2,}+(?!\w)")


class Word(NamedTuple):
    """`text[start:end]`; a run of line breaks is the word `\\n`."""

    text: str
    start: int
    end: int


def stretches(text: str, start: int = 0, end: int | None = None) -> Iterator[list[Word]]:
    """The words of `text[start:end]`, in order, at most LONGEST at a time."""
    words: list[Word] = []
    for found in _WORD.finditer(text, start, len(text) if end is None else end):
        written = found[0]
        words.append(Word("\n" if written[0] == "\n" else written, found.start(), found.end()))
        if len(words) == LONGEST:
            cut = _cut(words)
            yield words[:cut]
            words = words[cut:]
    if words:
        yield words


def _cut(words: list[Word]) -> int:
    for ending in ("\n", "."):
        for position in range(len(words) - 1, LONGEST * 2 // 3, -1):
            if words[position].text == ending:
                return position + 1
    return len(words)


def lower_case(text: str) -> frozenset[str]:
    """The words a text writes in lower case somewhere."""
    return frozenset(_LOWER.findall(text))
