"""The page of benchmarks/models: what was asked, what was measured, and a plot of a rollout's shares."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

WINDOW_S = 2.0


def write(folder: Path, size: dict[str, Any], measured: Sequence[dict[str, Any]], *, keeps: bool) -> None:
    """models.json, models.md, and models.png where a whole rollout was measured.

    `keeps`: what was not measured now stays as an earlier run of the same size left it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = [*(earlier(folder / "models.json", size, measured) if keeps else ()), *measured]
    (folder / "models.json").write_text(json.dumps({"size": size, "found": list(found)}, indent=1) + "\n")
    cycle = next((one["facts"] for one in found if "timeline" in one["facts"]), None)
    (folder / "models.md").write_text(page(size, found, has_plot=cycle is not None))
    if cycle is not None:
        plot(folder / "models.png", cycle["timeline"])


def earlier(file: Path, size: dict[str, Any], measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    before = json.loads(file.read_text())
    names = {one["name"] for one in measured}
    return [one for one in before["found"] if one["name"] not in names] if before["size"] == size else []


def page(size: dict[str, Any], found: Sequence[dict[str, Any]], *, has_plot: bool) -> str:
    rows = [
        f"| {one['name']} | {one['measured']}{'' if one['kept'] else ' **MISSED**'} | {one['asked']} |" for one in found
    ]
    return "\n".join(
        [
            "# Versions of a model under load",
            "",
            "Two gateways, PostgreSQL, Redis, HAProxy, two real Serve applications whose engine does as it is told; "
            "requests pass the whole pipeline, screening included. `python -m benchmarks.models`",
            "",
            f"{size['requests']:,} requests for the shares, {2 * size['rate']:g} requests a second for the others, "
            f"streams of {size['stream_tokens'] / 10:g} s.",
            "",
            "| what | measured | asked |",
            "|---|---|---|",
            *rows,
            *(["", "![shares of the versions during a rollout](models.png)"] if has_plot else []),
            "",
        ]
    )


def plot(file: Path, timeline: dict[str, list[float]]) -> None:
    """Share of each version in windows of two seconds."""
    end = max(at for times in timeline.values() for at in times)
    edges = [n * WINDOW_S for n in range(int(end / WINDOW_S) + 1)]
    counts = {
        version: [sum(edge <= at < edge + WINDOW_S for at in times) for edge in edges]
        for version, times in sorted(timeline.items())
    }
    totals = [max(1, sum(column)) for column in zip(*counts.values(), strict=True)]
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    shares = [[100 * n / total for n, total in zip(column, totals, strict=True)] for column in counts.values()]
    axes.stackplot(edges, shares, labels=[f"version {version}" for version in counts], step="post")
    axes.set(xlabel="seconds", ylabel="% of requests", title="A rollout from start to rollback", ylim=(0, 100))
    axes.legend(loc="lower left")
    figure.savefig(file, dpi=110)
    plt.close(figure)
