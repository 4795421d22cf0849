"""How good findings are: what they reach of marked text, how many are right, how many stand on pages without names."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from serve_app.turn import Finding


class Span(NamedTuple):
    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Verdicts:
    """Adds up; ask when all is added."""

    spans: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: int = 0
    words: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[Span, str]] = field(default_factory=list)
    """With the text they stand in."""
    mistaken: list[tuple[Finding, str]] = field(default_factory=list)

    def add(self, text: str, spans: Sequence[Span], findings: Sequence[Finding]) -> None:
        """A text whose every span is marked."""
        for span in spans:
            covered = sum(max(0, min(f.end, span.end) - max(f.start, span.start)) for f in findings)
            self.spans[span.kind] += 1
            if covered * 2 >= span.end - span.start:
                self.reached[span.kind] += 1
            else:
                self.missed.append((span, text))
        for finding in findings:
            if any(finding.start < span.end and span.start < finding.end for span in spans):
                self.right += 1
            else:
                self.wrong += 1
                self.mistaken.append((finding, text))

    def read(self, source: str, findings: Sequence[Finding], text: str) -> None:
        """A page without names: every finding is a false alarm."""
        self.words[source] += len(text.split())
        self.alarms[source] += len(findings)
        self.mistaken += [(finding, text) for finding in findings]

    def reach(self) -> dict[str, dict[str, float]]:
        return {
            kind: {"spans": count, "share": round(self.reached[kind] / count, 4)}
            for kind, count in sorted(self.spans.items())
        }

    def precision(self) -> float:
        return round(self.right / max(1, self.right + self.wrong), 4)

    def false_per_500_words(self) -> dict[str, float]:
        return {source: round(500 * self.alarms[source] / count, 2) for source, count in sorted(self.words.items())}
