"""Sentences of any text, pages and JSON alike, and hashed n-grams of them: what a lexicon reads.

numpy and the standard library only: Triton's Python backend imports this file under numpy 1.26.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

BLOCK = 2**16
"""Buckets of each kind of feature: words first, then bytes."""
WORD_SIZES = (1, 2, 3)
BYTE_SIZES = (3, 4, 5)

LONGEST = 300
"""Characters of a sentence; a longer one is read in stretches that overlap by half."""
SHORTEST = 3
"""Letters and digits below which a line is nothing."""
MOST_CHARS = 1_000_000
"""Of a text that are read; the caller's limit is lower."""

_BREAK = re.compile(
    r"(?<=[.!?\u2026])[\"')\]\u201d*_]*\s+"  # a sentence ends
    r"|[\r\n\v\f\x85\u2028\u2029]+|\\[nrt]"  # a line, also one inside a JSON string
    r"|(?<=[\u3002\uff01\uff1f])"
    r"|\"\s*[:,]\s*(?=[\"\[{\d])"  # a value of JSON
    r"|(?<=[a-z\d,;:] )(?=(?:Wh(?:at|o|en|ere|y|ich)|How|Can|Could|Please|Ignore|Disregard|Forget|Tell|Give|Write"
    r"|Explain|Describe|Translate|Repl(?:y|ace)|Respond|Answer|Provide|In(?:clude|sert|corporate|tegrate)) )"
    r"|</?[a-zA-Z][\w:-]{0,30}\s?/?>?|[\"'/]\s?/?>|<!--|-->"  # an element of HTML; its attributes are read
)
_WORD = re.compile(r"\w+|[^\w\s]")
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[\w+.-]{0,20}", re.MULTILINE)
_LETTER = re.compile(r"\w")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]")
_SPACE = re.compile(r"[ \t\u00a0]+")


class Sentence(NamedTuple):
    text: str
    code: bool
    """Inside a fence, where documentation shows what others say to a model."""


def sentences(text: str) -> list[Sentence]:
    """Sentences, lines, values of JSON and elements of HTML, in one spelling, at most LONGEST characters each."""
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text[:MOST_CHARS]))
    made: list[Sentence] = []
    for number, stretch in enumerate(_FENCE.split(plain)):
        for part in _BREAK.split(stretch):
            stripped = _SPACE.sub(" ", part).strip()
            if len(_LETTER.findall(stripped[:LONGEST])) >= SHORTEST:
                made += [Sentence(piece, number % 2 == 1) for piece in stretches(stripped)]
    return made


def stretches(sentence: str) -> list[str]:
    step = LONGEST // 2
    if len(sentence) <= LONGEST:
        return [sentence]
    return [sentence[start : start + LONGEST] for start in range(0, len(sentence) - step, step)]


def grams(parts: Sequence[Sentence]) -> Iterator[tuple[Integers, Integers]]:
    """Of words, then of bytes: (position of the sentence, bucket) of every n-gram."""
    lowered = [part.text.lower() for part in parts]
    known: dict[str, int] = {}
    words: list[int] = []
    sizes: list[int] = []
    for part, lower in zip(parts, lowered, strict=True):
        found = ("^`" if part.code else "^", *_WORD.findall(lower), "$")
        words += [known[word] if word in known else known.setdefault(word, crc(word)) for word in found]
        sizes.append(len(found))
    yield runs(np.array(words, dtype=np.uint32), np.repeat(np.arange(len(parts)), sizes), WORD_SIZES, 0)
    content = [f" {part} ".encode("utf-8", "replace") for part in lowered]
    rows = np.repeat(np.arange(len(parts)), [len(part) for part in content])
    yield runs(np.frombuffer(b"".join(content), dtype=np.uint8).astype(np.uint32), rows, BYTE_SIZES, BLOCK)


def crc(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace"))


def runs(units: NDArray[np.uint32], rows: Integers, sizes: Sequence[int], first: int) -> tuple[Integers, Integers]:
    """Bucket, from `first` on, of every run of n units of one row: a polynomial hash mod 2^32, its top bits."""
    kept, buckets = [rows[:0]], [rows[:0]]
    for size in sizes:
        count = max(len(units) - size + 1, 0)
        state = np.full(count, size, dtype=np.uint32)
        for offset in range(size):
            state = state * np.uint32(1_000_003) + units[offset : offset + count]
        mixed = (state ^ (state >> np.uint32(15))) * np.uint32(2_654_435_761)
        whole = rows[:count] == rows[size - 1 : size - 1 + count]
        kept.append(rows[:count][whole])
        buckets.append((mixed >> np.uint32(32 - BLOCK.bit_length() + 1))[whole].astype(np.int64) + first)
    return np.concatenate(kept), np.concatenate(buckets)
