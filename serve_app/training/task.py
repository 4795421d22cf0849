"""Trains what a question's task is read by: `python -m serve_app.training.task`, half a minute.

The texts are this project's own, in English and German: task.txt to learn from, task_held_out.txt, written apart from
it, to judge by.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from serve_app.adapters.encoder import Encoder, ensure
from serve_app.router_settings import TASKS, RouterSettings
from serve_app.routing.task import SHIPPED, TaskReader
from serve_app.training.examples import templates

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse regularisation, tried in cross-validation whose folds part templates."""
Texts = Sequence[tuple[str, str, str]]
"""(task, template, text)."""


def texts(name: str, marked: str = "") -> Texts:
    """Of the file `name`.txt; `marked`: what stands behind the task's name."""
    written = [(*family.partition(" "), template, made) for family, template, made in templates(name)]
    return [(task, line, text) for task, _, mark, line, made in written if marked in mark for text in made]


def learn(rows: NDArray[np.float32], written: Texts, strength: float | None = None) -> tuple[TaskReader, float]:
    """The reader, and the accuracy of its strength in cross-validation."""
    labels = np.array([TASKS.index(task) for task, _, _ in written])
    groups = [template for _, template, _ in written]
    # A template counts once, however many sentences were made of it.
    weights = np.array([1 / groups.count(group) for group in groups])

    def accuracy(strength: float) -> float:
        folds, fit = GroupKFold(5), {"sample_weight": weights * len(weights) / weights.sum()}
        seen = cross_val_predict(_model(strength), rows, labels, groups=groups, cv=folds, params=fit)
        return float(np.average(seen == labels, weights=weights))

    found = {strength: accuracy(strength) for strength in STRENGTHS}
    best = max(found, key=lambda one: found[one])
    model = _model(best).fit(rows, labels, sample_weight=weights * len(weights) / weights.sum())
    return TaskReader(model.coef_.astype(np.float32), model.intercept_.astype(np.float32)), found[best]


def judged(reader: TaskReader, rows: NDArray[np.float32], written: Texts) -> dict[str, Any]:
    sure = RouterSettings.model_fields["task_threshold"].default
    seen = [reader.task_of(row) for row in rows]
    right = [task == want for (task, _), (want, _, _) in zip(seen, written, strict=True)]
    is_sure = [probability >= sure for _, probability in seen]
    by_task = {task: [r for r, (want, _, _) in zip(right, written, strict=True) if want == task] for task in TASKS}
    return {
        "texts": len(written),
        "accuracy": round(float(np.mean(right)), 3),
        "sure": round(float(np.mean(is_sure)), 3),
        "accuracy_where_sure": round(float(np.mean([r for r, s in zip(right, is_sure, strict=True) if s])), 3),
        "recall": {task: round(float(np.mean(found)), 3) for task, found in by_task.items()},
    }


def main(output: Path = SHIPPED, encoder: Path = Path("var/encoder"), threads: int = 1) -> None:
    read = Encoder(ensure(encoder), threads).encode
    written, held_out = texts("task"), texts("task_held_out")
    reader, accuracy = learn(_rows(read, written), written)
    reader.save(output)
    reader = TaskReader.load(output)
    german = texts("task_held_out", "in German")
    description = {
        "trained_on": {"texts": len(written), "templates": len({template for _, template, _ in written})},
        "cross_validated": round(accuracy, 3),
        "held_out": judged(reader, _rows(read, held_out), held_out),
        "held_out_german": judged(reader, _rows(read, german), german),
        "limits": "Held out texts were written apart from the others, but by the same people; the encoder is English.",
    }
    output.with_suffix(".json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    typer.echo(json.dumps(description, indent=2))


def _model(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1000)


def _rows(read: Any, written: Texts) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.concatenate([read([text]) for _, _, text in written])
    return rows


if __name__ == "__main__":
    typer.run(main)
