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
from serve_app.readings import readings, smuggled
from serve_app.vocabulary import LONGEST, WORDS

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


_QUOTES = str.maketrans("‘’‚‛“”„‟«»′″", '\'\'\'\'""""""\'"')
_LOOKALIKE = re.compile(f"[{''.join(LOOKALIKES)}]")
_WORD = re.compile(r"[^\W\d_]+")
_WIDE = re.compile(r"\s{3,}")
_GAP = r"[ ._*|,/·•~+\n-]{1,4}"
_SPELLED = re.compile(rf"(?<![^\W_])[^\W_](?:{_GAP}[^\W_](?![^\W_])){{3,}}")


def plain(text: str) -> str:
    """The text as a reader sees it; positions are not kept.

    Beside `unified`: look-alikes in words that mix scripts are Latin, quotes straight, spelled-out letters
    (`i g n o r e`) words again, and no gap wider than two characters.
    """
    text = unified(text)
    if not text.isascii():
        if _LOOKALIKE.search(text):
            text = _latin(text)
        text = text.translate(_QUOTES)
    return _WIDE.sub(lambda gap: gap[0][0] * 2, _SPELLED.sub(_respelled, text))


def _latin(text: str) -> str:
    """Words that mix Latin letters with look-alikes made Latin; amid Latin words those of look-alikes alone too."""
    text = _WORD.sub(lambda word: word[0].translate(_TO_LATIN) if _ASCII_LETTER.search(word[0]) else word[0], text)
    if 2 * len(_ASCII_LETTER.findall(text)) > len(text):
        text = _WORD.sub(
            lambda word: word[0].translate(_TO_LATIN) if set(word[0]) <= LOOKALIKES.keys() else word[0], text
        )
    return text


_ASCII_LETTER = re.compile("[A-Za-z]")
_TO_LATIN = str.maketrans(LOOKALIKES)


def _respelled(run: re.Match[str]) -> str:
    """The most frequent gap stands between letters, wider and rarer ones between words."""
    parts = re.split(f"({_GAP})", run[0])
    gaps = parts[1::2]
    usual = max(sorted(set(gaps)), key=gaps.count)
    words = "".join("" if part == usual else " " if n % 2 else part for n, part in enumerate(parts)).split()
    if sum(len(word) for word in words if word.isdigit()) * 2 > len(parts):
        return run[0]  # a row of numbers
    return " ".join(map(_parted, words))


def _parted(letters: str) -> str:
    """`ignoreallprevious` in words, the longest first, as far as they are common ones."""
    low, start = letters.lower(), 0
    words: list[str] = []
    while start < len(letters):
        longest = min(start + LONGEST, len(letters))
        end = next((end for end in range(longest, start, -1) if low[start:end] in WORDS), len(letters))
        words.append(letters[start:end])
        start = end
    return " ".join(words)


def views(text: str) -> tuple[str, ...]:
    """The plain text first, then what is hidden in it: see `readings`. Usually the plain text alone.

    All views together are at most about a dozen times as long as the text.
    """
    seen = plain(text)
    hidden = (*smuggled(text), *readings(unified(text)))
    return tuple(dict.fromkeys((seen, *map(plain, hidden)))) if hidden else (seen,)
