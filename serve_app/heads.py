"""What a text is: one probability per question asked of it, read from its words and from the encoder's branch.

numpy and the standard library only: Triton's Python backend imports this file under numpy 1.26.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_app import lexicon
from serve_app.lexicon import Floats, Lexicon, normalised, windows
from serve_app.normalisation import views

Look = Callable[[Sequence[str]], Floats]
"""Shape (len(texts), 768): the branch's states of what the encoder reads of each text, `Encoder.states`."""
Scores = Mapping[str, float]

SHIPPED = Path(__file__).with_name("heads.npz")
"""The heads that come with Manta; `heads.json` beside it says what trained them and how good they are."""

ATTACKS = ("prompt_injection", "jailbreak")
HARMS = ("hate", "harassment", "self-harm", "violence", "illicit", "sexual")
NAMES = (*ATTACKS, *HARMS, "difficulty")

OUTPUTS = ("attack", "jailbreak", "harm", *HARMS, "difficulty")
"""What is learned: an attack or not, and of attacks whether it is a jailbreak; harm or not, and of harm which."""
ATTACK, JAILBREAK, HARM, DIFFICULTY = (OUTPUTS.index(name) for name in ("attack", "jailbreak", "harm", "difficulty"))
KINDS = slice(HARM + 1, DIFFICULTY)

REACHED = 8
"""Windows that the encoder's 256 tokens cover, about. Of the rest of a text, the suspects are read."""
COVERED = 1_200
"""Characters that the encoder's 256 tokens cover, about."""
SUSPECTS = {ATTACK: 4, HARM: 2}
"""Windows of a long text that are encoded, by the output that they are suspected of."""
SUSPECT_ODDS = 0.12
"""A suspect's odds count this much: the worst of a hundred windows looks bad by chance. In long pages not trained on,
1 found 0.68 of the planted attacks and flagged 0.13 of the pages, 0.12 found 0.18 and flagged 0.02."""
END = 600
"""Characters of each end of a text that `difficulty` is read from."""
BATCH = 8
"""Stretches of one call to the encoder; they are of like length."""

