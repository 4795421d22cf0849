"""What a routing decision costs, and how exactly weights are kept: `python -m benchmarks.routing`, some minutes.

The router is the product's own, with its rules, its limits and its task reader; nobody is called. Replicas are routers
that know nothing of each other, among which requests fall at random. Results: results/routing.{json,md,png}
"""

import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overhead import machine
from benchmarks.routing_report import write
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.router_settings import RouterSettings
from serve_app.routing.pace import Pace
from serve_app.routing.router import Router
from serve_app.routing.table import RoutingTable
from serve_app.turn import Caller, Ceilings, Message, Signals, Turn

RESULTS = Path(__file__).parent / "results" / "routing.json"
REQUESTS = 10_000
RUNS = 8
"""Each with other names."""
TIMED = 5_000
MODELS = 50
SPLITS: tuple[Mapping[str, int], ...] = ({"1": 95, "2": 5}, {"1": 50, "2": 50}, {"1": 60, "2": 35, "3": 5})
STEPS = (0, 5, 25, 50, 100)
QUESTION = "How do I roll back a model to the version before it, when the release has failed its checks?"


def main() -> None:
    report: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()[0], "runs": RUNS}
    report["cost"] = cost()
    report["exactness"] = [row for split in SPLITS for row in exactness(split)]
    report["moved"] = moved()
    report["jumped"] = {name: jumped(turns) for name, turns in KEPT.items()}
    report["shares"] = shares_over_time()
    report["load_after"] = os.getloadavg()[0]
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    write(RESULTS)


def entry(model: str, version: str, weight: int, context_tokens: int = 8_192) -> ModelEntry:
    return ModelEntry(
        model=model,
        version=version,
        environment="production",
        endpoint=f"serve://{model}-{version}",
        engine="vllm",
        status="enabled",
        weight=weight,
        context_tokens=context_tokens,
        capabilities=frozenset({"tools", "json"}),
        prompt_price=1.0,
        output_price=4.0,
    )


def router(snapshot: Callable[[], Snapshot], **settings: Any) -> Router:
    chosen = RouterSettings.model_validate({"small": "chat", "large": "chat", **settings})
    return Router(snapshot, "production", chosen, Pace())


def asking(model: str = "chat", text: str = QUESTION, said: Sequence[Message] = (), **changes: Any) -> Turn:
    messages = (*said, Message("user", text))
    return Turn(**{"id": "t", "caller": Caller("acme", "k1"), "model": model, "messages": messages, **changes})


def cost() -> dict[str, Any]:
    """Of one decision among 50 models of three versions, with ten rules, of which none but the last fits."""
    entries = [entry(f"m{n}", str(v), w) for n in range(MODELS) for v, w in ((1, 60), (2, 35), (3, 5))]
    rules = [{"name": f"rule {n}", "tenants": [f"tenant {n}"], "tasks": ["code"], "models": ["m3"]} for n in range(9)]
    rules.append({"name": "all", "max_cost": 1.0, "max_first_token_ms": 60_000})
    snapshot = Snapshot(revision=1, entries=tuple(entries))
    routed = router(lambda: snapshot, small="m1", large="m2", rules=rules, fallbacks={"m1": ["m4"], "m7": ["m8"]})
    row = np.random.default_rng(0).normal(size=384).astype(np.float32)
    signals = Signals(row / np.linalg.norm(row), {"difficulty": 0.4})
    history = [Message("user", QUESTION), Message("assistant", QUESTION * 5)] * 3
    cases = {
        "named, by turn": asking("m7"),
        "named, by session": asking("m7", session="s1"),
        "auto, by turn": asking("auto"),
        "auto, by session": asking("auto", session="s1"),
        "auto, by conversation": asking("auto", said=history),
        "auto, ceilings": asking("auto", session="s1", ceilings=Ceilings(max_cost=0.5, max_first_token_ms=900)),
        "auto, prompt of 10,000 characters": asking("auto", text=QUESTION * 109),
    }
    found = {name: timed(lambda turn=turn: routed.route(turn, signals)) for name, turn in cases.items()}
    found["task alone"] = timed(lambda: routed.tasks.task_of(signals.embedding))
    found["table of a new revision"] = timed(lambda: RoutingTable.of(snapshot, "production"), 300)
    return found


def timed(decide: Callable[[], Any], count: int = TIMED) -> dict[str, float]:
    """Milliseconds. CPU is the process's, so what others do on the machine is not in it."""
    for _ in range(200):
        decide()
    spent, cpu = [], time.process_time()
    for _ in range(count):
        begun = time.perf_counter()
        decide()
        spent.append((time.perf_counter() - begun) * 1000)
    cpu = time.process_time() - cpu
    spent.sort()
    figures = {"p50": statistics.median(spent), "p99": spent[int(count * 0.99)], "cpu": cpu * 1000 / count}
    return {name: round(value, 4) for name, value in figures.items()}


def nobody(run: int) -> Iterator[Turn]:
    return (asking() for _ in range(REQUESTS))


def users(run: int) -> Iterator[Turn]:
    return (asking(parameters={"user": f"user {run}/{n}"}) for n in range(REQUESTS))


