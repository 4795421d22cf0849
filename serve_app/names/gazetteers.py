"""Word lists the name model looks at: given names, surnames, places, and words that are written in lower case."""

import unicodedata
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

SORTS = ("first", "last", "place", "common")
"""F, L, G and C in a flag string; a word may stand in several lists."""
_LETTERS = dict(zip(SORTS, "FLGC", strict=True))
LONGEST_PLACE = 4
"""Words of the longest place name that is looked up as a phrase."""


@dataclass(frozen=True, slots=True)
class Gazetteers:
    flags: Mapping[str, str]
    """Letters of the lists a lower-case word stands in."""
    places: frozenset[str]
    """Place names of several words, lower case, single spaces."""
    openings: frozenset[str]
    """First words of `places`."""

    @classmethod
    def of(cls, lists: Mapping[str, Iterable[str]]) -> Self:
        """`lists`: for each of SORTS its entries, in any case; an accented one is found without accents too."""
        flags: dict[str, str] = {}
        phrases: set[str] = set()
        for sort in SORTS:
            for entry in lists[sort]:
                for spelling in spellings(entry):
                    if " " in spelling:
                        phrases.add(spelling)
                    elif _LETTERS[sort] not in flags.get(spelling, ""):
                        flags[spelling] = flags.get(spelling, "") + _LETTERS[sort]
        return cls(flags, frozenset(phrases), frozenset(phrase.split()[0] for phrase in phrases))

    def without(self, share: float, salt: int) -> Self:
        """A copy that does not know a `share` of the names: a model must learn to do without.

        Which ones depends on the word and `salt` alone.
        """
        limit = int(share * 2**32)

        def known(word: str) -> bool:
            return zlib.crc32(f"{salt}/{word}".encode()) >= limit

        flags = {
            word: kept for word, flag in self.flags.items() if (kept := flag if known(word) else flag[-1:].strip("FLG"))
        }
        places = frozenset(phrase for phrase in self.places if known(phrase))
        return type(self)(flags, places, self.openings)


def spellings(entry: str) -> set[str]:
    lower = " ".join(entry.replace("-", " - ").replace(".", " . ").lower().split()) if " " in entry else entry.lower()
    return {lower, plain(lower)}


def plain(word: str) -> str:
    """Without accents: `müller` is `muller`."""
    if word.isascii():
        return word
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))
