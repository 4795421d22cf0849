"""A cross-encoder exported to ONNX: a question and passages in, a probability for each passage out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

BATCH = 8
"""Pairs in one run of the graph: bounds the memory, the padding, and the work for a caller that has gone."""
MAX_CHARS = 16_384
"""Cut before tokenising, as the encoder does: no cross-encoder reads so much, and tokenising it costs."""

DEFAULT_TOKENS = 512
"""Of a model that does not say how much it reads."""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class CrossEncoder:
    """Reads pairs. Longer ones than `max_tokens` are cut, the end of the longer text first, as vLLM does."""

    def __init__(self, path: Path, threads: int) -> None:
        """`path` holds `tokenizer.json`, `config.json`, and `model.onnx` or `onnx/model.onnx`: what Hugging Face's own
        exports look like. The graph takes `input_ids`, `attention_mask`, perhaps `token_type_ids` (batch, length), and
        gives one logit for each pair. FileNotFoundError and ValueError name what is not so.
        """
        self._session = onnxruntime.InferenceSession(str(_graph(path)), _options(threads), ["CPUExecutionProvider"])
        self._names = {given.name for given in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._names <= {"input_ids", "attention_mask", "token_type_ids"}:
            raise ValueError(
                f"reranker: {_graph(path)} takes {', '.join(sorted(self._names))}; export it for text classification"
            )
        config = json.loads(_present(path / "config.json").read_text())
        self._padding = int(config.get("pad_token_id") or 0)
        self._tokenizer = Tokenizer.from_file(str(_present(path / "tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_max_tokens(path, config), strategy="longest_first")
        if (width := self._logits([self._tokenizer.encode("", "")]).shape) != (1, 1):
            raise ValueError(f"reranker: {_graph(path)} gives {width} for one pair, not one logit; it is no reranker")

    def read(
        self, question: str, passages: Sequence[str], is_cancelled: Callable[[], bool] = lambda: False
    ) -> NDArray[np.float32]:
        """Shape (len(passages),): the logistic function of each logit. Raises Cancelled between two batches."""
        asked = self._cut(question[:MAX_CHARS])
        logits = np.zeros(len(passages), dtype=np.float32)
        # Passages of like length share a batch: each is padded to its longest.
        order = sorted(range(len(passages)), key=lambda position: len(passages[position]))
        for start in range(0, len(order), BATCH):
            if is_cancelled():
                raise Cancelled
            positions = order[start : start + BATCH]
            pairs = [self._tokenizer.encode(asked, passages[at][:MAX_CHARS]) for at in positions]
            logits[positions] = self._logits(pairs)[:, 0]
        # As `exp` overflows for a large one and `tanh` does not.
        return np.asarray((1 + np.tanh(logits / 2)) / 2, dtype=np.float32)

    def _cut(self, text: str) -> str:
        """As much as could be read of it alone. The tokenizer keeps what it cuts off a pair, every part of the one text
        with every part of the other: 65 ms where both are of 4,000 characters, and 2 where one is short."""
        ends = [end for _, end in self._tokenizer.encode(text).offsets]
        return text[: max(ends)]

    def _logits(self, pairs: Sequence[Encoding]) -> NDArray[np.float32]:
        width = max(len(pair) for pair in pairs)
        given: Mapping[str, NDArray[np.int64]] = {
            "input_ids": np.full((len(pairs), width), self._padding, dtype=np.int64),
            "attention_mask": np.zeros((len(pairs), width), dtype=np.int64),
            "token_type_ids": np.zeros((len(pairs), width), dtype=np.int64),
        }
        for row, pair in enumerate(pairs):
            given["input_ids"][row, : len(pair)] = pair.ids
            given["attention_mask"][row, : len(pair)] = 1
            given["token_type_ids"][row, : len(pair)] = pair.type_ids
        wanted = {name: given[name] for name in self._names}
        return np.asarray(self._session.run(None, wanted)[0], dtype=np.float32)


def _graph(path: Path) -> Path:
    nested = path / "onnx" / "model.onnx"
    return nested if nested.is_file() else _present(path / "model.onnx")


def _present(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"reranker: {file} is missing; export a cross-encoder to ONNX into {file.parent}")
    return file


def _max_tokens(path: Path, config: Mapping[str, Any]) -> int:
    """The lesser of what the tokenizer's settings say the model reads and of what its positions allow."""
    file = path / "tokenizer_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    # A tokenizer without a limit says 10 ** 30.
    limit = min(int(settings.get("model_max_length") or DEFAULT_TOKENS), DEFAULT_TOKENS * 64)
    positions = int(config.get("max_position_embeddings") or limit)
    if "roberta" in config.get("model_type", ""):
        positions -= int(config.get("pad_token_id") or 0) + 1  # Its positions begin behind the padding's own.
    return min(limit, positions)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would burn the cores that the classifier waits for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
