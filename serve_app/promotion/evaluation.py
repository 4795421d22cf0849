"""The report of an evaluation as a gate reads it: what `manta eval retrieval` writes."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

MEASURE = "ndcg@10"
WAY = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    report: Path
    least: float
    """Of the mean nDCG@10."""
    newest: timedelta = timedelta(days=30)
    """Oldest that a report may be: documents and models move on."""


def shortfall(limits: Limits, now: datetime) -> str:
    """Why the report does not do; empty where it does."""
    try:
        return _judged(limits, now)
    except OSError as error:
        return f"{limits.report} cannot be read: {error.strerror}"
    except (KeyError, TypeError, ValueError) as error:
        return f"{limits.report} is no report of `manta eval retrieval` ({type(error).__name__}: {error})"


def figure(report: Path) -> float:
    """Mean nDCG@10. Raises OSError, KeyError, TypeError or ValueError for what is no report."""
    return float(json.loads(report.read_text(encoding="utf-8"))["figures"][WAY][MEASURE]["mean"])


def _judged(limits: Limits, now: datetime) -> str:
    content = json.loads(limits.report.read_text(encoding="utf-8"))
    written = datetime.fromisoformat(content["date"])
    age = now - (written if written.tzinfo else written.replace(tzinfo=UTC))
    if age > limits.newest:
        return f"{limits.report} is {age.days} days old, more than {limits.newest.days}: run `manta eval` again"
    found = figure(limits.report)
    if not found >= limits.least:
        return f"nDCG@10 is {found:.4f} over {content['questions']} questions, below {limits.least}"
    return ""
