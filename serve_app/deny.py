"""Phrases no text may contain, found however they are written: exact search in a folded text, no pattern to blow up."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serve_app.normalisation import folded

UNSPACED = "぀-ヿ㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff฀-๿"
"""Character class of kana, Han and Thai: no white space between words."""

SHORTEST_SPELLED = 4
"""Letters of the shortest phrase that is looked for spelled out, as in `x e n o n`; it may stand amid other letters."""

_SEPARATORS = "[ ._*|,/·•~+-]"
_LETTERS = rf"(?<![^\W_])[^\W_](?:{_SEPARATORS}{{1,3}}[^\W_](?![^\W_]))"
_SPELLED = re.compile(rf"{_LETTERS}{{{SHORTEST_SPELLED - 1},}}")
_SPELLED_OPEN = re.compile(rf"{_LETTERS}*+{_SEPARATORS}{{0,3}}")
_SEPARATOR = re.compile(_SEPARATORS)
_LETTER = re.compile(r"[^\W_]")


def is_unspaced(character: str) -> bool:
    return re.match(f"[{UNSPACED}]", character) is not None


@dataclass(frozen=True, slots=True)
class DenyList:
    """Any case, any script that looks the same, any white space between words, letters spelled out; whole words only.

    Positions are those of the text as it was written.
    """

    phrases: tuple[str, ...]
    """Folded, in order."""
    spelled: tuple[str, ...]
    """Their letters without what stands between them, in order."""
    first_characters: frozenset[str]
    longest: int
    """Most characters of a folded text that an open phrase spans, spelled out with three separators to a letter.

    As written it may be longer: up to 16 white-space characters count as one, and invisible ones not at all.
    """

    @classmethod
    def of(cls, phrases: Iterable[str]) -> "DenyList | None":
        """None when nothing is denied."""
        normal = {" ".join(folded(phrase).text.split()) for phrase in phrases} - {""}
        if not normal:
            return None
        letters = {"".join(_LETTER.findall(phrase)) for phrase in normal}
        spelled = tuple(sorted(word for word in letters if len(word) >= SHORTEST_SPELLED))
        return cls(
            phrases=tuple(sorted(normal)),
            spelled=spelled,
            first_characters=frozenset(word[0] for word in (*normal, *spelled)),
            longest=max(*(len(phrase) for phrase in normal), *(4 * len(word) for word in spelled), 0),
        )

    def find(self, text: str, *, at_end: bool = True) -> int:
        """Where the first denied phrase begins, -1 when there is none; unless `at_end`, its last word may go on."""
        seen = folded(text)
        last = len(seen.text) if at_end else len(seen.text) - 1
        first = min((*self._written(seen.text, last), *self._spelled_out(seen.text, last)), default=-1)
        return first if first < 0 else seen.origin(first)

    def begins(self, text: str) -> int:
        """Where a denied phrase may have begun that the text's end leaves open; the text's length when none did."""
        size = 2 * self.longest + 64
        seen = folded(text[-size:])
        while len(seen.text) < self.longest + 4 and size < len(text):
            size *= 2
            seen = folded(text[-size:])
        opened = self._opened(seen.text)
        return len(text) if opened < 0 else len(text) - len(seen.original) + seen.origin(opened)

    def _written(self, text: str, last: int) -> Iterator[int]:
        """Where the phrases that end at or before `last` begin, one place for each."""
        for phrase in self.phrases:
            start = text.find(phrase, 0, last)
            while start >= 0 and _goes_on(text, start, start + len(phrase)):
                start = text.find(phrase, start + 1, last)
            if start >= 0:
                yield start

    def _spelled_out(self, text: str, last: int) -> Iterator[int]:
        if not self.spelled:
            return
        for run in _SPELLED.finditer(text):
            letters = _SEPARATOR.sub("", run[0][: last - run.start()])
            starts = [start for word in self.spelled if (start := letters.find(word)) >= 0]
            if starts:
                yield [found.start() for found in _LETTER.finditer(text, *run.span())][min(starts)]

    def _opened(self, text: str) -> int:
        """Where the end of this text may be the beginning of a phrase, -1 when nowhere."""
        written = -1
        for start in range(max(0, len(text) - self.longest), len(text)):
            begun = text[start] in self.first_characters and _begins_one(self.phrases, text[start:])
            if begun and not _goes_on(text, start, len(text)):
                written = start
                break
        runs = _SPELLED_OPEN.finditer(text, max(0, len(text) - self.longest))
        run = next((run for run in runs if run.end() == len(text)), None)
        places = [n for n in range(run.start(), run.end()) if _LETTER.match(text, n)] if run else []
        letters = "".join(text[place] for place in places)
        spelled = next((place for n, place in enumerate(places) if _begins_one(self.spelled, letters[n:])), -1)
        return min((place for place in (written, spelled) if place >= 0), default=-1)


def _begins_one(phrases: tuple[str, ...], beginning: str) -> bool:
    place = bisect_left(phrases, beginning)
    return place < len(phrases) and phrases[place].startswith(beginning)


def _goes_on(text: str, start: int, end: int) -> bool:
    """A phrase ends where its letters end, in scripts that write words apart; a digit is no disguise."""
    return _joined(text, start - 1, start) or _joined(text, end, end - 1)


def _joined(text: str, outside: int, inside: int) -> bool:
    if not 0 <= outside < len(text) or not text[outside].isalpha():
        return False
    if is_unspaced(text[outside]) or is_unspaced(text[inside]):
        return False
    return text[inside].isalnum() or text[inside] == "_"
