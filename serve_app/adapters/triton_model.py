"""One model on a Triton server, over one gRPC channel: texts in, arrays of float32 out."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from serve_app.errors import Unavailable

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Data type and shape of each tensor a model must have, as `deployments/triton/` declares them."""

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
    # Two clients of one process must not share a connection through gRPC's global pool.
    ("grpc.use_local_subchannel_pool", 1),
)


class Tensor(Protocol):
    """As Triton describes one."""

    name: str
    datatype: str
    shape: Sequence[int]


class ModelMetadata(Protocol):
    """Triton's answer to what a model takes and gives."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


class TritonModel:
    """Connects at first use, in the loop of that call, and again whenever the server is back."""

    def __init__(
        self, url: str, model: str, deadline_s: float, tensors: Tensors, failure: Callable[[str], Unavailable]
    ) -> None:
        """`url` is host:port. `deadline_s` limits each call; `failure` makes the error that all of them raise."""
        self.url = url
        self.model = model
        self.deadline_s = deadline_s
        self.tensors = tensors
        self.failure = failure
        self._client: InferenceServerClient | None = None
        self._fits = False
        """The model was seen to have the tensors asked for, and the server has not failed since."""

    async def call(
        self, given: Mapping[str, Sequence[str]], outputs: Sequence[str], rows: int
    ) -> dict[str, NDArray[np.float32]]:
        """The outputs by name, each seen to have one row for each of `rows` texts."""
        try:
            async with asyncio.timeout(self.deadline_s):
                arrays = await self._infer(given, outputs)
        except TimeoutError as exc:
            self._fits = False
            raise self.failed(f"gave no answer within {self.deadline_s * 1000:.0f} ms") from exc
        except InferenceServerException as exc:
            self._fits = False
            # What follows the first line is the model's traceback.
            raise self.failed(f"failed: {exc.status()}: {exc.message().partition(chr(10))[0]}") from exc
        for name in outputs:
            expected = (rows, *self.tensors[name][1][1:])
            if arrays[name] is None or arrays[name].shape != expected:
                shape = None if arrays[name] is None else arrays[name].shape
                raise self.failed(f"returned {name} of shape {shape} for {rows} texts, not {expected}")
        return arrays

    async def aclose(self) -> None:
        """Close the channel; the next call opens another."""
        client, self._client, self._fits = self._client, None, False
        if client is not None:
            await client.close()

    def failed(self, what: str) -> Unavailable:
        return self.failure(f"Triton model {self.model!r} at {self.url} {what}")

    async def _infer(
        self, given: Mapping[str, Sequence[str]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        if self._client is None:
            self._client = InferenceServerClient(self.url, channel_args=CHANNEL)
        client = self._client
        if not self._fits:
            self._check(await client.get_model_metadata(self.model))
            self._fits = True
        inputs = [_filled(name, texts) for name, texts in given.items()]
        result = await client.infer(self.model, inputs, outputs=[InferRequestedOutput(name) for name in outputs])
        return {name: result.as_numpy(name) for name in outputs}

    def _check(self, metadata: ModelMetadata) -> None:
        found = {
            tensor.name: (tensor.datatype, tuple(tensor.shape)) for tensor in (*metadata.inputs, *metadata.outputs)
        }
        differing = [
            f"{name} must be {_described(expected)}, is {_described(found.get(name))}"
            for name, expected in self.tensors.items()
            if found.get(name) != expected
        ]
        if differing:
            raise self.failed(f"does not fit: {'; '.join(differing)}. Serve the model in deployments/triton/")


def _filled(name: str, texts: Sequence[str]) -> InferInput:
    tensor = InferInput(name, [len(texts)], "BYTES")
    # Lone surrogates, which JSON may carry, have no UTF-8.
    tensor.set_data_from_numpy(np.array([text.encode("utf-8", "replace") for text in texts], dtype=np.object_))
    return tensor


def _described(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return f"{tensor[0]} {list(tensor[1])}" if tensor else "missing"
