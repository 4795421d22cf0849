"""Text as a reader sees it, without the tricks that hide words from a pattern.

Invisible characters are gone, compatibility forms unified, look-alikes of other scripts Latin, stacks of marks
trimmed, spelled-out letters joined. `folded` is the same for exact search: one character at a time, so that it can
be done on a text that still grows, and with the way back to the original positions.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from serve_app.confusables import ENCLOSED, LOOKALIKES

INVISIBLE = (
    "\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U00013438"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e0fff"
    "\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f\ud800-\udfff"
)
"""Character class: format characters, fillers, variation selectors, tags, controls and lone surrogates."""

MARKS = "\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
"""Character class: marks that stand on Latin, Greek and Cyrillic letters; those other scripts need are not here."""

WIDEST_GAP = 16
"""Most white space between two words of one phrase."""

_INVISIBLES = re.compile(f"[{INVISIBLE}]+")
_MARKED = re.compile(rf"([^\s{MARKS}]?)([{MARKS}]+)")
_WHITE = re.compile(r"[\s\u2800]+")
_ODD_ASCII = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")
_UNEVEN = re.compile(r"\s\s|[^\S ]")
_PIECE = re.compile(
    rf"[\s\u2800][\s\u2800{INVISIBLE}{MARKS}]*|[^{MARKS}{INVISIBLE}][{MARKS}{INVISIBLE}]*|[{MARKS}{INVISIBLE}]+"
)


@dataclass(frozen=True, slots=True)
class Folded:
    """A text for exact search: case, look-alikes, marks and gaps unified."""

    text: str
    original: str

    def origin(self, position: int) -> int:
        """Where in the original the character at this position of `text` was written."""
        if self.original.isascii() and len(self.original) == len(self.text):
            return position
        for piece in _PIECE.finditer(self.original):
            position -= len(_fold(piece[0]))
            if position < 0:
                return piece.start()
        return len(self.original)


def folded(text: str) -> Folded:
    return Folded(_fold(text), text)


def _fold(text: str) -> str:
    """What `_PIECE` cuts out is folded alone as it is within the text."""
    text = unified(text)
    if not text.isascii():
        text = text.translate({ord(character): _folded_character(character) for character in set(text)})
    else:
        text = text.lower()
    return _WHITE.sub(_gap, text) if _UNEVEN.search(text) else text


def _gap(found: re.Match[str]) -> str:
    """Two spaces stand in no phrase: the words around a wider gap are not one."""
    return " " if len(found[0]) <= WIDEST_GAP else "  "


@lru_cache(maxsize=4096)
def _folded_character(character: str) -> str:
    if character == "\u2800":
        return " "
    form = character.casefold()
    return "".join(LOOKALIKES.get(c, c) for c in form if c == form or not unicodedata.combining(c)).lower()


def unified(text: str) -> str:
    """Invisible characters gone, compatibility forms unified, marks composed and stacks of marks dropped."""
    if text.isascii():
        return _INVISIBLES.sub("", text) if _ODD_ASCII.search(text) else text
    text = _INVISIBLES.sub("", text)
    text = _MARKED.sub(_composed, text)
    return text.translate({ord(c): _compatible(c) for c in set(text) if not c.isascii()})


def _composed(found: re.Match[str]) -> str:
    """`e` and an acute are `é`; a letter under three marks, or under one that belongs to no letter, stands alone."""
    letter, marks = found[1], found[2]
    if not letter or len(marks) > 2:
        return letter
    whole = unicodedata.normalize("NFC", letter + marks)
    return whole if len(whole) == 1 else letter


@lru_cache(maxsize=4096)
def _compatible(character: str) -> str:
    if character in ENCLOSED:
        return ENCLOSED[character]
    form = unicodedata.normalize("NFKC", character)
    if any(c.isspace() or unicodedata.combining(c) for c in form) and not character.isspace():
        return character  # a spacing accent is no space
    return form
