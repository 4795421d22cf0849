"""Rollouts for readers."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from serve_app.cli.durations import shown
from serve_app.cli.registry_tables import minute
from serve_app.rollout.operations import Standing
from serve_app.rollout.rollout import Rollout

COLOURS = {
    "running": "cyan",
    "paused": "yellow",
    "promoted": "green",
    "rolled_back": "red",
    "fine": "green",
    "breach": "bold red",
    "not enough": "yellow",
    "no figures": "dim",
}
WORDS = {"rolled_back": "rolled back"}


def coloured(state: str) -> str:
    return f"[{COLOURS.get(state, 'default')}]{escape(WORDS.get(state, state))}[/]"


def standing_view(standing: Standing, now: float) -> RenderableType:
    """What `manta rollout status` shows of one. `now`: Unix seconds."""
    weights = ", ".join(f"{escape(version)}: {weight}" for version, weight in standing.weights.items())
    title = f"[bold]{escape(standing.model)}[/bold] in {escape(standing.environment)}"
    rollout = standing.rollout
    if rollout is None:
        return f"{title}: weights {weights}"
    lines = [
        f"{title}: to version {escape(rollout.to_version)}, {coloured(rollout.state)}{_reason(rollout)}",
        f"{_step(rollout, now)}; weights {weights}",
    ]
    if rollout.shadow_percent:
        lines.append(f"{rollout.shadow_percent} % of the requests also go to it in the shadow")
    if not rollout.is_under_way:
        decided_by = rollout.figures
        return Group(*lines, _requests(decided_by), gates_table(decided_by)) if "gates" in decided_by else Group(*lines)
    if standing.report is None:
        gateways = f"gateways of {escape(standing.environment)}"
        return Group(*lines, f"[dim]what its gates found is known to {gateways} alone: set MANTA_URL to one[/dim]")
    return Group(*lines, _requests(standing.report), gates_table(standing.report))


def _reason(rollout: Rollout) -> str:
    return f" ({escape(rollout.reason)})" if rollout.reason else ""


def _step(rollout: Rollout, now: float) -> str:
    if not rollout.steps:
        return "no steps, shadow traffic alone"
    place = f"step {rollout.step + 1} of {len(rollout.steps)}: {rollout.percent} %"
    if rollout.ended_at is not None:
        return f"{place}, ended {minute(rollout.ended_at)}"
    held_s = min(max(0.0, now - rollout.step_started_at), rollout.hold_s)
    left = "held long enough" if held_s >= rollout.hold_s else f"{shown(rollout.hold_s - held_s)} left"
    return f"{place}, {shown(held_s)} of {shown(rollout.hold_s)} held, {left}"


def _requests(report: Mapping[str, Any]) -> str:
    counted = report.get("requests") or {}
    words = ", ".join(f"{arm} {number}" for arm, number in counted.items()) or "none yet"
    said = f"requests on this step: {escape(words)}; verdict: {coloured(str(report.get('verdict', 'not enough')))}"
    if (agreement := report.get("agreement")) is not None:
        said += f"; answers in the shadow agree by {agreement:.2f}"
    return f"{said}\nwaits for {escape(str(report['waits_for']))}" if report.get("waits_for") else said


def gates_table(report: Mapping[str, Any]) -> Table:
    table = Table("gate", "canary", "stable", "apart", "allowed", "n", "state", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:6]:
        column.justify = "right"
    for column in table.columns[1:]:
        column.no_wrap = True
    for gate in (report.get("gates") or {}).values():
        unit = gate.get("unit", "")
        table.add_row(
            escape(str(gate.get("figure", ""))),
            figure(gate.get("canary"), unit),
            figure(gate.get("stable"), unit),
            _against(gate.get("difference"), unit, "+"),
            _against(gate.get("tolerance"), unit, ""),
            str(gate.get("samples", "")),
            coloured(str(gate.get("state", ""))),
        )
    return table


def figure(value: float | None, unit: str) -> str:
    match unit:
        case _ if value is None:
            return "-"
        case "share":
            return f"{value:.1%}"
        case "ms":
            return f"{value:.0f} ms"
        case "currency":
            return f"{value:.3g}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _against(value: float | None, unit: str, sign: str) -> str:
    """A share apart from another, or how many times the other's: as the gate compares them."""
    if value is None:
        return "-"
    return f"{value:{sign}.1%}" if unit == "share" else f"x {value:.2f}"


def history_list(rollouts: Sequence[Rollout]) -> Table:
    """A line or two each: a reason is a sentence, for which a table has no room."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for rollout in rollouts:
        before = ", ".join(version for version, weight in rollout.before.items() if weight)
        took = f" after {shown(rollout.ended_at - rollout.started_at)}" if rollout.ended_at is not None else ""
        reached = f" at {rollout.percent} %" if rollout.steps else ""
        table.add_row(
            minute(rollout.started_at),
            f"[bold]{escape(rollout.model)}[/] in {escape(rollout.environment)}: "
            f"{escape(before)} -> {escape(rollout.to_version)}, {coloured(rollout.state)}{reached}{took}, "
            f"started by {escape(rollout.started_by)}" + (f"\n{escape(rollout.reason)}" if rollout.reason else ""),
        )
    return table
