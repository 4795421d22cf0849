"""The registry for readers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.plain import plain
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout

COLOURS = {"enabled": "green", "registered": "yellow", "disabled": "dim", "failed": "red"}
TIMES = ("created_at", "updated_at")
UNTOLD = (*TIMES, "started_at", "step_started_at", "ended_at", "reason", "figures")
"""Of a change: when and why it was stands beside it, and figures are for JSON."""


def shares(entries: Iterable[ModelEntry]) -> dict[Key, float]:
    """Percent of its model's requests that each version takes; `entries` holds all versions of its model."""
    enabled = [entry for entry in entries if entry.is_enabled]
    sums: dict[tuple[str, str], int] = {}
    for entry in enabled:
        place = (entry.model, entry.environment)
        sums[place] = sums.get(place, 0) + entry.weight
    return {entry.key: 100 * entry.weight / (sums[entry.model, entry.environment] or 1) for entry in enabled}


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.3g} %"


def details(entry: ModelEntry, versions: Iterable[ModelEntry]) -> dict[str, Any]:
    """Its fields, and its share among the versions of its model in percent: None where it is not enabled."""
    share = shares(versions).get(entry.key)
    return {**plain(entry), "share": None if share is None else round(share, 3)}


def versions_table(entries: Sequence[ModelEntry]) -> Table:
    table = Table()
    for heading in ("version", "environment", "status", "weight", "endpoint"):
        table.add_column(heading, overflow="fold")
    of = shares(entries)
    for entry in entries:
        share = of.get(entry.key)
        table.add_row(
            escape(entry.name),
            entry.environment,
            f"[{COLOURS[entry.status]}]{entry.status}[/]",
            str(entry.weight) if share is None else f"{entry.weight} ({percent(share)})",
            escape(entry.endpoint),
        )
    return table


def entry_table(entry: ModelEntry, share: float | None, rollout: Rollout | None) -> Table:
    """All that is known of a version."""
    table = Table(show_header=False, title=escape(f"{entry.name} in {entry.environment}"), title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in plain(entry).items():
        if name not in ("model", "version", "environment") and value not in ("", []):
            table.add_row(name.replace("_", " "), escape(minute(value) if name in TIMES else text(value)))
        if name == "weight":
            table.add_row("share of requests", percent(share) or "none: not enabled")
    if rollout:
        way = f"to {rollout.to_version}, at {rollout.percent} %, {rollout.state}"
        table.add_row("rollout", escape(f"{way}; `manta rollout status {rollout.model}`"))
    return table


def history_table(rows: Sequence[Audit]) -> Table:
    """What was done and why in one cell: a terminal of 80 columns is wide enough then."""
    table = Table()
    for heading in ("when (UTC)", "who", "what", "changed"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        what = f"{row.action} {row.model}@{row.version} in {row.environment}" + (f": {row.why}" if row.why else "")
        changed = "\n".join(differences(row.before, row.after))
        table.add_row(minute(row.at), escape(row.who), escape(what), escape(changed))
    return table


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    """Line by line what is another value afterwards; of what was put in what it takes and where it is."""
    if after is None:
        return ["taken out"]
    if before is None:
        told = [name for name in ("endpoint", "status", "weight", "to_version", "steps") if name in after]
        return [f"{name.replace('_', ' ')} {text(after[name])}" for name in told]
    changed = [name for name, value in after.items() if name not in UNTOLD and before.get(name) != value]
    return [f"{name.replace('_', ' ')} {text(before.get(name))} -> {text(after[name])}" for name in changed]


def text(value: Any) -> str:
    match value:
        case None | "" | [] | {}:
            return "-"
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name} {part}" for name, part in value.items())
        case float():
            return f"{value:g}"
    return str(value)


def minute(seconds: float) -> str:
    """UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
