"""Whether an answer repeats the instructions an operator gave in confidence: letter by letter, while it streams."""

import codecs
import re
import unicodedata
from base64 import urlsafe_b64decode
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from serve_app.confusables import ENCLOSED, LOOKALIKES
from serve_app.deny import UNSPACED, is_unspaced

PROTECTED_WORDS = 300
"""Of each message, from its start: what comes later is what an application stuffed in behind its instructions."""
_MATERIAL = (
    r"(?:context|documents?|sources?|passages?|excerpts?|articles?|search results?|knowledge(?: base)?|faqs?"
    r"|reference material|kontext|dokumente?|quellen?|wissen|auszüge)"
)
MATERIAL = re.compile(
    rf"^\W{{0,8}}{_MATERIAL}\b[^\n]{{0,40}}:\s*$|<{_MATERIAL}\b[^>\n]{{0,80}}>"
    rf"|\b(?:following|below|folgende[nr]?)\b[^\n]{{0,60}}\b{_MATERIAL}\b[^\n]{{0,200}}\n",
    re.IGNORECASE | re.MULTILINE,
)
"""Before what an answer is meant to quote: a line `Context:`, a tag, `Use the following documents...`."""
WORDING = re.compile(
    r"\b(?:say|reply|respond|answer|write|greet|tell|state|output|with|sage|antworte|schreibe|mit)\b[^.\n\"“„«]{0,60}"
    r"[\"“„«](?P<words>[^\"“”»]{1,600})[\"“”»]",
    re.IGNORECASE,
)
"""What the instructions themselves put into the answer's mouth: `If you do not know, say "I am sorry..."`."""

BEGUN = 12
"""Letters in common from which a run counts as begun, about three short words: they may leave, the next may not."""
APART = 256
"""Most characters without a letter within a run: so much can be held."""
ENCODED = 40
"""Base64 characters in a row from which they are decoded."""
STRETCHES = re.compile(r"([A-Za-z0-9+/_-]+)|[^A-Za-z0-9+/_-]+")
URL_SAFE = str.maketrans("+/", "-_")
NO_LETTER = re.compile(r"[\W_]+")
LINE_BREAKS = frozenset("\r\n")


@dataclass(frozen=True, slots=True)
class Leakage:
    """The letters of the instructions, and where each run of BEGUN of them ends.

    Letters alone are compared: case, accents, punctuation, Markdown, and how words are spaced or spelled out do not
    matter.
    """

    ends: Mapping[str, Sequence[int]]
    starting: tuple[int, ...]
    """Weight of the words that begin before each letter; a word weighs 2, a character of an unspaced script 1."""
    finished: tuple[int, ...]
    """Weight of the words that have ended with each letter."""
    weight: int
    """Of a run that is a leak."""

    @classmethod
    def of(cls, texts: Iterable[str], words: int = 12) -> "Leakage | None":
        """What must not be repeated of these messages; None when none of them has as many words."""
        words_in_order = [word for text in texts for part in instructions(text) for word in (*_words(part), "\0")]
        begin: list[int] = []
        end: list[int] = []
        for word in words_in_order:
            weight = 0 if word == "\0" else 1 if is_unspaced(word[0]) else 2
            inner = [0] * (len(word) - 1)
            begin += (weight, *inner)
            end += (*inner, weight)
        if sum(begin) < 2 * words:
            return None
        letters = "".join(words_in_order)
        ends: dict[str, list[int]] = defaultdict(list)
        for last in range(BEGUN, len(letters) + 1):
            ends[letters[last - BEGUN : last]].append(last - 1)
        return cls(ends, tuple(accumulate(begin, initial=0)), tuple(accumulate(end)), 2 * words)

    def is_leak(self, last: int, length: int) -> bool:
        """Whether the `length` letters up to `last` are as many whole words as may not be repeated."""
        return self.finished[last] - self.starting[last + 1 - length] >= self.weight


