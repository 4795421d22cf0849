"""What a question's task is read by: the file that comes with Manta."""

import json
import timeit
from pathlib import Path

import numpy as np
import pytest

from serve_app.adapters.encoder import Encoder, ensure
from serve_app.router_settings import TASKS
from serve_app.routing.task import SHIPPED, TaskReader
from serve_app.training.task import judged, learn, texts


def unit(seed: int) -> np.ndarray:
    row = np.random.default_rng(seed).normal(size=384).astype(np.float32)
    return row / np.linalg.norm(row)


def test_a_probability_comes_with_the_likeliest_task() -> None:
    reader = TaskReader.load(SHIPPED)
    for seed in range(20):
        task, probability = reader.task_of(unit(seed))
        assert task in TASKS
        assert 1 / len(TASKS) <= probability <= 1


def test_the_shipped_reader_is_as_good_as_its_description_says() -> None:
    read = Encoder(ensure(Path("var/encoder")), 1).encode
    held_out = texts("task_held_out")
    rows = np.concatenate([read([text]) for _, _, text in held_out])
    said = json.loads(SHIPPED.with_suffix(".json").read_text())["held_out"]
    found = judged(TaskReader.load(SHIPPED), rows, held_out)
    assert found["accuracy"] == pytest.approx(said["accuracy"], abs=0.02)
    assert found["accuracy_where_sure"] == pytest.approx(said["accuracy_where_sure"], abs=0.03)
    assert said["accuracy"] >= 0.8


def test_held_out_texts_were_not_learned_from() -> None:
    learned = {text.lower() for _, _, text in texts("task")}
    held_out = [text.lower() for _, _, text in texts("task_held_out")]
    assert not learned & set(held_out)
    assert {task for task, _, _ in texts("task_held_out")} == set(TASKS) == {task for task, _, _ in texts("task")}


def test_a_reader_learns_what_can_be_told_apart() -> None:
    written = [(task, f"{task} {n}", "") for task in TASKS for n in range(6)]
    rows = np.stack([np.eye(384, dtype=np.float32)[TASKS.index(task)] for task, _, _ in written])
    reader, accuracy = learn(rows, written)
    assert accuracy == 1
    assert [reader.task_of(row)[0] for row in rows] == [task for task, _, _ in written]


def test_a_file_of_other_tasks_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "task.npz"
    np.savez(path, tasks=np.array("cooking,chess"), weights=np.zeros((2, 384)), biases=np.zeros(2))
    with pytest.raises(ValueError, match="knows cooking, chess, .* `python -m serve_app.training.task`"):
        TaskReader.load(path)


def test_reading_a_task_costs_next_to_nothing() -> None:
    """0.004 ms here; 0.02 ms are allowed. The best of several, as other work may be under way."""
    reader, row = TaskReader.load(SHIPPED), unit(1)
    best_s = min(timeit.repeat(lambda: reader.task_of(row), number=200, repeat=10)) / 200
    assert best_s < 100e-6
