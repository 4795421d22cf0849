"""The measured figures beside those asked for: a page for readers, and a plot."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.guardrails.figures import Figure


def page(figures: Sequence[Figure], said: dict[str, Any]) -> str:
    parts = ["# Guardrails", said["judged"], said["sample"]]
    for group, rows in groupby(figures, key=lambda figure: figure.group):
        parts.append(f"## {group}")
        lines = ["| set | n | measured here, in-sample | out of fold | asked | |", "|---|---:|---:|---:|---:|---|"]
        parts.append("\n".join([*lines, *map(row, rows)]))
    missed = [f"{figure.group}, {figure.name}" for figure in figures if figure.verdict == "missed"]
    parts.append(f"Missed: {'; '.join(missed)}." if missed else "Nothing that was asked for and measured is missed.")
    parts += [said["machine"], "![asked and measured](guardrails.png)"]
    return "\n\n".join(parts) + "\n"


def row(figure: Figure) -> str:
    sign = "" if figure.asked is None else ("≥ " if figure.is_floor else "≤ ")
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    cells = (
        name,
        str(figure.count or ""),
        shown(figure.measured, figure.unit),
        shown(figure.unseen, figure.unit),
        sign + shown(figure.asked, figure.unit),
        figure.verdict,
    )
    return f"| {' | '.join(cells)} |"


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.4g} {unit}" if unit else f"{value:.1%}"


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Shares only: on the left what should be high, on the right what should be low, on its own scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = [one for one in figures if not one.unit and one.measured is not None and one.asked is not None]
    high, low = [one for one in shares if one.is_floor], [one for one in shares if not one.is_floor]
    canvas, (left, right) = pyplot.subplots(1, 2, figsize=(13, 0.34 * max(len(high), len(low), 6) + 1.4))
    bars(left, high, "found: higher is better")
    bars(right, low, "touched by mistake: lower is better")
    left.set_xlim(0.5, 1.0)
    for axes in (left, right):
        axes.set_ylim(max(len(high), len(low)) - 0.4, -0.6)
    right.set_xlim(
        0, max([0.02, *(1.1 * (one.measured or 0) for one in low), *(1.1 * (one.asked or 0) for one in low)])
    )
    canvas.legend(*left.get_legend_handles_labels(), loc="lower right", ncols=3, frameon=False)
    canvas.tight_layout(rect=(0, 0.04, 1, 1))
    canvas.savefig(path, dpi=110)


def bars(axes: Any, figures: Sequence[Figure], title: str) -> None:
    places = range(len(figures))
    axes.barh(places, [one.measured for one in figures], color="#b8c4d6", label="measured here, in-sample")
    unseen = [(place, one.unseen) for place, one in zip(places, figures, strict=True) if one.unseen is not None]
    axes.plot([one[1] for one in unseen], [one[0] for one in unseen], "o", color="#20507d", label="out of fold")
    axes.plot([one.asked for one in figures], places, "|", color="#c0392b", ms=14, mew=2.5, label="asked")
    axes.set_yticks(places, [f"{one.name}\n{one.group}" for one in figures], fontsize=7)
    axes.set_title(title, fontsize=10)
