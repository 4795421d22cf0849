"""What a text is, read from its words, its characters and its embedding: one logistic head per question asked.

numpy and the standard library only: Triton's Python backend imports this file under numpy 1.26.
"""

import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Buckets = NDArray[np.uint32]
Encode = Callable[[Sequence[str]], Floats]

SHIPPED = Path(__file__).with_name("heads.npz")
"""The heads that come with Manta; `heads.json` beside it says what trained them and how good they are."""

NAMES = ("injection", "difficulty")
BLOCK = 2**15
"""Buckets of each kind of feature: words first, then characters."""
WORD_SIZES = (1, 2, 3)
BYTE_SIZES = (2, 3, 4, 5)

WINDOW = 300
"""Characters of one lexical window; they overlap by half, so any attack of 150 characters stands whole in one."""
REACHED = 8
"""Windows that the encoder's 256 tokens cover, about. Of the rest of a text, the suspects are read."""
SUSPECTS = 3
SUSPECT_ODDS = 0.25
"""A suspect's odds count this much: the worst of a hundred sentences looks bad by chance. In texts of fold 0, 1 found
0.74 of the planted attacks and flagged 0.10 of the benign pages, 0.25 found 0.56 and flagged 0.05."""
SHORTEST = 30
"""Characters below which a sentence is joined to the one before it."""
END = 600
"""Characters of each end of a text that `difficulty` is read from."""

LEXICAL_SHARE = 2 / 3
"""Of the joint logit. Out of fold, 2 / 3 kept 0.77 of the attacks at 1 % false positives, 1 / 2 kept 0.74."""

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_SPACE = re.compile(r"\s+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]")
_SPELLED = re.compile(r"(?<!\w)(?:\w[ .\-_*]){4,}\w(?!\w)")


@dataclass(frozen=True, slots=True)
class Head:
    """The weighted mean of two logits: one linear in the lexical features, one linear in the embedding."""

    lexical: Floats
    """Shape (2 * BLOCK,)."""
    lexical_bias: float
    embedding: Floats
    """Shape (dimension,)."""
    embedding_bias: float
    slope: float
    intercept: float
    """Platt's scaling of the joint logit to a probability."""

    def probability(self, lexical: float, seen: Floats) -> float:
        """`lexical`: the highest lexical logit of the text's windows; `seen`: its embedding."""
        semantic = float(self.embedding @ seen) + self.embedding_bias
        return _sigmoid(self.slope * (LEXICAL_SHARE * lexical + (1 - LEXICAL_SHARE) * semantic) + self.intercept)


@dataclass(frozen=True, slots=True)
class Heads:
    heads: Mapping[str, Head]
    idf: Floats
    """Shape (2 * BLOCK,): inverse document frequency of each bucket, 0 where training never saw it."""
    thresholds: Mapping[str, float]
    """The probability at and above which the head says yes."""

    @classmethod
    def load(cls, path: Path) -> "Heads":
        """Raises FileNotFoundError; ValueError when `save` did not write the file for this feature layout."""
        with np.load(path, allow_pickle=False) as file:
            names = [*(f"{name}.{part}" for name in NAMES for part in ("lexical", "embedding")), "idf", "constants"]
            if missing := [name for name in names if name not in file]:
                raise ValueError(f"heads: {path} has no {missing[0]!r}; train it anew with `manta heads train`")
            arrays = {name: file[name] for name in names}
        constants = json.loads(str(arrays["constants"]))
        if constants["layout"] != layout():
            raise ValueError(
                f"heads: {path} was trained for the features {constants['layout']}, this version computes {layout()}; "
                "train it anew with `manta heads train`"
            )
        idf = arrays["idf"].astype(np.float32) * np.float32(constants["idf_scale"])
        heads = {name: _restored(arrays, name, constants["heads"][name]) for name in NAMES}
        return cls(heads, idf, constants["thresholds"])

    def save(self, path: Path) -> None:
        """Lexical weights and idf as int8 with one scale each: a few hundred kilobytes."""
        idf, idf_scale = _quantised(self.idf)
        arrays: dict[str, NDArray[np.generic]] = {"idf": idf}
        constants = {}
        for name, head in self.heads.items():
            arrays[f"{name}.lexical"], scale = _quantised(head.lexical)
            arrays[f"{name}.embedding"] = head.embedding.astype(np.float32)
            constants[name] = {"scale": scale} | {field: getattr(head, field) for field in _SCALARS}
        text = {"layout": layout(), "idf_scale": idf_scale, "heads": constants, "thresholds": dict(self.thresholds)}
        arrays["constants"] = np.array(json.dumps(text))
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def read(self, texts: Sequence[str], encode: Encode) -> tuple[Floats, dict[str, Floats]]:
        """Embeddings and scores of the texts: what a backend answers.

        A sentence planted in a long text is drowned in its embedding, so the `suspects` of each long text are
        encoded too, and its injection score is the highest of theirs and its own.
        """
        embeddings = encode(texts)
        scores = self.scores(texts, embeddings)
        for position, text in enumerate(texts):
            if suspects := self.suspects(text):
                highest = float(self.scores(suspects, encode(suspects))["injection"].max())
                odds = highest / (1 - highest + 1e-9) * SUSPECT_ODDS
                scores["injection"][position] = max(scores["injection"][position], odds / (1 + odds))
        return embeddings, scores

    def scores(self, texts: Sequence[str], embeddings: Floats) -> dict[str, Floats]:
        """Probabilities by head, shape (len(texts),) each. `embeddings`: one row per text, the encoder's.

        Reads what the embedding covers of a text, about 1,200 characters; `read` sees all of it.
        """
        if len(texts) != len(embeddings):
            raise ValueError(f"heads: {len(texts)} texts but {len(embeddings)} embeddings; give one row per text")
        rows = [self._score(text, seen) for text, seen in zip(texts, embeddings, strict=True)]
        return {name: np.array([row[name] for row in rows], dtype=np.float32) for name in NAMES}

    def suspects(self, text: str) -> tuple[str, ...]:
        """Up to SUSPECTS sentences of a long text, or pairs of them, whose words look most like an injection."""
        if len(text) <= WINDOW:
            return ()
        ranked = sorted(sentences(text), key=lambda part: self.logits(normalised(part))["injection"], reverse=True)
        return tuple(ranked[:SUSPECTS])

    def _score(self, text: str, seen: Floats) -> dict[str, float]:
        plain = normalised(text)
        parts = [self.logits(part) for part in windows(plain)]
        # A short text is its own two ends: its features are not counted twice.
        whole = parts[0] if len(parts) == 1 else self.logits(ends(plain))
        injection, difficulty = self.heads["injection"], self.heads["difficulty"]
        return {
            "injection": injection.probability(max(part["injection"] for part in parts), seen),
            "difficulty": difficulty.probability(whole["difficulty"], seen),
        }

    def logits(self, part: str) -> dict[str, float]:
        """Lexical logit of every head for one window of normalised text."""
        buckets, values = weighted(part, self.idf)
        return {name: float(head.lexical[buckets] @ values) + head.lexical_bias for name, head in self.heads.items()}


