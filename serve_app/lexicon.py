"""A linear reading of a text's words and characters, hashed into buckets.

numpy and the standard library only: Triton's Python backend imports this file under numpy 1.26.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.normalisation import plain

Floats = NDArray[np.float32]
Buckets = NDArray[np.uint32]
Integers = NDArray[np.int64]

BLOCK = 2**15
"""Buckets of each kind of feature: words first, then characters."""
WORD_SIZES = (1, 2, 3)
BYTE_SIZES = (2, 3, 4, 5)

WINDOW = 300
"""Characters of one window; they overlap by half, so any attack of 150 characters stands whole in one."""

SLICE = 150_000
"""Characters of a long text that are read at once: what bounds the memory."""

_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """One linear reading per output."""

    weights: Floats
    """Shape (outputs, 2 * BLOCK)."""
    biases: Floats
    """Shape (outputs,)."""
    idf: Floats
    """Shape (2 * BLOCK,): inverse document frequency of each bucket, 0 where training never saw it."""

    def logits(self, part: str) -> Floats:
        """Shape (outputs,), of one window of normalised text."""
        buckets, values = weighted(part, self.idf)
        read: Floats = self.weights[:, buckets] @ values + self.biases
        return read

    def suspects(self, text: str, outputs: Mapping[int, int]) -> list[str]:
        """The windows of a normalised text that score highest: for each output as many as it says. None overlap.

        Counts are not damped as in `logits`, which makes it one pass over the text: the order is about the same.
        """
        starts = np.arange(0, max(1, len(text) - WINDOW // 2), WINDOW // 2)
        per_slice = SLICE // (WINDOW // 2)
        totals = [
            self._totals(text, starts[at : at + per_slice], list(outputs)) for at in range(0, len(starts), per_slice)
        ]
        total = np.concatenate(totals, axis=1)
        chosen: list[int] = []
        for row, most in zip(total, outputs.values(), strict=True):
            ranked = np.argsort(-row, kind="stable")[: 3 * (most + len(chosen))].tolist()
            for at in ranked:
                if most and all(abs(at - other) > 1 for other in chosen):
                    chosen.append(at)
                    most -= 1
        return [text[starts[at] : starts[at] + WINDOW] for at in chosen]

    def _totals(self, text: str, starts: Integers, outputs: Sequence[int]) -> Floats:
        """Shape (outputs, starts). Each kind of feature of a window has length one, as in `logits`."""
        first, last = int(starts[0]), int(starts[-1]) + WINDOW
        total = np.zeros((len(outputs), len(starts)))
        for buckets, places in _placed(text[first:last]):
            order = np.argsort(places, kind="stable")
            edges = [np.searchsorted(places[order], edge) for edge in (starts - first, starts - first + WINDOW)]
            idf = self.idf[buckets[order]].astype(np.float64)
            length = np.sqrt(_between(idf**2, edges) + 1e-9)
            for position, output in enumerate(outputs):
                total[position] += _between(idf * self.weights[output, buckets[order]], edges) / length
        return total.astype(np.float32)


def _between(values: NDArray[np.float64], edges: Sequence[Integers]) -> NDArray[np.float64]:
    """Sums of the stretches from the first edges to the second."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    difference: NDArray[np.float64] = summed[edges[1]] - summed[edges[0]]
    return difference


def normalised(text: str) -> str:
    """One spelling for what reads alike: `plain`, in small letters, with single spaces."""
    return _SPACE.sub(" ", plain(text).lower()).strip()


def windows(text: str, most: int) -> list[str]:
    """The first overlapping stretches of WINDOW characters; one where `text` is at most half as long again."""
    if len(text) <= WINDOW * 3 // 2:
        return [text]
    step = WINDOW // 2
    return [text[start : start + WINDOW] for start in range(0, len(text) - step, step)][:most]


def weighted(text: str, idf: Floats) -> tuple[Buckets, Floats]:
    """Buckets of a normalised text and their tf-idf values; words and characters each have length 1."""
    found, values = [], []
    for start, grams in ((0, _word_grams(text)), (BLOCK, _byte_grams(text))):
        buckets, counts = np.unique(grams, return_counts=True)
        buckets = buckets + np.uint32(start)
        weights = (1 + np.log(counts.astype(np.float32))) * idf[buckets]
        norm = float(np.sqrt(weights @ weights))
        found.append(buckets)
        values.append((weights / norm if norm else weights).astype(np.float32))
    return np.concatenate(found), np.concatenate(values)


def layout() -> str:
    """Names the features; weights trained for other ones are noise."""
    return f"2/{BLOCK}/{WORD_SIZES}/{BYTE_SIZES}/{WINDOW}"


def _word_grams(text: str) -> Buckets:
    words = [zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text)]
    return np.concatenate(_grams(np.array(words, dtype=np.uint32), WORD_SIZES))


def _byte_grams(text: str) -> Buckets:
    content = f" {text} ".encode("utf-8", "replace")
    return np.concatenate(_grams(np.frombuffer(content, dtype=np.uint8).astype(np.uint32), BYTE_SIZES))


def _placed(text: str) -> list[tuple[Buckets, Integers]]:
    """Buckets of the words, then of the characters, and the character that each run starts at."""
    found = list(_WORD.finditer(text))
    words = np.array([zlib.crc32(word.group().encode("utf-8", "replace")) for word in found], dtype=np.uint32)
    at = np.array([word.start() for word in found], dtype=np.int64)
    content = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    # A byte that continues a character does not start one.
    of_byte = np.cumsum((content & 0xC0) != 0x80) - 1
    return [
        _together(_grams(words, WORD_SIZES), at, 0),
        _together(_grams(content.astype(np.uint32), BYTE_SIZES), of_byte.astype(np.int64), BLOCK),
    ]


def _together(grams: Sequence[Buckets], at: Integers, block: int) -> tuple[Buckets, Integers]:
    return np.concatenate(grams) + np.uint32(block), np.concatenate([at[: len(part)] for part in grams])


def _grams(units: Buckets, sizes: Sequence[int]) -> list[Buckets]:
    """Bucket of every run of n units, one array per n: a polynomial hash mod 2^32, its top bits after Knuth's mix."""
    buckets = []
    for size in sizes:
        count = max(0, len(units) - size + 1)
        state = np.full(count, size, dtype=np.uint32)
        for offset in range(size):
            state = state * np.uint32(1_000_003) + units[offset : offset + count]
        mixed = (state ^ (state >> np.uint32(15))) * np.uint32(2_654_435_761)
        buckets.append(mixed >> np.uint32(32 - BLOCK.bit_length() + 1))
    return buckets
