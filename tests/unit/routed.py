"""Registries for tests of routing: a test names the entries it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.rollout import Rollout
from serve_app.router_settings import RouterSettings, Task
from serve_app.routing.router import Router
from serve_app.turn import Caller, Embedding, Message, Signals, Turn


def entry(model: str = "chat", version: str = "1", weight: int = 100, **changes: Any) -> ModelEntry:
    given = {
        "environment": "production",
        "endpoint": f"serve://{model}-{version}",
        "engine": "vllm",
        "status": "enabled",
        "weight": weight,
        "screener_down": "pass",
    }
    return ModelEntry(model=model, version=version, **{**given, **changes})


def rollout(to_version: str = "2", before: Mapping[str, int] | None = None, **changes: Any) -> Rollout:
    given = {"id": "r1", "model": "chat", "environment": "production"}
    return Rollout(to_version=to_version, before=before or {"1": 100, "2": 0}, **{**given, **changes})


@dataclass
class FixedTask:
    task: Task = "question"
    probability: float = 0.9

    def task_of(self, embedding: Embedding) -> tuple[Task, float]:
        return self.task, self.probability


@dataclass
class FixedPace:
    by_key: dict[Key, float] = field(default_factory=dict)

    def p95_ms(self, key: Key) -> float | None:
        return self.by_key.get(key)


@dataclass
class Routing:
    """A router over a copy that the test changes."""

    snapshot: Snapshot
    router: Router

    @classmethod
    def over(cls, *entries: ModelEntry, rollouts: tuple[Rollout, ...] = (), **settings: Any) -> "Routing":
        pace, tasks = settings.pop("pace", None), settings.pop("tasks", FixedTask())
        chosen = RouterSettings.model_validate({"small": "small", "large": "large", **settings})
        made = cls(Snapshot(), Router(lambda: made.snapshot, "production", chosen, pace, tasks))
        made.becomes(*entries, rollouts=rollouts)
        return made

    def becomes(self, *entries: ModelEntry, rollouts: tuple[Rollout, ...] = ()) -> None:
        ordered = tuple(sorted(entries, key=lambda one: one.key))
        self.snapshot = Snapshot(revision=self.snapshot.revision + 1, entries=ordered, rollouts=rollouts)

    def version(self, turn: Turn) -> str:
        return self.router.route(turn, None).chosen.version

    def names(self, turn: Turn, difficulty: float | None = None) -> list[str]:
        return [one.name for one in self.router.route(turn, read(difficulty)).candidates]


def read(difficulty: float | None) -> Signals | None:
    return None if difficulty is None else Signals(np.zeros(384, np.float32), {"difficulty": difficulty})


def asking(text: str = "How do I roll back?", model: str = "chat", *, key: str = "k1", **changes: Any) -> Turn:
    """By the key `key` of acme; `answered`: pairs of question and answer that went before."""
    tenant, answered = changes.pop("tenant", "acme"), changes.pop("answered", ())
    said = [Message(role, words) for pair in answered for role, words in zip(("user", "assistant"), pair, strict=True)]
    given = {"id": "t1", "caller": Caller(tenant, key), "messages": (*said, Message("user", text))}
    return Turn(model=model, **{**given, **changes})
