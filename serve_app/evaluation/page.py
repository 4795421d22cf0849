"""An evaluation as one page with its plots drawn in it."""

from collections.abc import Sequence
from html import escape

from serve_app.evaluation.report import OURS, Evaluation, figure_rows, lost_rows, worst_rows

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6878;--paper:#fff;--line:#d5dbe3;--both:#2f6fb2;--meaning:#d08a2e;
--words:#5f9b57;--behind:#c0504d}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9f0;--soft:#9aa6b5;--paper:#151a21;--line:#3a4450;--both:#6fa8e0;
--meaning:#e0a75a;--words:#86bf7e;--behind:#e07f7c}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;
padding:0 1rem}h2{margin-top:2.2rem}.verdict{font-size:1.1rem}figcaption{color:var(--soft)}figure{margin:1rem 0}
table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.25rem .8rem;
border-bottom:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:anywhere}
svg{max-width:100%;height:auto}svg text{fill:var(--ink);font:13px system-ui}svg .soft{fill:var(--soft)}
svg .axis{stroke:var(--line)}svg .range{stroke:var(--ink);stroke-width:1.5}svg .both{fill:var(--both)}
svg .meaning{fill:var(--meaning)}svg .words{fill:var(--words)}svg .behind{fill:var(--behind)}
"""
LEFT, WIDTH = 110, 520
HALF = 110
"""Height of the differences on each side of their axis, for a whole point of nDCG."""


def page(evaluation: Evaluation) -> str:
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in evaluation.facts)
    behind = lost_rows(evaluation)
    differences = "".join(_differences(evaluation, way) for way in evaluation.ways if way != OURS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Retrieval</title><style>{STYLE}</style><h1>Retrieval</h1>"
        f'<p class="verdict">{escape(evaluation.verdict)}</p><table>{facts}</table>'
        f"<h2>Figures</h2>{_bars(evaluation)}{_table(*figure_rows(evaluation))}"
        + (f"<h2>Question by question</h2>{differences}" if differences else "")
        + (f"<h2>Where one search alone was ahead</h2>{_table(*behind)}" if behind[1] else "")
        + f"<h2>The worst questions</h2>{_table(*worst_rows(evaluation))}</html>\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _bars(evaluation: Evaluation) -> str:
    """For each measure one bar for each way, from 0 to 1, with its interval."""
    drawn, y = [], 4
    for name in evaluation.figures[OURS]:
        drawn.append(f'<text x="0" y="{y + 14}">{escape(name)}</text>')
        for way, by in evaluation.figures.items():
            one = by[name]
            low, high = LEFT + WIDTH * one.low, LEFT + WIDTH * one.high
            drawn.append(
                f'<rect class="{escape(way)}" x="{LEFT}" y="{y + 2}" width="{WIDTH * one.mean:.1f}" height="15"/>'
                f'<path class="range" d="M{low:.1f} {y + 9.5}H{high:.1f}"/>'
                f'<text x="{LEFT + WIDTH + 10}" y="{y + 14}">{one.mean:.3f} {escape(way)}</text>'
            )
            y += 20
        y += 12
    return f"<figure>{_plot(y, 'figures', ''.join(drawn))}</figure>"


def _plot(height: int, label: str, drawn: str) -> str:
    return f'<svg viewBox="0 0 740 {height}" width="740" role="img" aria-label="{escape(label)}">{drawn}</svg>'


def _differences(evaluation: Evaluation, way: str) -> str:
    """All questions side by side, from where both together gain most to where they lose most."""
    pairs = zip(evaluation.ways[OURS], evaluation.ways[way], strict=True)
    apart = sorted((ours.ndcg - other.ndcg for ours, other in pairs), reverse=True)
    step = 620 / len(apart)
    bars = [
        f'<rect class="{OURS if gap > 0 else "behind"}" x="{LEFT + place * step:.2f}" width="{max(step, 0.6):.2f}" '
        f'y="{HALF - HALF * max(gap, 0):.1f}" height="{HALF * abs(gap):.1f}"/>'
        for place, gap in enumerate(apart)
        if gap
    ]
    ahead, behind = sum(gap > 0 for gap in apart), sum(gap < 0 for gap in apart)
    labels = (
        f'<text x="{LEFT - 8}" y="{HALF + 4}" text-anchor="end">level</text>'
        f'<text class="soft" x="{LEFT - 8}" y="14" text-anchor="end">+1 nDCG</text>'
        f'<text class="soft" x="{LEFT - 8}" y="{2 * HALF}" text-anchor="end">-1 nDCG</text>'
        f'<path class="axis" d="M{LEFT} {HALF}h620"/>'
    )
    plot = _plot(2 * HALF + 6, f"both beside {way}", f"{labels}{''.join(bars)}")
    level = len(apart) - ahead - behind
    return (
        f"<figure>{plot}<figcaption>Both together beside {escape(way)} alone: better on {ahead} questions, "
        f"the same on {level}, worse on {behind}.</figcaption></figure>"
    )
