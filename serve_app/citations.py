"""Turns the markers `[1]` of an answer into OpenAI's `annotations` and a list of what was cited."""

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.events import Delta, Events
from serve_app.sentences import FENCE
from serve_app.support import last_claim, supported
from serve_app.turn import Passage

MARKER = re.compile(r"\[(\d{1,3})\]")
LONGEST_MARKER = len("[999]")
SNIPPET_CHARACTERS = 300
MOST_CLAIMED = 1_000
"""Characters before a marker in which the sentence is looked for that it stands for."""
_PIECE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class _Marker:
    number: int
    start: int
    end: int
    """In characters of the whole answer: `content[start:end]` is the marker."""
    claim: str
    """The sentence it stands for."""


@dataclass(frozen=True, slots=True)
class _Cited:
    """What is known of a passage that was cited."""

    said: bool | None
    """Whether it says all that it is cited for."""
    claim: str
    """The first sentence it is cited for."""


@dataclass
class _Choice:
    """How far one choice has come: its last line, and what was said since the last marker."""

    before: int = 0
    """Characters before the line."""
    line: str = ""
    read: int = 0
    """Of the line: no marker begins before."""
    is_code: bool = False
    """The line stands inside a fence, where `[1]` is an index."""
    said: str = ""
    claim: str = ""

    def markers(self, text: str) -> list[_Marker]:
        """Those that `text` completes."""
        return [marker for piece in _PIECE.findall(text) for marker in self._in_line(piece)]

    def _in_line(self, piece: str) -> list[_Marker]:
        self.line += piece
        found = []
        for match in MARKER.finditer(self.line, self.read):
            self.said += self.line[self.read : match.start()]
            self.read = match.end()
            if self.is_code or self.line.count("`", 0, match.start()) % 2:
                self.said += match[0]
                continue
            self.claim = last_claim(self.said[-MOST_CLAIMED:]) or self.claim
            self.said = ""
            start, end = self.before + match.start(), self.before + match.end()
            found.append(_Marker(int(match[1]), start, end, self.claim))
        ends = piece.endswith("\n")
        unread = len(self.line) if ends else max(self.read, len(self.line) - LONGEST_MARKER + 1)
        self.said = (self.said + self.line[self.read : unread])[-MOST_CLAIMED:]
        self.read = unread
        if ends:
            self.is_code ^= FENCE.match(self.line) is not None
            self.before, self.line, self.read = self.before + len(self.line), "", 0
        return found


@dataclass
class Citations:
    """The annotations of one answer, made while it streams."""

    passages: tuple[Passage, ...]
    _cited: dict[int, _Cited] = field(default_factory=dict)
    """By number of the passage."""
    _choices: dict[int, _Choice] = field(default_factory=dict)

    async def annotated(self, events: Events) -> Events:
        """The same events; a delta that completes a marker carries its annotation and the `citations` so far.

        The last delta carries them all, also where there are none. A marker without a passage stays as it is, not
        linked to anything: in `names[7]` it is none.
        """
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Delta) and self.passages:
                    event = self._annotate(event) if event.text else event
                    if event.finish_reason:
                        event = self._listing(event)
                yield event

    def listed(self) -> list[dict[str, Any]]:
        return [_listed(number, self.passages[number - 1], cited) for number, cited in sorted(self._cited.items())]

    def _annotate(self, delta: Delta) -> Delta:
        markers = self._choices.setdefault(delta.choice, _Choice()).markers(delta.text)
        known = [marker for marker in markers if 1 <= marker.number <= len(self.passages)]
        if not known:
            return delta
        for marker in known:
            self._check(marker)
        annotations = [annotation(self.passages[m.number - 1], m.start, m.end) for m in known]
        return self._listing(replace(delta, fields={**delta.fields, "annotations": annotations}))

    def _check(self, marker: _Marker) -> None:
        """A passage supports an answer when it supports every sentence that cites it."""
        found = supported(marker.claim, self.passages[marker.number - 1])
        before = self._cited.get(marker.number, _Cited(True, marker.claim))
        self._cited[marker.number] = _Cited(weakest((before.said, found)), before.claim)

    def _listing(self, delta: Delta) -> Delta:
        return replace(delta, envelope={**delta.envelope, "citations": self.listed()})


def weakest(verdicts: Sequence[bool | None]) -> bool | None:
    return False if False in verdicts else None if None in verdicts else True


def _listed(number: int, passage: Passage, cited: _Cited) -> dict[str, Any]:
    """Manta's own form of a citation; `supported` is null where words do not tell."""
    return {
        "index": number,
        "file_id": passage.file_id,
        "source": passage.source,
        "title": passage.title,
        "heading": passage.heading,
        "place": passage.place,
        "page": passage.page,
        "score": round(passage.score, 4),
        "supported": cited.said,
        "snippet": snippet(passage.text, cited.claim),
    }


def snippet(text: str, claim: str) -> str:
    """The beginning of the passage, or of what it is cited for where that stands further down."""
    at = text.find(claim)
    start = at if at + len(claim) > SNIPPET_CHARACTERS else 0
    return text[start : start + SNIPPET_CHARACTERS]


def annotation(passage: Passage, start: int, end: int) -> Mapping[str, Any]:
    """OpenAI's url_citation: `content[start:end]` is the marker."""
    return {
        "type": "url_citation",
        "url_citation": {
            "start_index": start,
            "end_index": end,
            "url": passage.source if "://" in passage.source else f"/v1/files/{passage.file_id}/content",
            "title": passage.place,
        },
    }
