"""The report as Markdown, for a merge request or a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from serve_app.redteam.figures import Figures, by_kind, by_suite
from serve_app.redteam.judge import MEANINGS, Outcome
from serve_app.redteam.report import (
    READING,
    SHARES,
    Change,
    Run,
    caveat,
    changes,
    clipped,
    compared_with,
    facts,
    occurring,
    percent,
    with_interval,
    worst,
)
from serve_app.redteam.run import Attempt
from serve_app.redteam.suite import Family


def markdown(run: Run, last: Mapping[str, Any] | None) -> str:
    lines = [
        "# Red team report",
        "",
        *(f"- {name}: {value}" for name, value in facts(run)),
        "",
        *_gate_lines(run),
        *(f"> {note}" for note in run.notes),
        "",
        *_tables(run, last),
        "## Worst examples",
        "",
        *(line for attempt in worst(run.attempts) for line in _example_lines(attempt)),
        "## How to read this",
        "",
        *(f"- {note}" for note in READING),
        *(f"- {outcome}: {meaning}." for outcome, meaning in MEANINGS.items()),
        "",
    ]
    return "\n".join(lines)


def _tables(run: Run, last: Mapping[str, Any] | None) -> list[str]:
    difference, columns = changes(run, last), occurring(run)
    return [
        "## By family",
        "",
        "| family | attempts | errors | attack success | reached | false refusals | change in points |",
        "|---|---|---|---|---|---|---|",
        *(_family_line(family, found, difference) for family, found in run.families.items()),
        "",
        *([caveat(run), ""] if caveat(run) else []),
        compared_with(run, last),
        "",
        "## Outcomes by suite",
        "",
        f"| suite | family | {' | '.join(columns)} | attack success | reached | false refusals |",
        f"|---|---|{'---|' * (len(columns) + 3)}",
        *(_suite_line(suite, family, found, columns) for (suite, family), found in by_suite(run.attempts).items()),
        "",
        "## By kind",
        "",
        "| kind | family | attempts | attack success | reached | false refusals |",
        "|---|---|---|---|---|---|",
        *(_kind_line(kind, family, found) for (family, kind), found in by_kind(run.attempts).items()),
        "",
    ]


def _gate_lines(run: Run) -> list[str]:
    if run.gates is None:
        return ["Gates were not judged.", ""]
    return [*(f"- **gate passed over**: {gate}" for gate in run.gates), ""] if run.gates else ["All gates hold.", ""]


def _family_line(family: Family, found: Figures, difference: Mapping[tuple[Family, str], Change]) -> str:
    moved = (
        f"{name.replace('_', ' ')} {difference[family, name].points:+.1f}"
        for name in SHARES
        if (family, name) in difference
    )
    success = with_interval(found.attack_success, found.decided)
    refusals = with_interval(found.false_refusals, found.tried)
    errors = found.counts["error"]
    reached = with_interval(found.reached, found.tried)
    return (
        f"| {family} | {found.attempts} | {errors} | {success} | {reached} | {refusals} | {', '.join(moved) or '–'} |"
    )


def _suite_line(suite: str, family: Family, found: Figures, columns: Sequence[Outcome]) -> str:
    counts = " | ".join(str(found.counts[outcome]) for outcome in columns)
    ends = " | ".join(percent(getattr(found, name)) for name in SHARES)
    return f"| {_cell(suite)} | {family} | {counts} | {ends} |"


def _kind_line(kind: str, family: Family, found: Figures) -> str:
    ends = " | ".join(percent(getattr(found, name)) for name in SHARES)
    return f"| {_cell(kind)} | {family} | {found.attempts} | {ends} |"


def _cell(text: str) -> str:
    return clipped(text).replace("|", "\\|")


def _example_lines(attempt: Attempt) -> tuple[str, ...]:
    """What was said stands in code: nothing of it may become markup of the report."""
    told = (attempt.probe.prompt, attempt.probe.document, attempt.reply.text)
    said, planted, answer = (clipped(text).replace("`", "'") for text in told)
    return (
        f"### {attempt.probe.family}: `{attempt.probe.id}`",
        "",
        f"- {attempt.verdict.outcome}: {_cell(attempt.verdict.reason).replace('<', '&lt;')}",
        f"- said: `{said}`",
        *([f"- planted in: `{planted}`"] if planted else []),
        f"- answer: `{answer or '(empty)'}`",
        "",
    )
