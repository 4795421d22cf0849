"""One evaluation of a search as JSON, Markdown and a page that needs no other file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from serve_app.evaluation.retrieval import DEPTH, Asked, Figure, figures, latencies_ms

WORST = 15
NAME = "retrieval"
STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--line:#d5dbe3;--bar:#2f6fb2}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9f0;--paper:#151a21;--line:#3a4450;--bar:#6fa8e0}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;
padding:0 1rem}table{border-collapse:collapse}td,th{padding:.25rem .8rem;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}svg text{fill:var(--ink);
font:13px system-ui}svg .bar{fill:var(--bar)}svg .range{stroke:var(--ink);stroke-width:1.5}
"""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked of which service about which corpus. Each way of searching has its own list of answers."""

    target: str
    corpus: str
    """Digest of the documents."""
    documents: int
    date: str
    ways: Mapping[str, Sequence[Asked]]
    """`both`, `meaning`, `words`: at least the first."""

    @property
    def worst(self) -> list[Asked]:
        return sorted(self.ways["both"], key=lambda one: (one.ndcg, one.question.id))[:WORST]


def written(evaluation: Evaluation, folder: Path) -> dict[str, dict[str, Figure]]:
    """Writes retrieval.json, .md and .html below `folder` and returns the figures by way and measure."""
    found = {way: figures(asked) for way, asked in evaluation.ways.items()}
    folder.mkdir(parents=True, exist_ok=True)
    described = json.dumps(_described(evaluation, found), indent=2, ensure_ascii=False)
    (folder / f"{NAME}.json").write_text(described + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(_markdown(evaluation, found), encoding="utf-8")
    (folder / f"{NAME}.html").write_text(_page(evaluation, found), encoding="utf-8")
    return found


def _described(evaluation: Evaluation, found: Mapping[str, Mapping[str, Figure]]) -> dict[str, Any]:
    return {
        "date": evaluation.date,
        "target": evaluation.target,
        "corpus": evaluation.corpus,
        "documents": evaluation.documents,
        "questions": len(evaluation.ways["both"]),
        "figures": {way: {name: asdict(figure) for name, figure in by.items()} for way, by in found.items()},
        "latency_ms": {way: latencies_ms(asked) for way, asked in evaluation.ways.items()},
        "answers": [
            {
                "id": one.question.id,
                "question": one.question.text,
                "relevant": sorted(one.question.relevant),
                "found": list(one.first),
                f"ndcg@{DEPTH}": round(one.ndcg, 4),
            }
            for one in evaluation.ways["both"]
        ],
    }


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    asked = evaluation.ways["both"]
    spent = latencies_ms(asked)
    return [
        ("service", evaluation.target),
        ("date", evaluation.date),
        ("corpus", f"{evaluation.documents} documents, {evaluation.corpus}"),
        ("questions", str(len(asked))),
        ("time of a search", f"p50 {spent['p50']:.1f} ms, p99 {spent['p99']:.1f} ms, through the public API"),
    ]


def _rows(found: Mapping[str, Mapping[str, Figure]]) -> list[tuple[str, ...]]:
    return [
        (way, name, f"{figure.mean:.4f}", f"{figure.low:.4f} to {figure.high:.4f}")
        for way, by in found.items()
        for name, figure in by.items()
    ]


def _worst(evaluation: Evaluation) -> list[tuple[str, ...]]:
    return [
        (one.question.text, ", ".join(sorted(one.question.relevant)), ", ".join(one.first[:3]), f"{one.ndcg:.3f}")
        for one in evaluation.worst
    ]


HEADS = ("search by", "measure", "mean", "95 % interval")
WORST_HEADS = ("question", "relevant", "found first", "nDCG")


def _markdown(evaluation: Evaluation, found: Mapping[str, Mapping[str, Figure]]) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in _facts(evaluation))
    return (
        f"# Retrieval\n\n{facts}\n\n{_table(HEADS, _rows(found))}\n"
        f"## The {len(evaluation.worst)} worst questions\n\n{_table(WORST_HEADS, _worst(evaluation))}"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', ' ').replace(chr(10), ' ') for cell in line)} |\n" for line in lines
    )


def _page(evaluation: Evaluation, found: Mapping[str, Mapping[str, Figure]]) -> str:
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _facts(evaluation))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Retrieval</title><style>{STYLE}</style><h1>Retrieval</h1><table>{facts}</table>"
        f"<h2>Figures</h2>{_bars(found)}{_html_table(HEADS, _rows(found))}"
        f"<h2>The {len(evaluation.worst)} worst questions</h2>{_html_table(WORST_HEADS, _worst(evaluation))}</html>\n"
    )


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _bars(found: Mapping[str, Mapping[str, Figure]]) -> str:
    """One bar for each figure from 0 to 1, with its interval."""
    drawn, y = [], 8
    for way, by in found.items():
        for name, figure in by.items():
            low, high = 200 + 400 * figure.low, 200 + 400 * figure.high
            drawn.append(
                f'<text x="192" y="{y + 14}" text-anchor="end">{escape(f"{way}, {name}")}</text>'
                f'<rect class="bar" x="200" y="{y + 3}" width="{400 * figure.mean:.1f}" height="14" rx="2"/>'
                f'<path class="range" d="M{low:.1f} {y + 10}H{high:.1f}"/>'
                f'<text x="610" y="{y + 14}">{figure.mean:.3f}</text>'
            )
            y += 26
    return f'<svg viewBox="0 0 680 {y + 8}" width="680" role="img" aria-label="figures">{"".join(drawn)}</svg>'
