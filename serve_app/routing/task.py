"""What a question wants done, read from the embedding that the classifier made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.router_settings import TASKS, Task
from serve_app.turn import Embedding

SHIPPED = Path(__file__).with_name("task.npz")
"""Made by `python -m serve_app.training.task`; `task.json` beside it says how good it is."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskReader:
    """A multinomial logistic regression."""

    weights: NDArray[np.float32]
    """Shape (tasks, dimension), rows in the order of TASKS."""
    biases: NDArray[np.float32]
    """Shape (tasks,)."""

    def task_of(self, embedding: Embedding) -> tuple[Task, float]:
        """The likeliest, and its probability."""
        logits = self.weights @ embedding + self.biases
        best = int(logits.argmax())
        return TASKS[best], float(1 / np.exp(logits - logits[best]).sum())

    @classmethod
    def load(cls, path: Path) -> "TaskReader":
        """Raises FileNotFoundError; ValueError for a file that was made for other tasks."""
        with np.load(path, allow_pickle=False) as file:
            tasks = tuple(str(file["tasks"]).split(","))
            if tasks != TASKS:
                raise ValueError(
                    f"task: {path} knows {', '.join(tasks)}, this version asks for {', '.join(TASKS)}; "
                    "make it anew with `python -m serve_app.training.task`"
                )
            return cls(file["weights"].astype(np.float32), file["biases"].astype(np.float32))

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {"weights": self.weights.astype(np.float16), "biases": self.biases}
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, tasks=np.array(",".join(TASKS)), **arrays)
