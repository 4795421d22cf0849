"""An evaluation as JSON, Markdown and a page that needs no other file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve_app.evaluation.page import page
from serve_app.evaluation.report import OURS, Evaluation, figure_rows, lost_rows, worst_rows
from serve_app.evaluation.retrieval import DEPTH, latencies_ms

NAME = "retrieval"


def written(evaluation: Evaluation, folder: Path) -> None:
    """Writes retrieval.json, .md and .html below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    described = json.dumps(_described(evaluation), indent=2, ensure_ascii=False)
    (folder / f"{NAME}.json").write_text(described + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(_markdown(evaluation), encoding="utf-8")
    (folder / f"{NAME}.html").write_text(page(evaluation), encoding="utf-8")


def _described(evaluation: Evaluation) -> dict[str, Any]:
    compared = evaluation.comparison
    return {
        "date": evaluation.date,
        "target": evaluation.target,
        "corpus": evaluation.corpus,
        "documents": evaluation.documents,
        "questions": len(evaluation.ways[OURS]),
        "figures": {way: {name: asdict(one) for name, one in by.items()} for way, by in evaluation.figures.items()},
        "comparison": asdict(compared) if compared else None,
        "latency_ms": {way: latencies_ms(asked) for way, asked in evaluation.ways.items()},
        "answers": [_answer(evaluation, place) for place in range(len(evaluation.ways[OURS]))],
    }


def _answer(evaluation: Evaluation, place: int) -> dict[str, Any]:
    one = evaluation.ways[OURS][place]
    return {
        "id": one.question.id,
        "question": one.question.text,
        "relevant": sorted(one.question.relevant),
        "found": list(one.first),
        f"ndcg@{DEPTH}": {way: round(asked[place].ndcg, 4) for way, asked in evaluation.ways.items()},
    }


def _markdown(evaluation: Evaluation) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in evaluation.facts)
    behind, worst = lost_rows(evaluation), worst_rows(evaluation)
    parts = [f"# Retrieval\n\n{facts}\n", evaluation.verdict, _table(*figure_rows(evaluation))]
    if behind[1]:
        parts.append(f"## Where one search alone was ahead\n\n{_table(*behind)}")
    parts.append(f"## The {len(worst[1])} worst questions\n\n{_table(*worst)}")
    return "\n".join(part for part in parts if part)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', ' ').replace(chr(10), ' ') for cell in line)} |\n" for line in lines
    )
