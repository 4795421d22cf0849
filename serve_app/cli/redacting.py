"""Personal data out of a file's text: what was found becomes `<KIND_n>`, the same value the same everywhere."""

import html
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from serve_app.cli.reading import READERS, Part, Stretch
from serve_app.placeholders import PLACEHOLDER
from serve_app.turn import Finding

MOST_CHARS = 8_000
"""Of one text that is judged: cut where a paragraph ends, so that hardly a name is cut in two."""
CUTS = (re.compile(r"\n[ \t]*\r?\n"), re.compile(r"\n"), re.compile(r"[.!?]\s"), re.compile(r"\s"))
"""Ends of paragraphs, lines, sentences and words; the first kind that is there is taken."""
MOST_REPEATED = 2_000
"""Values looked for again over the whole file; each is one search through it."""

Judge = Callable[[Sequence[str]], Iterator[tuple[Finding, ...]]]
"""Texts to the findings in each, in order."""


@dataclass(frozen=True, slots=True)
class Redacted:
    text: str
    places: Counter[str]
    """Replacements by entity."""
    values: Counter[str]
    """Different values by entity."""


class _Names:
    """Placeholders by value; none that stands in the file already."""

    def __init__(self, text: str) -> None:
        self._taken = frozenset(PLACEHOLDER.findall(html.unescape(text)))
        self.known: dict[tuple[str, str], str] = {}
        self.counts: Counter[str] = Counter()
        self._last: Counter[str] = Counter()

    def of(self, kind: str, value: str) -> str:
        if (kind, value) not in self.known:
            self.counts[kind] += 1
            self.known[kind, value] = self._fresh(kind)
        return self.known[kind, value]

    def _fresh(self, kind: str) -> str:
        while True:
            self._last[kind] += 1
            name = f"<{kind}_{self._last[kind]}>"
            if name not in self._taken:
                return name


class Reading:
    """The parts of a file as one text."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self._stretches: list[Stretch] = []
        self._starts: list[int] = []
        texts: list[str] = []
        length = 0
        for part in parts:
            texts.append(part if isinstance(part, str) else part.text)
            if isinstance(part, Stretch):
                self._stretches.append(part)
                self._starts.append(length)
            length += len(texts[-1])
        self.text = "".join(texts)

    def within(self, start: int, end: int) -> Iterator[tuple[Stretch, int, int]]:
        """The stretches that `text[start:end]` touches, and the part of each, less the white space around it."""
        for number in range(max(0, bisect_right(self._starts, start) - 1), len(self._stretches)):
            at, part = self._starts[number], self._stretches[number]
            if at >= end:
                return
            begin, stop = max(0, start - at), min(len(part.text), end - at)
            touched = part.text[begin:stop]
            if touched.strip():
                begin += len(touched) - len(touched.lstrip())
                yield part, begin, begin + len(touched.strip())


def redacted(text: str, suffix: str, judge: Judge) -> Redacted:
    """Raises ValueError with a sentence where the file is not what its suffix says."""
    check(text, suffix)
    reading = Reading(READERS[suffix](text))
    names, places, edits = _Names(text), Counter[str](), []
    for found in disjoint(findings(reading.text, judge), reading.text):
        for part, start, end in reading.within(found.start, found.end):
            name = names.of(found.kind, part.text[start:end])
            edits.append(_edit(part, start, end, html.escape(name) if suffix in (".html", ".htm") else name))
            places[found.kind] += 1
    changed = applied(text, edits)
    check(changed, suffix)
    return Redacted(changed, places, names.counts)


def findings(text: str, judge: Judge) -> list[Finding]:
    """Of the whole text, judged in pieces; positions count from its start."""
    pieces = list(cut(text))
    found: list[Finding] = []
    for (start, _), judged in zip(pieces, judge([text[start:end] for start, end in pieces]), strict=True):
        found += [Finding(one.kind, start + one.start, start + one.end, one.score) for one in judged]
    return found


def cut(text: str) -> Iterator[tuple[int, int]]:
    """Pieces of at most `MOST_CHARS`, each ending as late as it can at the best kind of end; blank ones left out."""
    start = 0
    while start < len(text):
        end = min(len(text), start + MOST_CHARS)
        if end < len(text):
            ends = ([match.end() for match in kind.finditer(text, start, end)] for kind in CUTS)
            end = next((found[-1] for found in ends if found), end)
        if text[start:end].strip():
            yield start, end
        start = end


def disjoint(found: Sequence[Finding], text: str) -> list[Finding]:
    """In order, and with every further place of a value that can only be itself: digits, an `@`, two words."""
    values = list(dict.fromkeys((one.kind, text[one.start : one.end]) for one in found))
    telling = [(kind, value) for kind, value in values if re.search(r"[\d@]|\w\s+\w", value)]
    repeated = [again for kind, value in telling[:MOST_REPEATED] for again in occurrences(kind, value, text)]
    kept: list[Finding] = []
    # What was found where it stands goes before what is only the same letters.
    for one in sorted([*found, *repeated], key=lambda one: (one.start, -one.score, -one.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


def occurrences(kind: str, value: str, text: str) -> Iterator[Finding]:
    """Where the value stands as words of its own."""
    at = text.find(value)
    while at >= 0:
        end = at + len(value)
        if not text[at - 1 : at].isalnum() and not text[end : end + 1].isalnum():
            yield Finding(kind, at, end, 0.0)
        at = text.find(value, end)


def _edit(part: Stretch, start: int, end: int, written: str) -> tuple[int, int, str]:
    if part.is_number:
        return part.start, part.end, f'"{written}"'
    return part.place(start), part.place(end), written


def applied(text: str, edits: list[tuple[int, int, str]]) -> str:
    pieces: list[str] = []
    position = 0
    for start, end, written in sorted(edits):
        if start >= position:
            pieces += [text[position:start], written]
            position = end
    return "".join(pieces) + text[position:]


def check(text: str, suffix: str) -> None:
    """Raises ValueError where JSON is none."""
    text = text.removeprefix("\ufeff")
    texts = text.split("\n") if suffix == ".jsonl" else [text] if suffix == ".json" else []
    for number, one in enumerate(texts, 1):
        try:
            if one.strip():
                json.loads(one)
        except ValueError as fault:
            where = f"line {number} of it" if suffix == ".jsonl" else "it"
            raise ValueError(f"{where} is not JSON ({fault}); name it .txt to redact it as plain text") from fault
