"""The classifier on a Triton server."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.adapters.triton_model import Tensors, TritonModel
from serve_app.errors import ClassifierUnavailable
from serve_app.turn import Scores, Signals

DIMENSION = 384
HEADS = (
    "prompt_injection",
    "jailbreak",
    "hate",
    "harassment",
    "self-harm",
    "violence",
    "illicit",
    "sexual",
    "difficulty",
)
"""Columns of SCORES."""
TENSORS: Tensors = {
    "TEXT": ("BYTES", (-1,)),
    "EMBEDDING": ("FP32", (-1, DIMENSION)),
    "SCORES": ("FP32", (-1, len(HEADS))),
    "SUSPICION": ("FP32", (-1,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """How much of a long batch goes out in one call: about 50 ms of work on two cores."""

    texts: int = 32
    chars: int = 2_400

    def cut(self, lengths: Sequence[int]) -> Iterable[slice]:
        """Consecutive slices over texts of these lengths; one text is never cut, however long."""
        start = chars = 0
        for position, length in enumerate(lengths):
            if position > start and (position - start == self.texts or chars + length > self.chars):
                yield slice(start, position)
                start, chars = position, 0
            chars += length
        if start < len(lengths):
            yield slice(start, len(lengths))


class TritonClassifier:
    """Port `Classifier`."""

    def __init__(self, url: str, model: str, deadline_s: float, batch: Slice | None = None) -> None:
        """`url` is host:port. `deadline_s` limits each call to the server; `encode` makes one call per `batch`."""
        self.batch = batch or Slice()
        self._model = TritonModel(url, model, deadline_s, TENSORS, ClassifierUnavailable)

    async def classify(self, text: str) -> Signals:
        arrays = await self._call((text,), ("EMBEDDING", "SCORES"))
        return Signals(embedding=arrays["EMBEDDING"][0], scores=_named(arrays["SCORES"][0]))

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        return tuple(map(_named, await self._sliced(texts, "SCORES")))

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        return tuple((await self._sliced(texts, "SUSPICION")).tolist())

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        """As the port says. The batch goes out in slices, one after the other: a question waits behind one of them."""
        return await self._sliced(texts, "EMBEDDING")

    async def aclose(self) -> None:
        """Close the channel; the next call opens another."""
        await self._model.aclose()

    async def _sliced(self, texts: tuple[str, ...], output: str) -> NDArray[np.float32]:
        """One row per text of an output."""
        rows = np.empty((len(texts), *TENSORS[output][1][1:]), dtype=np.float32)
        # Texts of like length share a slice: every text of a call is padded to its longest.
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
        for part in self.batch.cut([len(texts[position]) for position in order]):
            positions = order[part]
            arrays = await self._call(tuple(texts[position] for position in positions), (output,))
            rows[positions] = arrays[output]
        return rows

    async def _call(self, texts: tuple[str, ...], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        return await self._model.call({"TEXT": texts}, outputs, len(texts))


def _named(row: NDArray[np.float32]) -> Scores:
    return dict(zip(HEADS, row.tolist(), strict=True))
