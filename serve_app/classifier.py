"""The encoder and the heads in this process, behind the port `Classifier`."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from serve_app import indirect
from serve_app.errors import ClassifierUnavailable
from serve_app.heads import SHIPPED, Heads
from serve_app.indirect import Inspector
from serve_app.turn import Scores, Signals

SLICE = 8
SLICE_CHARS = 900
"""Most texts of one encoder call, and their characters where they are several: one chunk, or some sentences.

A question waits for one slice of somebody's ingestion at most, 11 ms on 2 cores: a chunk costs as much alone as among
others.
"""

Result = TypeVar("Result")


class Encodes(Protocol):
    """What the classifier needs of an encoder."""

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def states(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def read(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


class EmbeddedClassifier:
    """All work happens in one thread of its own. Questions go first; everything else comes in slices, one at a time.

    A text alone is a question, too: it is what a search encodes.
    """

    def __init__(self, encoder: Encodes, heads: Heads, inspector: Inspector) -> None:
        self._encoder = encoder
        self._heads = heads
        self._inspector = inspector
        # Not the loop's default executor: whatever else blocks there must not delay a question.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="classifier")
        # Of all batches one slice at a time is given to the thread, so that whatever question comes meanwhile is next.
        self._batches = asyncio.Lock()

    @classmethod
    def load(cls, encoder_root: Path, threads: int, heads: Path = SHIPPED) -> Self:
        """Exports the encoder below `encoder_root` where missing. Raises OSError or ValueError for broken files."""
        # Here, so that a process with the Triton backend does not load ONNX Runtime.
        from serve_app.adapters.encoder import Encoder, ensure

        loaded = Heads.load(heads)
        encoder = Encoder(ensure(encoder_root), threads, loaded.branch)
        return cls(encoder, loaded, Inspector.load(indirect.SHIPPED))

    @property
    def heads(self) -> Heads:
        return self._heads

    async def classify(self, text: str) -> Signals:
        return await self._run(lambda: self._signals(text))

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        if len(texts) == 1:
            return await self._run(_call(self._encoder.encode, texts))
        rows = [np.zeros((0, self._encoder.dimension), dtype=np.float32)]
        for part in _slices(texts):
            rows.append(await self._run_slice(_call(self._encoder.encode, part)))
        return np.concatenate(rows)

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        found: dict[int, Scores] = {}
        # Texts of like length share a slice: every text of a call is padded to its longest.
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
        for start in range(0, len(order), SLICE):
            positions = order[start : start + SLICE]
            part = tuple(texts[position] for position in positions)
            scores = await self._run_slice(_call(lambda part: self._heads.read(part, self._encoder.states), part))
            found.update(zip(positions, scores, strict=True))
        return tuple(found[position] for position in range(len(texts)))

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        found: list[float] = []
        for part in _slices(texts):
            rows = await self._run_slice(_call(lambda part: self._inspector.read(part, self._encoder.encode), part))
            found += rows.tolist()
        return tuple(found)

    def close(self) -> None:
        """Waits for the slice under way; later calls raise ClassifierUnavailable."""
        self._thread.shutdown(cancel_futures=True)

    def _signals(self, text: str) -> Signals:
        embeddings, states = self._encoder.read((text,))
        (scores,) = self._heads.read((text,), self._encoder.states, states)
        return Signals(embeddings[0], scores)

    async def _run_slice(self, work: Callable[[], Result]) -> Result:
        async with self._batches:
            return await self._run(work)

    async def _run(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        # RuntimeError: the executor is closed. The encoder's own failures are ClassifierUnavailable already.
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ClassifierUnavailable(f"the embedded classifier failed: {error}") from error


def _slices(texts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    part: tuple[str, ...] = ()
    for text in texts:
        if part and (len(part) == SLICE or sum(map(len, part)) + len(text) > SLICE_CHARS):
            yield part
            part = ()
        part = (*part, text)
    if part:
        yield part


def _call(encode: Callable[[tuple[str, ...]], Result], texts: tuple[str, ...]) -> Callable[[], Result]:
    return lambda: encode(texts)
