"""What came of one step of a validation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["passed", "warning", "failed", "skipped"]
ORDER: tuple[State, ...] = ("skipped", "passed", "warning", "failed")
"""Of several in one step the last of these counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    state: State
    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def passed(words: str, **figures: Any) -> Finding:
    return Finding(state="passed", words=words, figures=figures)


def warning(words: str, **figures: Any) -> Finding:
    return Finding(state="warning", words=words, figures=figures)


def failed(words: str, **figures: Any) -> Finding:
    return Finding(state="failed", words=words, figures=figures)


def skipped(words: str) -> Finding:
    return Finding(state="skipped", words=words)


def together(findings: list[Finding]) -> Finding:
    """The worst state of them, and the words of those that have it; all figures."""
    state = max((one.state for one in findings), key=ORDER.index)
    words = "; ".join(one.words for one in findings if one.state == state)
    figures = {name: value for one in findings for name, value in one.figures.items()}
    return Finding(state=state, words=words, figures=figures)
