"""What Triton's reranker computes, and which exports it refuses; no Triton is needed for it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deployments.triton.cross_encoder import BATCH, Cancelled, CrossEncoder
from serve_app.adapters.encoder import ensure
from tests import cross_encoder

ROOT = Path(__file__).parents[2]
QUESTION = "How do I roll back a model?"
LONG = "The head node runs the dashboard and the workers run the replicas. " * 60


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    cross_encoder.make(folder)
    return folder


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "copied")


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_batch_is_read_as_its_passages_alone(checkpoint: Path) -> None:
    reader = CrossEncoder(checkpoint, 1)
    texts = ["word " * (number * 7 % 50) for number in range(40)]
    alone = [reader.read(QUESTION, [text])[0] for text in texts]
    assert reader.read(QUESTION, texts) == pytest.approx(alone, abs=1e-5)
    assert np.ptp(alone) > 0.1


def test_no_passages_have_no_scores(checkpoint: Path) -> None:
    assert CrossEncoder(checkpoint, 1).read(QUESTION, []).shape == (0,)


@pytest.mark.parametrize("answers", [[True], [False, True]], ids=["waiting", "begun"])
def test_a_call_that_nobody_waits_for_is_left(checkpoint: Path, answers: list[bool]) -> None:
    told = iter(answers)
    with pytest.raises(Cancelled):
        CrossEncoder(checkpoint, 1).read(QUESTION, ["word"] * (BATCH * 3), lambda: next(told))
    assert list(told) == []


def test_the_graph_may_stand_in_a_folder_of_its_own(checkpoint: Path, copied: Path) -> None:
    (copied / "onnx").mkdir()
    (copied / "model.onnx").rename(copied / "onnx" / "model.onnx")
    expected = CrossEncoder(checkpoint, 1).read(QUESTION, [LONG])
    assert CrossEncoder(copied, 1).read(QUESTION, [LONG]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 32},
        {"max_position_embeddings": 33, "model_type": "xlm-roberta", "pad_token_id": 0},
    ],
    ids=["bert", "roberta"],
)
def test_no_more_is_read_than_the_model_has_positions_for(
    checkpoint: Path, copied: Path, config: dict[str, object]
) -> None:
    change(copied / "tokenizer_config.json", model_max_length=32)
    short = CrossEncoder(copied, 1).read(QUESTION, [LONG])
    change(copied / "tokenizer_config.json", model_max_length=10**30)
    change(copied / "config.json", **config)
    assert CrossEncoder(copied, 1).read(QUESTION, [LONG]) == pytest.approx(short)
    assert CrossEncoder(checkpoint, 1).read(QUESTION, [LONG]) != pytest.approx(short, abs=1e-4)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"reranker: .*{name} is missing; export a cross-encoder"):
        CrossEncoder(copied, 1)


def test_a_classifier_with_two_labels_is_no_reranker(tmp_path: Path) -> None:
    cross_encoder.make(tmp_path, labels=2)
    with pytest.raises(ValueError, match=r"gives \(1, 2\) for one pair"):
        CrossEncoder(tmp_path, 1)


@pytest.mark.parametrize(
    ("graph", "complaint"),
    [
        ("top.onnx", "takes attention_mask, shared; export it for"),
        ("trunk.onnx", r"gives \(1, \d+, 384\) for one pair"),
    ],
)
def test_an_encoder_is_no_reranker(copied: Path, graph: str, complaint: str) -> None:
    shutil.copy(ensure(ROOT / "var" / "encoder") / graph, copied / "model.onnx")
    with pytest.raises(ValueError, match=complaint):
        CrossEncoder(copied, 1)