def sessions(run: int) -> Iterator[Turn]:
    return (asking(session=f"{run}/{n}") for n in range(REQUESTS))


def long_sessions(run: int) -> Iterator[Turn]:
    """Of five questions each, a hundred of them under way at once."""
    return (asking(session=f"{run}/{n // 500 * 100 + n % 100}") for n in range(REQUESTS))


def conversations(run: int) -> Iterator[Turn]:
    """Without a name, of five questions each."""
    for n in range(REQUESTS // 5):
        said: list[Message] = []
        for question in range(5):
            text = f"{run}/{n}/{question}"
            yield asking(text=text, said=tuple(said))
            said += [Message("user", text), Message("assistant", "So.")]


def mixed(run: int) -> Iterator[Turn]:
    """A third nobody in particular, a third sessions of five questions, a third users with one."""
    thirds = (nobody(run), long_sessions(run), users(run))
    return (next(thirds[n % 3]) for n in range(REQUESTS))


MODES = {
    "nobody in particular": nobody,
    "10,000 users": users,
    "10,000 sessions": sessions,
    "2,000 sessions of 5": long_sessions,
    "2,000 conversations of 5, no name": conversations,
    "a third each of nobody, sessions, users": mixed,
}


def exactness(split: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    snapshot = Snapshot(revision=1, entries=tuple(entry("chat", v, weight) for v, weight in split.items()))
    for mode, turns in MODES.items():
        for replicas in (1, 3):
            off = sorted(_off(split, turns(run), snapshot, replicas, run) for run in range(RUNS))
            within = sum(one <= 0.01 for one in off) / RUNS
            yield {
                "split": "/".join(map(str, split.values())),
                "mode": mode,
                "replicas": replicas,
                "median": round(statistics.median(off), 5),
                "worst": round(off[-1], 5),
                "within_1_percent": within,
            }


def _off(split: Mapping[str, int], turns: Iterator[Turn], snapshot: Snapshot, replicas: int, run: int) -> float:
    """The share of the version that is furthest from its weight, less it."""
    routers = [router(lambda: snapshot) for _ in range(replicas)]
    lots = random.Random(run)
    seen = Counter(lots.choice(routers).route(turn, None).chosen.version for turn in turns)
    return max(abs(seen[version] / REQUESTS - weight / sum(split.values())) for version, weight in split.items())


KEPT = {"a session": long_sessions, "nothing but how they began": conversations}


def jumped(turns: Callable[[int], Iterator[Turn]]) -> dict[str, float]:
    """Of 2,000 conversations of five questions, each at any of three replicas: those that saw more than one version."""
    found = {}
    for split in SPLITS:
        snapshot = Snapshot(revision=1, entries=tuple(entry("chat", v, weight) for v, weight in split.items()))
        routers, lots = [router(lambda held=snapshot: held) for _ in range(3)], random.Random(2)
        versions: dict[str, set[str]] = {}
        for turn in turns(1):
            began = turn.session or turn.messages[0].text
            versions.setdefault(began, set()).add(lots.choice(routers).route(turn, None).chosen.version)
        found["/".join(map(str, split.values()))] = sum(len(seen) > 1 for seen in versions.values()) / len(versions)
    return found


def moved() -> list[dict[str, Any]]:
    """Of 10,000 sessions on two stable versions, who changes its version with a step of a rollout, and with its end."""
    held: Snapshot = _stepped(0)
    routed = router(lambda: held)
    names = [asking(session=f"s{n}") for n in range(REQUESTS)]
    first = was = [routed.route(turn, None).chosen.version for turn in names]
    rows = []
    for before, percent in [*zip(STEPS, STEPS[1:], strict=False), (STEPS[2], 0)]:
        if percent == 0:
            held = _stepped(before)
            was = [routed.route(turn, None).chosen.version for turn in names]
        held = _stepped(percent)
        now = [routed.route(turn, None).chosen.version for turn in names]
        changed = [new for old, new in zip(was, now, strict=True) if old != new]
        astray = sum(new != "3" for new in changed) if percent else sum(a != b for a, b in zip(now, first, strict=True))
        share = len(changed) / REQUESTS
        rows.append(
            {"from": before, "to": percent, "moved": share, "least": abs(percent - before) / 100, "astray": astray}
        )
        was = now
    return rows


def _stepped(percent: int) -> Snapshot:
    rest = 100 - percent
    weights = {"1": round(0.6 * rest), "2": rest - round(0.6 * rest), "3": percent}
    return Snapshot(revision=percent + 1, entries=tuple(entry("chat", v, w) for v, w in weights.items()))


def shares_over_time() -> list[dict[str, Any]]:
    """A rollout over 10,000 requests of all kinds on three replicas, counted in windows of 200; then its rollback."""
    held = _stepped(0)
    routers, lots = [router(lambda: held) for _ in range(3)], random.Random(1)
    window, rows = 200, []
    turns = mixed(1)
    for percent in (0, 5, 25, 50, 25, 0):
        held = _stepped(percent)
        for _ in range(REQUESTS // 6 // window):
            seen = Counter(lots.choice(routers).route(next(turns), None).chosen.version for _ in range(window))
            rows.append({"weight": percent / 100, "share": seen["3"] / window})
    return rows


if __name__ == "__main__":
    main()
