"""The encoder and the heads in this process, behind the port `Classifier`."""

import asyncio
import os
import sys
import threading
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

Batches of different callers take turns after each slice; a chunk costs as much alone as among others.
"""
NICENESS = 10
"""Of the thread that works on batches: Linux gives a question nine tenths of a core that both want."""

Result = TypeVar("Result")


class Encodes(Protocol):
    """What the classifier needs of an encoder."""

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def states(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def read(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


class EmbeddedClassifier:
    """Questions are answered in one thread, and batches in slices in another, which steps back where cores are few.

    A text alone is a question, too: it is what a search encodes.
    """

    def __init__(self, encoder: Encodes, heads: Heads, inspector: Inspector) -> None:
        self._encoder = encoder
        self._heads = heads
        self._inspector = inspector
        # Not the loop's default executor: whatever else blocks there must not delay a question.
        self._questions = ThreadPoolExecutor(max_workers=1, thread_name_prefix="questions")
        self._batches = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches", initializer=_step_back)

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
        return await self._run(self._questions, lambda: self._signals(text))

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        if len(texts) == 1:
            return await self._run(self._questions, _call(self._encoder.encode, texts))
        rows = [np.zeros((0, self._encoder.dimension), dtype=np.float32)]
        for part in _slices(texts):
            rows.append(await self._run(self._batches, _call(self._encoder.encode, part)))
        return np.concatenate(rows)

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        found: dict[int, Scores] = {}
        # Texts of like length share a slice: every text of a call is padded to its longest.
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
        for start in range(0, len(order), SLICE):
            positions = order[start : start + SLICE]
            part = tuple(texts[position] for position in positions)
            work = _call(lambda part: self._heads.read(part, self._encoder.states), part)
            scores = await self._run(self._batches, work)
            found.update(zip(positions, scores, strict=True))
        return tuple(found[position] for position in range(len(texts)))

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        found: list[float] = []
        for part in _slices(texts):
            work = _call(lambda part: self._inspector.read(part, self._encoder.encode), part)
            rows = await self._run(self._batches, work)
            found += rows.tolist()
        return tuple(found)

    def close(self) -> None:
        """Waits for what is under way; later calls raise ClassifierUnavailable."""
        for thread in (self._questions, self._batches):
            thread.shutdown(cancel_futures=True)

    def _signals(self, text: str) -> Signals:
        embeddings, states = self._encoder.read((text,))
        (scores,) = self._heads.read((text,), self._encoder.states, states)
        return Signals(embeddings[0], scores)

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        # RuntimeError: the executor is closed. The encoder's own failures are ClassifierUnavailable already.
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ClassifierUnavailable(f"the embedded classifier failed: {error}") from error


def _step_back() -> None:
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


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
