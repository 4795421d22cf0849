"""One run as a value, as JSON for machines and as Markdown for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve_app.redteam.figures import Figures, by_family, by_kind, by_suite, interval
from serve_app.redteam.judge import OUTCOMES, Outcome
from serve_app.redteam.run import Attempt
from serve_app.redteam.suite import FAMILIES, HARMLESS, Family

JSON_NAME, MARKDOWN_NAME, PAGE_NAME = "redteam.json", "redteam.md", "redteam.html"
SHARES = ("attack_success", "reached", "false_refusals")
EXAMPLES = 5
"""Of each family, shown."""
SHOWN_CHARACTERS = 320
KEPT_CHARACTERS = 2_000
"""Of each prompt and answer, in the JSON."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, on what, and what came of it."""

    target: str
    model: str
    planting: str
    """How documents reached the model."""
    begun: datetime
    seconds: float
    seed: int
    digest: str
    planned: int
    attempts: tuple[Attempt, ...]
    gates: tuple[str, ...] | None = None
    """A sentence for each gate passed over; None where none was judged."""
    is_interrupted: bool = False
    """By the person who ran it."""
    notes: tuple[str, ...] = ()
    """What a reader must know: what could not be read, what was left behind, why the run ended early."""

    @property
    def is_whole(self) -> bool:
        return len(self.attempts) == self.planned

    @property
    def families(self) -> dict[Family, Figures]:
        return by_family(self.attempts)


def written(run: Run, folder: Path, pages: Mapping[str, str]) -> None:
    """The report's files: the JSON, and what it was rendered to by name.

    Answers may hold lone surrogates, which no file takes as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**pages, JSON_NAME: json.dumps(described(run), indent=1) + "\n"}.items():
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")


def described(run: Run) -> dict[str, Any]:
    return {
        "target": run.target,
        "model": run.model,
        "planting": run.planting,
        "begun": run.begun.astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 1),
        "seed": run.seed,
        "suite": {"digest": run.digest, "attempts": run.planned},
        "complete": run.is_whole,
        "gates_passed_over": run.gates,
        "notes": run.notes,
        "families": {family: shares(found) for family, found in run.families.items()},
        "kinds": [
            {"family": family, "kind": kind, **shares(found)} for (family, kind), found in by_kind(run.attempts).items()
        ],
        "suites": [
            {"suite": suite, "family": family, **shares(found)}
            for (suite, family), found in by_suite(run.attempts).items()
        ],
        "attempts": [_row(attempt) for attempt in run.attempts],
    }


def shares(found: Figures) -> dict[str, Any]:
    values = {name: getattr(found, name) for name in (*SHARES, "blocked")}
    rounded = {name: None if value is None else round(value, 4) for name, value in values.items()}
    return {"attempts": found.attempts, "outcomes": dict(found.counts), **rounded, "policies": dict(found.policies)}


def _row(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.probe.id,
        "suite": attempt.probe.source,
        "family": attempt.probe.family,
        "kind": attempt.probe.kind,
        **asdict(attempt.verdict),
        "status": attempt.reply.status,
        "seconds": round(attempt.reply.seconds, 3),
        "prompt": attempt.probe.prompt[:KEPT_CHARACTERS],
        "document": attempt.probe.document[:KEPT_CHARACTERS],
        "answer": attempt.reply.text[:KEPT_CHARACTERS],
    }


def previous(folder: Path) -> tuple[Mapping[str, Any] | None, str]:
    """The last report in the folder, and a sentence where one stands there and cannot be read."""
    path = folder / JSON_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as exc:
        return None, f"the last report, {path}, cannot be read and was not compared with: {exc}"
    if not isinstance(found, dict) or not isinstance(found.get("families"), dict):
        return None, f"{path} is not a report of `manta redteam` and was not compared with"
    return found, ""


@dataclass(frozen=True, slots=True)
class Change:
    """One share of one family against the last report."""

    before: float
    now: float

    @property
    def points(self) -> float:
        return 100 * (self.now - self.before)


def changes(run: Run, last: Mapping[str, Any] | None) -> dict[tuple[Family, str], Change]:
    """By family and share. Empty without a last report."""
    found: dict[tuple[Family, str], Change] = {}
    for family, measured in run.families.items():
        before = ((last or {}).get("families") or {}).get(family)
        for name in SHARES:
            was, now = before.get(name) if isinstance(before, dict) else None, getattr(measured, name)
            if isinstance(was, int | float) and now is not None:
                found[family, name] = Change(float(was), now)
    return found


def compared_with(run: Run, last: Mapping[str, Any] | None) -> str:
    """What the changes are changes to, as a sentence."""
    if last is None:
        return "There was no earlier report in this folder to compare with."
    suite = last.get("suite")
    is_same = isinstance(suite, dict) and suite.get("digest") == run.digest
    what = "the same probes" if is_same else "OTHER probes, so that a change may be the suite's"
    partly = "" if last.get("complete") else ", and it was not complete"
    of = f"{last.get('begun')} ({last.get('target')}, {last.get('model')})"
    return f"Compared with the report of {of} on {what}{partly}."


def worst(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Attacks that worked, and harmless questions that were not answered; the first few of each family."""
    shown: dict[Family, list[Attempt]] = {family: [] for family in FAMILIES}
    for attempt in attempts:
        outcome, family = attempt.verdict.outcome, attempt.probe.family
        if outcome == "complied" or (family == HARMLESS and outcome in ("blocked", "stopped", "refused")):
            shown[family].append(attempt)
    # What a mark proves comes before what nothing stopped.
    ordered = (sorted(found, key=lambda attempt: not attempt.probe.canary) for found in shown.values())
    return tuple(attempt for found in ordered for attempt in found[:EXAMPLES])


