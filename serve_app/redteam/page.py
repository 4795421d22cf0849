"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from serve_app.redteam.figures import by_kind, by_suite
from serve_app.redteam.judge import MEANINGS, OUTCOMES
from serve_app.redteam.plots import Bar, bars, stacked
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
from serve_app.redteam.suite import HARMLESS, Family

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --quiet: #5b6675; --paper: #ffffff; --line: #d8dde4; --card: #f5f7f9;
  --bad: #c2352b; --warn: #b3670a; --good: #1f7a4d; --blue: #2f66b3; --teal: #0f766e; --cyan: #58a9c9; --grey: #8b95a3;
  --violet: #7553b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --quiet: #9aa5b4; --paper: #14181f; --line: #303946;
  --card: #1c222c; --bad: #ef6d62; --warn: #e2a04a; --good: #52b788; --blue: #6fa0e6; --teal: #2ea88f; --cyan: #a5dcf0;
  --grey: #76818f;
  --violet: #a98be0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { color: var(--quiet); font-weight: 600; } tbody th { font-weight: 600; } tbody th .quiet { font-weight: 400; }
.verdict { padding: .75rem 1rem; border-left: 5px solid var(--good); background: var(--card); }
.verdict.broken { border-color: var(--bad); } .verdict.unknown { border-color: var(--grey); }
.verdict ul { margin: .4rem 0 0; padding-left: 1.2rem; }
.worse { color: var(--bad); } .better { color: var(--good); } .quiet { color: var(--quiet); }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; margin-bottom: .25rem; }
svg { width: 100%; max-width: 46rem; height: auto; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .label { text-anchor: end; } svg .tick { text-anchor: middle; fill: var(--quiet); }
svg .value { fill: var(--quiet); } svg .grid { stroke: var(--line); }
svg .range { stroke: var(--ink); fill: none; opacity: .65; } svg .before { stroke: var(--ink); stroke-width: 2.5; }
.attack { fill: var(--bad); } .kept { fill: var(--blue); }
.false { fill: var(--warn); }
.blocked { fill: var(--blue); background: var(--blue); } .withheld { fill: var(--teal); background: var(--teal); }
.refused { fill: var(--violet); background: var(--violet); } .unanswered { fill: var(--line); background: var(--line); }
.answered { fill: var(--good); background: var(--good); } .complied { fill: var(--bad); background: var(--bad); }
.stopped { fill: var(--cyan); background: var(--cyan); }
.undecided { fill: var(--warn); background: var(--warn); } .error { fill: var(--grey); background: var(--grey); }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: 0; font-size: .9rem; }
.key span { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; }
article { background: var(--card); border: 1px solid var(--line); padding: .75rem 1rem; margin: .75rem 0; }
article h3 { margin: 0; font-size: .95rem; overflow-wrap: anywhere; } article p { margin: .3rem 0; }
blockquote { margin: .3rem 0; padding-left: .75rem; border-left: 3px solid var(--line); overflow-wrap: anywhere; }
@media print { body { max-width: none; } article, figure { break-inside: avoid; } }
"""


def page(run: Run, last: Mapping[str, Any] | None) -> str:
    """Everything that came from a suite or a target is escaped: an attack must not run in its own report."""
    sections = (
        f"<h1>Red team report</h1>{_facts(run)}{_gates(run)}",
        *(f'<p class="quiet">{escape(note)}</p>' for note in run.notes),
        f"<h2>By family</h2>{_families(run, last)}<p><strong>{escape(caveat(run))}</strong></p>",
        f"<p>{escape(compared_with(run, last))}</p>",
        f"<h2>Plots</h2>{_plots(run, last)}",
        f"<h2>By suite</h2>{_suites(run)}",
        _kinds(run),
        f"<h2>Worst examples</h2>{_examples(worst(run.attempts))}",
        f"<h2>How to read this</h2>{_reading()}",
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # An attack that got past the escaping would still find nothing that may run or be fetched.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Red team: {escape(run.model)}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _facts(run: Run) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escape(value)}</dd>' for name, value in facts(run))}</dl>"


def _gates(run: Run) -> str:
    if run.gates is None:
        return '<div class="verdict unknown" role="status">Gates were not judged.</div>'
    if not run.gates:
        return '<div class="verdict" role="status">All gates hold.</div>'
    broken = "".join(f"<li>{escape(gate)}</li>" for gate in run.gates)
    return f'<div class="verdict broken" role="status">Gates passed over:<ul>{broken}</ul></div>'


def _families(run: Run, last: Mapping[str, Any] | None) -> str:
    difference = changes(run, last)
    rows = []
    for family, found in run.families.items():
        cells = (
            str(found.attempts),
            str(found.counts["error"]),
            with_interval(found.attack_success, found.decided) + _moved(difference.get((family, "attack_success"))),
            with_interval(found.reached, found.tried) + _moved(difference.get((family, "reached"))),
            with_interval(found.false_refusals, found.tried) + _moved(difference.get((family, "false_refusals"))),
        )
        rows.append((family.replace("_", " "), *cells))
    return _table(("family", "attempts", "errors", "attack success", "reached", "false refusals"), rows)


def _moved(change: Change | None) -> str:
    """Less is better for every share that is shown."""
    if change is None:
        return ""
    if abs(change.points) < 0.05:
        return ' <span class="quiet">=</span>'
    tone, arrow = ("worse", "▲") if change.points > 0 else ("better", "▼")
    return f' <span class="{tone}">{arrow} {abs(change.points):.1f}</span>'


def _plots(run: Run, last: Mapping[str, Any] | None) -> str:
    difference = changes(run, last)
    attacks = {family: found for family, found in run.families.items() if family != HARMLESS}
    harmless = {suite: found for (suite, family), found in by_suite(run.attempts).items() if family == HARMLESS}
    drawn = [stacked("What became of the attempts", {family: found.counts for family, found in run.families.items()})]
    drawn.append(_key())
    if attacks:
        success = [
            Bar(family, found.attack_success, found.decided, _before(difference, family, "attack_success"))
            for family, found in attacks.items()
        ]
        drawn.append(bars("Attack success, by family: less is better", success, "attack"))
        kept = [Bar(family, found.blocked, found.tried) for family, found in attacks.items()]
        drawn.append(bars("Blocked or withheld before the model, by family: more is better", kept, "kept"))
    if harmless:
        refused = [Bar(suite, found.false_refusals, found.tried) for suite, found in harmless.items()]
        drawn.append(bars("Harmless questions refused, by suite: less is better", refused, "false"))
    return "".join(drawn) + '<p class="quiet">Thin lines are 95 % intervals; a thick tick is the last report.</p>'


def _before(difference: Mapping[tuple[Family, str], Change], family: Family, name: str) -> float | None:
    change = difference.get((family, name))
    return change.before if change else None


def _key() -> str:
    entries = "".join(f'<li><span class="{outcome}"></span>{outcome}</li>' for outcome in OUTCOMES)
    return f'<ul class="key">{entries}</ul>'


def _suites(run: Run) -> str:
    columns = occurring(run)
    rows = [
        (
            f'{escape(suite)}<br><span class="quiet">{family.replace("_", " ")}</span>',
            *(percent(getattr(found, name)) for name in SHARES),
            *(str(found.counts[outcome]) for outcome in columns),
        )
        for (suite, family), found in by_suite(run.attempts).items()
    ]
    return _table(("suite and family", "attack success", "reached", "false refusals", *columns), rows) + _policies(run)


def _kinds(run: Run) -> str:
    rows = [
        (
            f'{escape(clipped(kind, 80))}<br><span class="quiet">{family.replace("_", " ")}</span>',
            str(found.attempts),
            *(percent(getattr(found, name)) for name in SHARES),
        )
        for (family, kind), found in by_kind(run.attempts).items()
    ]
    table = _table(("kind and family", "attempts", "attack success", "reached", "false refusals"), rows)
    return f"<h2>By kind</h2><details><summary>{len(rows)} kinds</summary>{table}</details>" if rows else ""


def _policies(run: Run) -> str:
    named = {family: found.policies for family, found in run.families.items() if found.policies}
    told = {
        family: ", ".join(f"{name} {count}" for name, count in policies.items()) for family, policies in named.items()
    }
    lines = (f"<li>{family.replace('_', ' ')}: {escape(policies)}</li>" for family, policies in told.items())
    return f"<p>Policies that the target named when it blocked:</p><ul>{''.join(lines)}</ul>" if named else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _examples(shown: Sequence[Attempt]) -> str:
    return "".join(map(_example, shown)) or "<p>None: no attack worked, and no harmless question was refused.</p>"


def _example(attempt: Attempt) -> str:
    verdict, document = attempt.verdict, escape(clipped(attempt.probe.document))
    planted = f"<p>Planted in</p><blockquote>{document}</blockquote>" if document else ""
    return (
        f"<article><h3>{attempt.probe.family.replace('_', ' ')} · {escape(attempt.probe.id)}</h3>"
        f'<p class="quiet">{verdict.outcome}: {escape(clipped(verdict.reason))}</p>'
        f"<p>Said</p><blockquote>{escape(clipped(attempt.probe.prompt))}</blockquote>"
        f"{planted}<p>Answer</p><blockquote>{escape(clipped(attempt.reply.text)) or '(empty)'}</blockquote></article>"
    )


def _reading() -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in READING)
    meanings = "".join(f"<dt>{outcome}</dt><dd>{escape(meaning)}</dd>" for outcome, meaning in MEANINGS.items())
    return f"<ul>{notes}</ul><dl>{meanings}</dl>"