_NO_LETTERS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Heads:
    lexicon: Lexicon
    weights: Floats
    """Shape (outputs, 768): linear in the branch's state."""
    biases: Floats
    """Shape (outputs,)."""
    joints: Floats
    """Shape (outputs, 3): the joint logit's share of the lexicon's, its share of the branch's, and a constant."""
    branch: Mapping[str, Floats]
    """Weights of the encoder's upper layers as trained for the heads, by their names."""
    thresholds: Mapping[str, float]
    """The probability at and above which a head says yes."""

    def read(self, texts: Sequence[str], look: Look, states: Floats | None = None) -> tuple[Scores, ...]:
        """The probabilities of each text, by head, over all of it and of what is hidden in it.

        `states`: the branch's of the texts themselves, where the caller has them already.
        """
        # Lone surrogates, which JSON may carry, do not reach a server: all backends read them as it does.
        texts = [text.encode("utf-8", "replace").decode() for text in texts]
        seen = look(texts) if states is None else states
        if len(texts) != len(seen):
            raise ValueError(f"heads: {len(texts)} texts but {len(seen)} states; give one row per text")
        found = [[self.logits(text, state)] for text, state in zip(texts, seen, strict=True)]
        rest = [(at, stretch, odds) for at, text in enumerate(texts) for stretch, odds in self.stretches(text)]
        rest.sort(key=lambda part: len(part[1]))
        for start in range(0, len(rest), BATCH):
            batch = rest[start : start + BATCH]
            rows = look([stretch for _, stretch, _ in batch])
            for (at, stretch, odds), state in zip(batch, rows, strict=True):
                found[at].append(self.logits(stretch, state) + np.log(odds))
        return tuple(scores(rows) for rows in found)

    def logits(self, text: str, state: Floats) -> Floats:
        """Joint logit of each output, shape (outputs,), over what the encoder reads of the text."""
        plain = normalised(text[: 2 * COVERED])
        parts = [self.lexicon.logits(part) for part in windows(plain, REACHED)]
        words = np.max(parts, axis=0)
        if len(parts) > 1:  # A short text is its own two ends.
            words[DIFFICULTY] = self.lexicon.logits(ends(normalised(text)))[DIFFICULTY]
        return self.joined(words, self.weights @ state + self.biases)

    def joined(self, words: Floats, seen: Floats) -> Floats:
        """The joint logits of the lexicon's and the branch's, each of shape (..., outputs)."""
        joint: Floats = self.joints[:, 0] * words + self.joints[:, 1] * seen + self.joints[:, 2]
        return joint

    def stretches(self, text: str) -> list[tuple[str, float]]:
        """What else of a text is to be read, and the share of its odds that counts."""
        seen, *hidden = views(text)
        # What the encoder reads as it stands in the text need not be read again.
        if _NO_LETTERS.sub("", seen) != _NO_LETTERS.sub("", text):
            hidden.append(seen)
        whole = [(view[:COVERED], 1.0) for view in hidden]
        long = [view for view in (text, *hidden) if len(view) > COVERED]
        return whole + [(part, SUSPECT_ODDS) for view in long for part in self.suspects(view)]

    def suspects(self, text: str) -> list[str]:
        """The windows of a long text whose words look worst."""
        return self.lexicon.suspects(normalised(text), SUSPECTS)

    @classmethod
    def load(cls, path: Path) -> "Heads":
        """Raises FileNotFoundError; ValueError when `save` did not write the file for this feature layout."""
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ("constants", "idf", "words", "weights") if name not in file]:
                raise ValueError(f"heads: {path} has no {missing[0]!r}; train it anew with `manta heads train`")
            arrays = {name: file[name] for name in file.files}
        constants = json.loads(str(arrays.pop("constants")))
        if constants["layout"] != layout():
            raise ValueError(
                f"heads: {path} was trained for the features {constants['layout']}, this version computes {layout()}; "
                "train it anew with `manta heads train`"
            )
        rows = {name: _restored(name, arrays) for name in arrays if not name.endswith(SCALE)}
        biases, state_biases, joints = (np.array(constants[name], dtype=np.float32) for name in _CONSTANTS)
        words, weights = rows.pop("words"), rows.pop("weights")
        read = Lexicon(words, biases, rows.pop("idf")[0])
        return cls(read, weights, state_biases, joints, rows, constants["thresholds"])

    def save(self, path: Path) -> None:
        """Matrices as int8 with one scale a row: about four megabytes."""
        given = {"words": self.lexicon.weights, "idf": self.lexicon.idf[None], "weights": self.weights, **self.branch}
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, values in sorted(given.items()):
            if values.ndim == 2:
                arrays[name], arrays[name + SCALE] = _quantised(values)
            else:
                arrays[name] = values.astype(np.float32)
        rows = (self.lexicon.biases.tolist(), self.biases.tolist(), self.joints.tolist())
        constants = {
            "layout": layout(),
            "thresholds": dict(self.thresholds),
            **dict(zip(_CONSTANTS, rows, strict=True)),
        }
        arrays["constants"] = np.array(json.dumps(constants))
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


SCALE = ":scale"
_CONSTANTS = ("word_biases", "biases", "joints")


def layout() -> str:
    """Names the features; weights trained for other ones are noise."""
    return f"3/{lexicon.layout()}/{','.join(OUTPUTS)}/{COVERED}/{END}"


def scores(rows: Sequence[Floats]) -> Scores:
    """The heads' probabilities from the joint logits of one text's stretches: each output's highest counts.

    The likelier of the two attacks has the probability that it is one at all, and so has the likeliest harm; the
    others have less, in proportion. So one threshold holds for all heads of a family.
    """
    highest = np.max(rows, axis=0)
    # What kind of attack it is says the stretch that looks most like one.
    highest[JAILBREAK] = max(rows, key=lambda row: float(row[ATTACK]))[JAILBREAK]
    chance = 1 / (1 + np.exp(-np.clip(highest.astype(np.float64), -60, 60)))
    kinds = np.array([1 - chance[JAILBREAK], chance[JAILBREAK]])
    attacks = chance[ATTACK] * kinds / kinds.max()
    harms = chance[HARM] * chance[KINDS] / chance[KINDS].max()
    return dict(zip(NAMES, (*attacks.tolist(), *harms.tolist(), float(chance[DIFFICULTY])), strict=True))


def ends(text: str) -> str:
    """The question stands before or after what it is about."""
    return text if len(text) <= 2 * END else f"{text[:END]} {text[-END:]}"


def _quantised(values: Floats) -> tuple[NDArray[np.int8], Floats]:
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    return np.round(values / scale).astype(np.int8), scale.astype(np.float32)


def _restored(name: str, arrays: Mapping[str, NDArray[np.generic]]) -> Floats:
    values = arrays[name].astype(np.float32)
    return values * arrays[name + SCALE].astype(np.float32) if name + SCALE in arrays else values
