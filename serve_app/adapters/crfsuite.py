"""The name model: a linear-chain conditional random field over words, and its word lists, in one file."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pycrfsuite

from serve_app.names.features import Features, Seen, features
from serve_app.names.gazetteers import SORTS, Gazetteers
from serve_app.names.words import Word, lower_case, stretches
from serve_app.turn import Finding

SHIPPED = Path(__file__).parents[1] / "names" / "names.npz"
LAYOUT = "1"
"""Of the features; weights trained for another one are noise."""
OUTSIDE = "O"
CERTAIN = {"PERSON": 0.97, "GPE": 0.97, "ORGANIZATION": 0.8}
"""A word of the language alone (`Normal`, `Allow`) is a name from here on: out of fold this takes a third of the false
findings from documentation, and one organisation in a hundred."""
SURE = 0.8
"""A person found with this probability is looked for by surname in the rest of the text."""


@dataclass(frozen=True, slots=True)
class NameModel:
    weights: bytes
    """crfsuite's own format."""
    lists: Mapping[str, Sequence[str]]
    """Entries by gazetteer, for each of SORTS."""
    thresholds: Mapping[str, float]
    """By entity: a word is part of one from this probability on."""

    @classmethod
    def load(cls, path: Path = SHIPPED) -> "NameModel":
        """Raises FileNotFoundError; ValueError when `save` did not write the file for these features."""
        with np.load(path, allow_pickle=False) as file:
            if "constants" not in file or json.loads(str(file["constants"]))["layout"] != LAYOUT:
                raise ValueError(f"names: {path} was trained for other features; train it anew with `manta pii train`")
            constants = json.loads(str(file["constants"]))
            lists = {sort: file[sort].tobytes().decode("utf-8").split("\n") for sort in SORTS}
            return cls(file["weights"].tobytes(), lists, constants["thresholds"])

    def save(self, path: Path) -> None:
        """The same model gives the same bytes."""
        arrays = {sort: np.frombuffer("\n".join(self.lists[sort]).encode(), dtype=np.uint8) for sort in SORTS}
        constants = np.array(json.dumps({"layout": LAYOUT, "thresholds": dict(self.thresholds)}))
        weights = np.frombuffer(self.weights, dtype=np.uint8)
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, weights=weights, constants=constants, **arrays)


class NameTagger:
    """Finds people, addresses, organisations, places and telephone numbers by the words around them."""

    def __init__(self, model: NameModel) -> None:
        self._weights = model.weights  # crfsuite reads them where they lie
        self._tagger = pycrfsuite.Tagger()
        self._tagger.open_inmemory(self._weights)
        self._labels = [label for label in self._tagger.labels() if label != OUTSIDE]
        self._lists = Gazetteers.of(model.lists)
        self._thresholds = model.thresholds
        self._lowest = min(model.thresholds.values())
        self._lock = threading.Lock()

    def find(self, text: str) -> list[Finding]:
        """In the order of the text, not overlapping. `score`: the highest probability of a word in it."""
        lower = lower_case(text)
        seen: dict[str, Seen] = {}
        words: list[Word] = []
        found: list[Finding] = []
        for stretch in stretches(text):
            if any(self._could_name(word.text) for word in stretch):
                words += stretch
                labelled = self._labelled(text, stretch, features(stretch, self._lists, lower, seen))
                found += (finding for finding in labelled if self._is_likely(text, finding))
        return self._again(words, found)

    def _could_name(self, word: str) -> bool:
        """Not so a word of the language that is in no other list; a stretch of such words alone costs nothing."""
        if word.isalpha():
            return len(word) > 1 and self._lists.flags.get(word.lower(), "") != "C"
        return len(word) > 2 and word[0].isalnum()

    def _is_likely(self, text: str, finding: Finding) -> bool:
        is_word = self._lists.flags.get(text[finding.start : finding.end].lower(), "") == "C"
        return not is_word or finding.score >= CERTAIN.get(finding.kind, 0)

    def _labelled(self, text: str, words: Sequence[Word], rows: list[Features]) -> list[Finding]:
        found: list[Finding] = []
        with self._lock:
            self._tagger.set(rows)
            for word, label, probability in self._inside(words):
                kind = label[2:]
                if found and label[0] == "I" and _goes_on(text, found[-1], kind, word):
                    last = found[-1]
                    found[-1] = Finding(kind, last.start, word.end, max(last.score, probability))
                elif word.text[0].isalnum() or word.text == "#":
                    found.append(Finding(kind, word.start, word.end, probability))
        return found

    def _inside(self, words: Sequence[Word]) -> Iterator[tuple[Word, str, float]]:
        """Words that are part of something, with their likeliest label and the probability that they are."""
        marginal = self._tagger.marginal
        for position, word in enumerate(words):
            probability = 1 - marginal(OUTSIDE, position)
            if probability >= self._lowest and word.text != "\n":
                label = max(self._labels, key=lambda label, at=position: marginal(label, at))  # type: ignore[misc]
                if probability >= self._thresholds[label[2:]]:
                    yield word, label, min(probability, 1.0)

    def _again(self, words: Iterable[Word], found: list[Finding]) -> list[Finding]:
        """Also every other mention, by one name alone, of a person found with certainty."""
        known: dict[str, float] = {}
        outside: list[Word] = []
        position = 0
        for word in words:
            while position < len(found) and found[position].end <= word.start:
                position += 1
            if position == len(found) or word.start < found[position].start:
                outside.append(word)
            elif found[position].kind == "PERSON" and found[position].score >= SURE and self._is_a_name(word.text):
                known[word.text] = max(known.get(word.text, 0.0), found[position].score)
        again = [Finding("PERSON", word.start, word.end, known[word.text]) for word in outside if word.text in known]
        return sorted([*found, *again], key=lambda finding: finding.start) if again else found

    def _is_a_name(self, word: str) -> bool:
        """Rather than a title, an initial or a word of the language that happens to be one."""
        flags = self._lists.flags.get(word.lower(), "")
        return len(word) > 2 and word.isalpha() and word[0].isupper() and "C" not in flags


def _goes_on(text: str, last: Finding, kind: str, word: Word) -> bool:
    between = text[last.end : word.start]
    return last.kind == kind and between.strip() == "" and (kind == "STREET_ADDRESS" or "\n" not in between)


@dataclass(frozen=True, slots=True)
class Fit:
    """How the weights are estimated: crfsuite's L-BFGS."""

    c1: float = 0.05
    c2: float = 0.01
    iterations: int = 55
    least: int = 3
    """Features seen less often are left out."""

    def weights(self, sequences: Iterable[tuple[list[Features], list[str]]]) -> bytes:
        """Of (features, labels) by stretch. Deterministic for the same sequences in the same order."""
        trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
        trainer.set_params({
            "c1": self.c1, "c2": self.c2, "max_iterations": self.iterations, "feature.minfreq": self.least,
            "feature.possible_transitions": False,
        })  # fmt: skip
        for rows, labels in sequences:
            trainer.append(rows, labels)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            trainer.train(str(path))
            return path.read_bytes()
