"""How good the guardrails are, and what they cost: the published figures.

`python -m benchmarks.guardrails --data FOLDER` judges every public set below FOLDER with the code of
`POST /v1/moderations` in this process; with `--url URL` it asks a running service instead (key: MANTA_API_KEY).
Writes benchmarks/results/guardrails.{json,md,png}. The shipped models were trained on these very sets: only the
column `out of fold`, which their model cards bring, says how they do on texts they have not seen.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.guardrails.figures import Figure
from benchmarks.guardrails.judges import ROOT, Known, Local, Service
from benchmarks.guardrails.page import draw, page
from benchmarks.guardrails.passages import indirect
from benchmarks.guardrails.quality import categories, false_positives, personal, recall, refusals
from benchmarks.guardrails.times import round_trips, streams, times
from benchmarks.overhead import machine

RESULTS = ROOT / "benchmarks" / "results"
SAMPLE = """\
**Measured here is in-sample where a model was trained: the shipped heads, the names model and the inspector learned
from these very sets.** Out of fold is what their model cards say of texts kept from the training; the verdict follows
it where it is there. Patterns and rules were not trained, but whoever wrote them had seen these sets."""


def main() -> None:
    options = arguments()
    local = None if options.url else Local()
    judge = Known(local.judge if local else Service(options.url).judge)
    load_before = os.getloadavg()[0]
    steps = (recall, false_positives, refusals, categories, personal)
    figures = [figure for step in steps for figure in said(step.__name__, lambda step=step: step(options.data, judge))]
    if local:
        figures += said("indirect", lambda: indirect(options.data, local))
        figures += said("times", lambda: times(options.data, local))
    else:
        figures += said("round_trips", lambda: round_trips(Service(options.url)))
    figures += streams()
    report = {
        "machine": machine(),
        "load_before": load_before,
        "through": options.url or "in process",
        "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in figures],
    }
    write(report, figures)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--url", help="a running service; without it the same code runs in this process")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"--data: {options.data} is no folder; give the one that holds the public sets")
    return options


def said(name: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    begun = time.perf_counter()
    measured = measure()
    print(f"{name}: {len(measured)} figures in {time.perf_counter() - begun:.0f} s", flush=True)
    return measured


def write(report: dict[str, Any], figures: Sequence[Figure]) -> None:
    where = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if name != "versions")
    versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["versions"].items())
    text = page(
        figures,
        {
            "judged": f"By `python -m benchmarks.guardrails`, through {report['through']}, at the shipped thresholds.",
            "sample": SAMPLE,
            "machine": f"Machine: {where}. Load before the run: {report['load_before']:.2f}. {versions}.",
        },
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "guardrails.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "guardrails.md").write_text(text)
    draw(figures, RESULTS / "guardrails.png")
    print(text)


if __name__ == "__main__":
    main()
