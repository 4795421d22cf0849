"""What `benchmarks.retrieval` measured, as JSON, Markdown and a picture."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
COLOURS = {"meaning": "#d08a2e", "words": "#5f9b57", "both": "#2f6fb2"}


def write(measured: Mapping[str, Any]) -> None:
    report = {"machine": _machine(), **measured}
    (RESULTS / "retrieval.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "retrieval.md").write_text(_markdown(report), encoding="utf-8")
    _picture(report)
    print(RESULTS / "retrieval.md")


def _machine() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, milvus-lite {version('milvus-lite')}",
    }


def _markdown(report: Mapping[str, Any]) -> str:
    sets = ", ".join(f"{name} ({one['documents']} documents)" for name, one in report["sets"].items())
    lines = [
        "# Ranking both together, beside each search alone",
        "",
        f"{', '.join(report['machine'].values())}. Sets: {sets}. nDCG@10 by document, of questions whose",
        "documents the reranker's weights were not fitted on; `index` is the ranking without the reranker. `ahead` is",
        "what both are above the better of meaning and words, with the 95 % interval of the paired differences.",
        "",
        "| set | task | searched | n | meaning | words | index | both | ahead | recall@10 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["tasks"]:
        ndcg, gap = row["ndcg"], row["ahead_of_the_better"]["difference"]
        cells = " | ".join(f"{ndcg[way]:.4f}" for way in ("meaning", "words", "index", "both"))
        lines.append(
            f"| {row['set']} | {row['task']} | {row['stores']} | {row['questions']} | {cells} "
            f"| {gap['mean']:+.4f} ({gap['low']:+.3f} to {gap['high']:+.3f}) | {row['recall']['both']:.3f} |"
        )
    above, cost = report["strangers_above_the_floor"], report["reranking_50_passages_cpu_ms"]
    shares = ", ".join(f"{way} {share:.1%}" for way, share in above.items())
    lines += [
        "",
        "Questions of one set asked of the other that find a passage at or above the floor (`min_score`): "
        f"{shares or 'one set only'}.",
        f"Reranking 50 passages takes {cost['p50']:.1f} ms of the processor (p50; p99 {cost['p99']:.1f}).",
        "",
        "![the three ways, task by task](retrieval.png)",
        "",
        "`python -m benchmarks.retrieval --data FOLDER`; the sets are not shipped.",
        "",
    ]
    return "\n".join(lines)


def _picture(report: Mapping[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = sorted(report["tasks"], key=lambda row: row["ndcg"]["both"])
    figure, axes = pyplot.subplots(figsize=(9, 1.4 + 0.3 * len(rows)))
    for place, row in enumerate(rows):
        ndcg = row["ndcg"]
        better = max(ndcg["meaning"], ndcg["words"])
        gain = ndcg["both"] - better
        colour = COLOURS["both"] if gain >= 0 else "#c0504d"
        axes.plot([better, ndcg["both"]], [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="round")
        axes.text(1.02, place, f"{gain:+.3f}", color=colour, va="center", fontsize=8)
    for way, colour in COLOURS.items():
        axes.scatter([row["ndcg"][way] for row in rows], range(len(rows)), color=colour, label=way, zorder=3, s=28)
    axes.set_yticks(range(len(rows)), [f"{row['set']}: {row['task']}, in {row['stores']}" for row in rows], fontsize=8)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("nDCG@10")
    axes.set_title("Both together, beside meaning alone and words alone", loc="left", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False, ncols=3, fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / "retrieval.png", dpi=110)