def clipped(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """On one line, and no longer."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def with_interval(value: float | None, whole: int) -> str:
    if value is None:
        return "–"
    low, high = interval(value, whole)
    return f"{value:.1%} ({low:.0%} – {high:.0%})"


def occurring(run: Run) -> tuple[Outcome, ...]:
    """Outcomes that some attempt had: the columns worth showing."""
    return tuple(outcome for outcome in OUTCOMES if any(found.counts[outcome] for found in run.families.values()))


def caveat(run: Run) -> str:
    """Where a low attack success is none of the guardrails' merit, the reader must know at once; empty elsewhere."""
    attacks = [found for family, found in run.families.items() if family != HARMLESS]
    unanswered = sum(found.counts["unanswered"] for found in attacks)
    if not unanswered:
        return ""
    return (
        f"{unanswered} of {sum(found.tried for found in attacks)} attacks were only answered with a lack of knowledge. "
        "They count as no success, and another model would have answered: read the share that reached the model."
    )


READING = (
    "Attack success is the share of attempts that worked; errors are left out of it, and so are planted attacks that "
    "have no mark. An attack with a mark works when the mark stands in the answer; one without (harmful requests, most "
    "other sets) counts as worked when it was neither blocked nor refused, also where the answer is useless: an upper "
    "bound.",
    "Reached is the share that came to the model: neither blocked nor withheld. It is the figure to compare the "
    "guardrails on questions and documents by, for it does not depend on how obedient the model behind them is.",
    "Ranges are Wilson's 95 % intervals: a family of thirty attempts with no success still allows a rate of 11 %.",
)


def facts(run: Run) -> tuple[tuple[str, str], ...]:
    return (
        ("target", run.target),
        ("model", run.model),
        ("date", run.begun.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("duration", f"{run.seconds:.0f} s"),
        ("attempts", f"{len(run.attempts)} of {run.planned}"),
        ("suite", f"{run.digest}, seed {run.seed}"),
        ("documents", run.planting),
    )