def instructions(text: str) -> list[str]:
    """The stretches of a system message that are its own: no documents in it, no words it tells to say."""
    material = MATERIAL.search(text)
    own = text[: material.end()] if material else text
    words = list(re.finditer(r"\S+", own[: PROTECTED_WORDS * 40]))[:PROTECTED_WORDS]
    own = own[: words[-1].end()] if words else ""
    parts: list[str] = []
    position = 0
    for wording in WORDING.finditer(own):
        parts.append(own[position : wording.start("words")])
        position = wording.end("words")
    return [*parts, own[position:]]


def _words(text: str) -> list[str]:
    """The letters of each word; characters of a script without white space are words of their own."""
    words: list[str] = []
    for word in text.split():
        if word.isascii():
            words.append(NO_LETTER.sub("", word.lower()))
        else:
            words += re.findall(rf"[{UNSPACED}]|[^{UNSPACED}]+", "".join(map(letters_of, word)))
    return [word for word in words if word]


def letters_of(character: str) -> str:
    """The letters and digits a reader sees: lower case, plain Latin where they look so, no accents; often none."""
    if character.isascii():
        return character.lower() if character.isalnum() else ""
    return _unusual(character)


@lru_cache(maxsize=4096)
def _unusual(character: str) -> str:
    seen = ENCLOSED.get(character) or unicodedata.normalize("NFKD", character)
    return "".join(LOOKALIKES.get(c, c) for c in seen.casefold() if c.isalnum())


@dataclass(slots=True)
class Trace:
    """How far one text follows the instructions. Constant time and memory per character, however it is cut."""

    leakage: Leakage
    stop: int | None = None
    """Where a leak begins that has been found: nothing from here on may leave."""
    _position: int = 0
    _recent: str = ""
    _silence: int = 0
    _runs: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Position in the instructions -> letters of the run that ends there, and where its first BEGUN end."""

    @property
    def begun(self) -> int | None:
        """From here on the text may become a leak; None when it follows nothing."""
        return self.stop if self.stop is not None else min((at for _, at in self._runs.values()), default=None)

    def take(self, text: str) -> None:
        for character in text:
            if self.stop is not None:
                return
            if letters := letters_of(character):
                self._follow(letters)
            elif self._silence < APART:
                self._silence += 1
            else:
                self._recent, self._runs = "", {}
            self._position += 1

    def _follow(self, letters: str) -> None:
        self._silence = 0
        for letter in letters:
            self._recent = self._recent[1 - BEGUN :] + letter
            runs, self._runs = self._runs, {}
            for last in self.leakage.ends.get(self._recent, ()):
                length, at = runs.get(last - 1, (BEGUN - 1, self._position))
                self._runs[last] = (length + 1, at)
                if self.leakage.is_leak(last, length + 1):
                    self.stop = min(at, self.begun or at)


@dataclass(slots=True)
class Decoded:
    """The Base64 in one text, followed as the text is: a leak in it begins where the encoded run does."""

    leakage: Leakage
    stop: int | None = None
    _position: int = 0
    _start: int = 0
    _run: str = ""
    """What of the run is not decoded yet."""
    _length: int = 0
    _trace: Trace | None = None
    _reader: codecs.IncrementalDecoder | None = None

    @property
    def begun(self) -> int | None:
        return self._start if self.stop is None and self._trace and self._trace.begun is not None else self.stop

    def take(self, text: str) -> None:
        for stretch in STRETCHES.finditer(text):
            if stretch[1]:
                self._extend(stretch[1])
            elif self._trace is None or not LINE_BREAKS.issuperset(stretch[0]):
                self._run, self._length, self._trace = "", 0, None
            self._position += len(stretch[0])

    def _extend(self, characters: str) -> None:
        if not self._length:
            self._start = self._position
        self._run += characters
        self._length += len(characters)
        if self._length < ENCODED or self.stop is not None:
            return
        if self._trace is None or self._reader is None:
            self._trace, self._reader = Trace(self.leakage), codecs.getincrementaldecoder("utf-8")("replace")
        whole = len(self._run) // 4 * 4
        decoded = urlsafe_b64decode(self._run[:whole].translate(URL_SAFE))
        self._run = self._run[whole:]
        self._trace.take(self._reader.decode(decoded))
        if self._trace.stop is not None:
            self.stop = self._start
