"""Table and picture of what `benchmarks.routing` measured."""

import json
from pathlib import Path
from typing import Any

ASKED_MS = 0.1
ASKED_OFF = 0.01


def write(path: Path) -> None:
    """`path` holds the JSON; the table and the picture go beside it."""
    report = json.loads(path.read_text())
    path.with_suffix(".md").write_text(page(report))
    picture(report, path.with_suffix(".png"))


def page(report: dict[str, Any]) -> str:
    slowest = max(row["p50"] for name, row in report["cost"].items() if name.startswith(("named", "auto, by")))
    lines = [
        "# Routing",
        "",
        "## A decision",
        "",
        "50 models of three versions, ten rules, ceilings; milliseconds.",
        "",
    ]
    lines += ["| decision | p50 | p99 | CPU |", "|---|---|---|---|"]
    lines += [f"| {name} | {row['p50']} | {row['p99']} | {row['cpu']} |" for name, row in report["cost"].items()]
    lines += ["", f"Asked: p50 of at most {ASKED_MS} ms; the slowest of ordinary questions: {slowest} ms.", ""]
    lines += ["## Weights", "", f"{report['runs']} runs of 10,000 requests each: how far the share of any version was"]
    lines += ["from its weight, in percent of the requests (asked: 1).", ""]
    lines += ["| weights | who asks | replicas | median | worst | runs within 1 % |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['split']} | {row['mode']} | {row['replicas']} | {100 * row['median']:.2f} | {100 * row['worst']:.2f} "
        f"| {100 * row['within_1_percent']:.0f} % |"
        for row in report["exactness"]
    ]
    lines += ["", *BOUND.strip().splitlines(), "", "## Who moves", ""]
    lines += ["10,000 sessions over two stable versions (60/40) and a rollout's canary.", ""]
    lines += ["| canary from | to | sessions moved | least possible | moved elsewhere |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['from']} % | {row['to']} % | {100 * row['moved']:.2f} % | {100 * row['least']:.0f} % "
        f"| {row['astray']} |"
        for row in report["moved"]
    ]
    lines += ["", "The last row is a rollback: everybody is where he was before the rollout.", ""]
    lines += ["Conversations of five questions, each at any of three replicas, that saw more than one version:", ""]
    splits = list(next(iter(report["jumped"].values())))
    lines += [f"| known by | {' | '.join(splits)} |", f"|---|{'---|' * len(splits)}"]
    lines += [
        f"| {name} | {' | '.join(f'{100 * share:.1f} %' for share in row.values())} |"
        for name, row in report["jumped"].items()
    ]
    lines.append("")
    machine = {name: report["machine"][name] for name in ("cpus", "memory_gib", "cpu", "python", "commit")}
    lines += [
        f"Load of the machine before and after: {report['load_before']:.1f}, {report['load_after']:.1f}. {machine}"
    ]
    return "\n".join(lines) + "\n"


BOUND = """
Callers with a name are hashed: no replica need know what another did, and a name keeps its version. Of 10,000 names at
50/50 the share then has a standard deviation of 0.5 %, so one run in 22 is more than 1 % off, and one in 16,000 more
than 2 %; at 95/5 it has 0.22 %, one run in 200,000. A name that asks five times counts five times, which makes that 2.2
times as wide. As soon as some of the requests come from nobody in particular, the turns make up for it.
"""


def picture(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (over_time, off) = pyplot.subplots(1, 2, figsize=(12, 4.4))
    rows = report["shares"]
    asked = [200 * (n + 1) for n in range(len(rows))]
    over_time.step(asked, [100 * row["weight"] for row in rows], where="mid", color="black", label="weight")
    over_time.plot(asked, [100 * row["share"] for row in rows], ".-", color="tab:orange", label="share of 200 requests")
    over_time.set(xlabel="requests", ylabel="%", title="A canary's share, three replicas, callers of all kinds")
    over_time.grid(alpha=0.3)
    over_time.legend(fontsize=8)
    shown = [row for row in report["exactness"] if row["split"] == "50/50"]
    labels = [f"{row['mode']}, {row['replicas']}" for row in shown]
    off.barh(labels, [100 * row["worst"] for row in shown], color="tab:blue", alpha=0.4, label="worst of all runs")
    off.barh(labels, [100 * row["median"] for row in shown], color="tab:blue", label="median")
    off.axvline(100 * ASKED_OFF, color="black", linestyle="--", label="asked")
    off.set(xlabel="% of 10,000 requests", title="Off the weight at 50/50, by who asks and replicas")
    off.invert_yaxis()
    off.tick_params(axis="y", labelsize=7)
    off.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
