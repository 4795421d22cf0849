"""The classifier on a Triton server, over one gRPC channel."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

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
TENSORS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "TEXT": ("BYTES", (-1,)),
    "EMBEDDING": ("FP32", (-1, DIMENSION)),
    "SCORES": ("FP32", (-1, len(HEADS))),
    "SUSPICION": ("FP32", (-1,)),
}
"""Data type and shape of each tensor the model must have, as `deployments/triton/` declares them."""

CHANNEL = (
    # As Triton's own: neither side limits a message below 2 GiB.
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # A server that comes back is found within a second; gRPC's default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Also the kernel's limit for unacknowledged bytes, which ends a connection to a machine that vanished.
    # No pings between calls: Triton hangs up on clients that ping an idle connection more than every 5 minutes.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # Two classifiers of one process must not share a connection through gRPC's global pool.
    ("grpc.use_local_subchannel_pool", 1),
)


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


class Tensor(Protocol):
    """As Triton describes one."""

    name: str
    datatype: str
    shape: Sequence[int]


class ModelMetadata(Protocol):
    """Triton's answer to what a model takes and gives."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


class TritonClassifier:
    """Port `Classifier`. Connects at first use, in the loop of that call, and again whenever the server is back."""

    def __init__(self, url: str, model: str, deadline_s: float, batch: Slice | None = None) -> None:
        """`url` is host:port. `deadline_s` limits each call to the server; `encode` makes one call per `batch`."""
        self.url = url
        self.model = model
        self.deadline_s = deadline_s
        self.batch = batch or Slice()
        self._client: InferenceServerClient | None = None
        self._fits = False
        """The model was seen to have the tensors asked for, and the server has not failed since."""

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
        client, self._client, self._fits = self._client, None, False
        if client is not None:
            await client.close()

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
        try:
            async with asyncio.timeout(self.deadline_s):
                arrays = await self._infer(texts, outputs)
        except TimeoutError as exc:
            self._fits = False
            raise self._failed(f"gave no answer within {self.deadline_s * 1000:.0f} ms") from exc
        except InferenceServerException as exc:
            self._fits = False
            # What follows the first line is the model's traceback.
            raise self._failed(f"failed: {exc.status()}: {exc.message().partition(chr(10))[0]}") from exc
        for name in outputs:
            expected = (len(texts), *TENSORS[name][1][1:])
            if arrays[name] is None or arrays[name].shape != expected:
                shape = None if arrays[name] is None else arrays[name].shape
                raise self._failed(f"returned {name} of shape {shape} for {len(texts)} texts, not {expected}")
        return arrays

    async def _infer(self, texts: tuple[str, ...], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        if self._client is None:
            self._client = InferenceServerClient(self.url, channel_args=CHANNEL)
        client = self._client
        if not self._fits:
            self._check(await client.get_model_metadata(self.model))
            self._fits = True
        given = InferInput("TEXT", [len(texts)], "BYTES")
        # Lone surrogates, which JSON may carry, have no UTF-8.
        given.set_data_from_numpy(np.array([text.encode("utf-8", "replace") for text in texts], dtype=np.object_))
        result = await client.infer(self.model, [given], outputs=[InferRequestedOutput(name) for name in outputs])
        return {name: result.as_numpy(name) for name in outputs}

    def _check(self, metadata: ModelMetadata) -> None:
        found = {
            tensor.name: (tensor.datatype, tuple(tensor.shape)) for tensor in (*metadata.inputs, *metadata.outputs)
        }
        differing = [
            f"{name} must be {_described(expected)}, is {_described(found.get(name))}"
            for name, expected in TENSORS.items()
            if found.get(name) != expected
        ]
        if differing:
            raise self._failed(f"does not fit: {'; '.join(differing)}. Serve the model in deployments/triton/")

    def _failed(self, what: str) -> ClassifierUnavailable:
        return ClassifierUnavailable(f"Triton model {self.model!r} at {self.url} {what}")


def _named(row: NDArray[np.float32]) -> Scores:
    return dict(zip(HEADS, row.tolist(), strict=True))


def _described(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return f"{tensor[0]} {list(tensor[1])}" if tensor else "missing"
