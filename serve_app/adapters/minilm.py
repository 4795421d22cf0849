"""The graph of all-MiniLM-L6-v2 in ONNX, and of a branch of it, written straight from the weights.

torch.onnx would do the same with torch, transformers, onnx and onnxscript installed, in seconds and 700 MiB;
a BERT of six layers is ten operators, and ONNX is a protobuf of which this needs five messages.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
Operators in the domain `com.microsoft`: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYERS = 6
HEADS = 12
WIDTH = 384
SHARED = 4
"""Layers below this one serve both the embedding and the branch."""
EPSILON = 1e-12
OPSETS = (("", 20), ("com.microsoft", 1))
IR_VERSION = 9

Weights = Mapping[str, NDArray[np.float32]]

FLOAT, INT32, INT64 = 1, 6, 7
"""ONNX's numbers of its element types."""
ELEMENT_TYPES = {"float32": FLOAT, "int64": INT64}
TOKENS = ("batch", "length")


def trunk(weights: Weights) -> bytes:
    """A ModelProto, serialised: int64 `input_ids`, `attention_mask` (batch, length) to `shared` (batch, length, 384).

    The layers below SHARED.
    """
    graph = _Graph()
    graph.given("input_ids", INT64, TOKENS)
    graph.given("attention_mask", INT64, TOKENS)
    state = _layers(graph, weights, range(SHARED), _embeddings(graph, weights))
    graph.node("Identity", [state], "shared")
    graph.made("shared", (*TOKENS, WIDTH))
    return graph.model()


def top(weights: Weights) -> bytes:
    """`shared` and `attention_mask` to `embedding` (batch, 384): mean pooling over the mask, L2-normalised."""
    graph = _upper()
    _pool(graph, _layers(graph, weights, range(SHARED, LAYERS), "shared"))
    graph.made("embedding", ("batch", WIDTH))
    return graph.model()


def branch(weights: Weights) -> bytes:
    """`shared` and `attention_mask` to `state` (batch, 2 * 384): the mean and the maximum over the mask.

    `weights` are those of the layers from SHARED on, trained for another end.
    """
    graph = _upper()
    _pool_both(graph, _layers(graph, weights, range(SHARED, LAYERS), "shared"))
    graph.made("state", ("batch", 2 * WIDTH))
    return graph.model()


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every float32 tensor of a safetensors file: 8 bytes of header length, a JSON header, raw little-endian data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(content[start:end], dtype="<f4").reshape(entry["shape"])
    return tensors


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._ends: list[bytes] = []

    def given(self, name: str, element: int, shape: Sequence[str | int]) -> None:
        self._ends.append(_bytes(11, _value(name, element, shape)))

    def made(self, name: str, shape: Sequence[str | int]) -> None:
        self._ends.append(_bytes(12, _value(name, FLOAT, shape)))

    def node(
        self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: int | float
    ) -> str:
        parts = [_bytes(1, name.encode()) for name in inputs]
        parts += [_bytes(2, output.encode()), _bytes(3, output.encode()), _bytes(4, operator.encode())]
        parts += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
        self._nodes.append(b"".join([*parts, _bytes(7, domain.encode())]))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        dimensions = b"".join(_varint(1, size) for size in values.shape)
        kind = _varint(2, ELEMENT_TYPES[values.dtype.name])
        self._constants.append(
            dimensions + kind + _bytes(8, name.encode()) + _bytes(9, np.ascontiguousarray(values).tobytes())
        )
        return name

    def model(self) -> bytes:
        nodes = [_bytes(1, node) for node in self._nodes]
        constants = [_bytes(5, constant) for constant in self._constants]
        graph = b"".join([*nodes, _bytes(2, b"minilm"), *constants, *self._ends])
        opsets = b"".join(_bytes(8, _bytes(1, domain.encode()) + _varint(2, version)) for domain, version in OPSETS)
        return _varint(1, IR_VERSION) + _bytes(2, b"manta") + _bytes(7, graph) + opsets


def _embeddings(graph: _Graph, weights: Weights) -> str:
    # Every token is of type 0: its row is added to the positions once, here.
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    graph.constant("words", weights["embeddings.word_embeddings.weight"])
    graph.constant("places", places)
    _numbers(graph, zero=0, one=1, two=2)
    graph.node("Gather", ["words", "input_ids"], "word_rows")
    graph.node("Shape", ["input_ids"], "shape")
    graph.node("Slice", ["shape", "one", "two"], "length")
    graph.node("Slice", ["places", "zero", "length", "zero"], "place_rows")
    graph.node("Add", ["word_rows", "place_rows"], "embedded")
    return _normalised(graph, weights, "embeddings.LayerNorm", "embedded")