_SCALARS = ("lexical_bias", "embedding_bias", "slope", "intercept")


def layout() -> str:
    """Names the feature layout; weights trained for another one are noise."""
    return f"2/{BLOCK}/{WORD_SIZES}/{BYTE_SIZES}/{WINDOW}/{END}"


def normalised(text: str) -> str:
    """One spelling for what reads alike: compatibility forms, case, invisible characters, s p e l l e d words."""
    folded = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower()
    joined = _SPELLED.sub(lambda found: re.sub(r"[ .\-_*]", "", found.group()), folded)
    return _SPACE.sub(" ", joined).strip()


def windows(text: str) -> list[str]:
    """The first REACHED overlapping stretches of WINDOW characters; one where `text` is at most half as long again."""
    if len(text) <= WINDOW * 3 // 2:
        return [text]
    step = WINDOW // 2
    return [text[start : start + WINDOW] for start in range(0, len(text) - step, step)][:REACHED]


def sentences(text: str) -> list[str]:
    """Sentences and lines, at most WINDOW characters each, and every two neighbours that fit together in one."""
    joined: list[str] = []
    for part in _SENTENCE_END.split(text):
        if joined and len(joined[-1]) < SHORTEST:
            joined[-1] += f" {part.strip()}"
        elif part.strip():
            joined.append(part.strip())
    single = [part[start : start + WINDOW] for part in joined for start in range(0, len(part), WINDOW)]
    return single + [f"{one} {other}" for one, other in pairwise(single) if len(one) + len(other) < WINDOW]


def ends(text: str) -> str:
    """The question stands before or after what it is about."""
    return text if len(text) <= 2 * END else f"{text[:END]} {text[-END:]}"


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


def _word_grams(text: str) -> Buckets:
    words = [zlib.crc32(word.encode("utf-8", "replace")) for word in _WORD.findall(text)]
    return _grams(np.array(words, dtype=np.uint32), WORD_SIZES)


def _byte_grams(text: str) -> Buckets:
    content = f" {text} ".encode("utf-8", "replace")
    return _grams(np.frombuffer(content, dtype=np.uint8).astype(np.uint32), BYTE_SIZES)


def _grams(units: Buckets, sizes: Sequence[int]) -> Buckets:
    """Bucket of every run of n units: a polynomial hash mod 2^32, its top bits after Knuth's mix."""
    buckets = []
    for size in sizes:
        count = len(units) - size + 1
        if count <= 0:
            break
        state = np.full(count, size, dtype=np.uint32)
        for offset in range(size):
            state = state * np.uint32(1_000_003) + units[offset : offset + count]
        mixed = (state ^ (state >> np.uint32(15))) * np.uint32(2_654_435_761)
        buckets.append(mixed >> np.uint32(32 - BLOCK.bit_length() + 1))
    return np.concatenate(buckets) if buckets else np.zeros(0, dtype=np.uint32)


def _restored(arrays: Mapping[str, NDArray[np.generic]], name: str, constants: Mapping[str, float]) -> Head:
    lexical = arrays[f"{name}.lexical"].astype(np.float32) * np.float32(constants["scale"])
    scalars = {field: float(constants[field]) for field in _SCALARS}
    return Head(lexical=lexical, embedding=arrays[f"{name}.embedding"].astype(np.float32), **scalars)


def _quantised(values: Floats) -> tuple[NDArray[np.int8], float]:
    scale = float(np.abs(values).max()) / 127 or 1.0
    return np.round(values / scale).astype(np.int8), scale


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(logit, -60, 60))))
