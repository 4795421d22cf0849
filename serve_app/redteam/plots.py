"""Bars as SVG, drawn by hand: a report needs no plotting library, and its colours are those of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from serve_app.redteam.figures import interval
from serve_app.redteam.judge import Outcome

LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH, ROW_HEIGHT = 190, 400, 150, 30
TOP = 8

LONGEST_LABEL = 26
"""Characters; of a path the end says more."""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    share: float | None
    whole: int
    before: float | None = None
    """In the last report: a tick on the bar."""


def bars(title: str, rows: Sequence[Bar], tone: str) -> str:
    """Horizontal bars from 0 to 100 %, each with its 95 % interval; `tone` is a class of the page's style."""
    height = TOP + ROW_HEIGHT * len(rows) + 24
    told = "; ".join(f"{row.label} {_value(row)}" for row in rows)
    drawn = "".join(_bar(row, TOP + ROW_HEIGHT * place, tone) for place, row in enumerate(rows))
    return _figure(title, told, height, _scale(height) + drawn)


def _bar(row: Bar, y: int, tone: str) -> str:
    middle = y + ROW_HEIGHT / 2
    parts = [_label(row.label, middle)]
    if row.share is not None:
        low, high = (LABEL_WIDTH + BAR_WIDTH * edge for edge in interval(row.share, row.whole))
        parts += [
            f'<rect class="{tone}" x="{LABEL_WIDTH}" y="{y + 7}" width="{max(1.5, BAR_WIDTH * row.share):.1f}" '
            f'height="{ROW_HEIGHT - 14}" rx="2"/>',
            f'<path class="range" d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 4:.1f}v8'
            f'M{high:.1f} {middle - 4:.1f}v8"/>',
        ]
    if row.before is not None:
        x = LABEL_WIDTH + BAR_WIDTH * row.before
        parts.append(f'<path class="before" d="M{x:.1f} {y + 3}v{ROW_HEIGHT - 6}"/>')
    parts.append(f'<text class="value" x="{LABEL_WIDTH + BAR_WIDTH + 12}" y="{middle + 4:.1f}">{_value(row)}</text>')
    return "".join(parts)


def _value(row: Bar) -> str:
    if row.share is None:
        return "not measured"
    return f"{row.share:.1%} of {row.whole}"


def stacked(title: str, rows: Mapping[str, Mapping[Outcome, int]]) -> str:
    """Each row's counts as shares of one full bar; the name of a count is its class in the page's style."""
    height = TOP + ROW_HEIGHT * len(rows) + 24
    told = "; ".join(f"{label}: {_counted(counts)}" for label, counts in rows.items())
    drawn = "".join(
        _stack(label, counts, TOP + ROW_HEIGHT * place) for place, (label, counts) in enumerate(rows.items())
    )
    return _figure(title, told, height, _scale(height) + drawn)


def _stack(label: str, counts: Mapping[Outcome, int], y: int) -> str:
    whole = sum(counts.values()) or 1
    parts, x = [_label(label, y + ROW_HEIGHT / 2)], float(LABEL_WIDTH)
    for name, count in counts.items():
        width = BAR_WIDTH * count / whole
        if count:
            parts.append(
                f'<rect class="{name}" x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="{ROW_HEIGHT - 10}">'
                f"<title>{escape(label)}: {name} {count} of {whole}</title></rect>"
            )
        x += width
    end = LABEL_WIDTH + BAR_WIDTH + 12
    parts.append(f'<text class="value" x="{end}" y="{y + ROW_HEIGHT / 2 + 4:.1f}">{whole} attempts</text>')
    return "".join(parts)


def _counted(counts: Mapping[Outcome, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _label(label: str, middle: float) -> str:
    words = label.replace("_", " ")
    shown = words if len(words) <= LONGEST_LABEL else f"…{words[1 - LONGEST_LABEL :]}"
    return f'<text class="label" x="{LABEL_WIDTH - 12}" y="{middle + 4:.1f}">{escape(shown)}</text>'


def _scale(height: int) -> str:
    lines = []
    for quarter in range(5):
        x = LABEL_WIDTH + BAR_WIDTH * quarter / 4
        lines.append(f'<path class="grid" d="M{x:.1f} {TOP}V{height - 22}"/>')
        lines.append(f'<text class="tick" x="{x:.1f}" y="{height - 6}">{25 * quarter}%</text>')
    return "".join(lines)


def _figure(title: str, told: str, height: int, drawn: str) -> str:
    """The numbers stand in the description too: a plot that only eyes can read is half a plot."""
    width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" viewBox="0 0 {width} {height}">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{drawn}</svg></figure>"
    )