def _upper() -> _Graph:
    graph = _Graph()
    graph.given("shared", FLOAT, (*TOKENS, WIDTH))
    graph.given("attention_mask", INT64, TOKENS)
    _numbers(graph, one=1, last=-1)
    return graph


def _layers(graph: _Graph, weights: Weights, layers: range, state: str) -> str:
    graph.node("Cast", ["attention_mask"], "mask_int32", to=INT32)
    for layer in layers:
        state = _layer(graph, weights, f"encoder.layer.{layer}", state)
    return state


def _layer(graph: _Graph, weights: Weights, name: str, state: str) -> str:
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    graph.constant(f"{name}.qkv", np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1))
    graph.constant(f"{name}.qkv_bias", np.concatenate([weights[f"{part}.bias"] for part in parts]))
    inputs = [state, f"{name}.qkv", f"{name}.qkv_bias", "mask_int32"]
    attended = graph.node("Attention", inputs, f"{name}.attended", domain="com.microsoft", num_heads=HEADS)
    mixed = _linear(graph, weights, f"{name}.attention.output.dense", attended)
    added = graph.node("Add", [mixed, state], f"{name}.added")
    middle = _normalised(graph, weights, f"{name}.attention.output.LayerNorm", added)
    wide = _linear(graph, weights, f"{name}.intermediate.dense", middle)
    active = graph.node("Gelu", [wide], f"{name}.active")
    narrow = _linear(graph, weights, f"{name}.output.dense", active)
    summed = graph.node("Add", [narrow, middle], f"{name}.summed")
    return _normalised(graph, weights, f"{name}.output.LayerNorm", summed)


def _linear(graph: _Graph, weights: Weights, name: str, state: str) -> str:
    graph.constant(f"{name}.weight", weights[f"{name}.weight"].T)
    graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    graph.node("MatMul", [state, f"{name}.weight"], f"{name}.product")
    return graph.node("Add", [f"{name}.product", f"{name}.bias"], name)


def _normalised(graph: _Graph, weights: Weights, name: str, state: str) -> str:
    for part in ("weight", "bias"):
        graph.constant(f"{name}.{part}", weights[f"{name}.{part}"])
    return graph.node("LayerNormalization", [state, f"{name}.weight", f"{name}.bias"], name, epsilon=EPSILON, axis=-1)


def _numbers(graph: _Graph, **values: int) -> None:
    for name, value in values.items():
        graph.constant(name, np.array([value], dtype=np.int64))


def _sum(graph: _Graph, state: str) -> None:
    graph.node("Cast", ["attention_mask"], "mask_float", to=FLOAT)
    graph.node("Unsqueeze", ["mask_float", "last"], "mask")
    graph.node("Mul", [state, "mask"], "kept")
    graph.node("ReduceSum", ["kept", "one"], "sum", keepdims=0)


def _pool_both(graph: _Graph, state: str) -> None:
    _sum(graph, state)
    graph.node("ReduceSum", ["mask", "one"], "count", keepdims=0)
    graph.node("Div", ["sum", "count"], "mean")
    # What is not kept lies far below every value that a normalised layer gives.
    graph.constant("far", np.array([1e4], dtype=np.float32))
    graph.node("Mul", ["mask", "far"], "raised")
    graph.node("Sub", ["raised", "far"], "lowered")
    graph.node("Add", [state, "lowered"], "masked")
    graph.node("ReduceMax", ["masked", "one"], "highest", keepdims=0)
    graph.node("Concat", ["mean", "highest"], "state", axis=1)


def _pool(graph: _Graph, state: str) -> None:
    _sum(graph, state)
    # The mean's divisor cancels in the normalisation.
    graph.node("ReduceL2", ["sum", "last"], "norm", keepdims=1)
    graph.node("Div", ["sum", "norm"], "embedding")


def _attribute(name: str, value: int | float) -> bytes:
    if isinstance(value, float):
        return _bytes(1, name.encode()) + b"\x15" + struct.pack("<f", value) + _varint(20, 1)
    return _bytes(1, name.encode()) + _varint(3, value) + _varint(20, 2)


def _value(name: str, element: int, shape: Sequence[str | int]) -> bytes:
    sizes = [_bytes(2, size.encode()) if isinstance(size, str) else _varint(1, size) for size in shape]
    tensor = _varint(1, element) + _bytes(2, b"".join(_bytes(1, size) for size in sizes))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _bytes(field: int, content: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(content)) + content


def _varint(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value & 0xFFFF_FFFF_FFFF_FFFF)


def _number(value: int) -> bytes:
    """Base 128, least significant first, the high bit saying that more follows."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
