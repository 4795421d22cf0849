"""Turns the markers `[1]` of an answer into OpenAI's `annotations` and a list of what was cited."""

import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.events import Delta, Events
from serve_app.turn import Passage

MARKER = re.compile(r"\[(\d{1,3})\]")
LONGEST_MARKER = len("[999]")
SNIPPET_CHARACTERS = 300


@dataclass
class _Choice:
    """How far one choice has come: characters sent, and the tail in which a marker may be unfinished."""

    sent: int = 0
    tail: str = ""

    def markers(self, text: str) -> list[tuple[int, int, int]]:
        """(number, start, end) of the markers completed by `text`, in characters of the whole answer."""
        window = self.tail + text
        origin = self.sent - len(self.tail)
        self.sent += len(text)
        found = [(int(m[1]), origin + m.start(), origin + m.end()) for m in MARKER.finditer(window)]
        last = found[-1][2] - origin if found else 0
        self.tail = window[max(last, len(window) - LONGEST_MARKER + 1) :]
        return found


@dataclass
class Citations:
    """The annotations of one answer, made while it streams."""

    passages: tuple[Passage, ...]
    cited: dict[int, Passage] = field(default_factory=dict)
    _choices: dict[int, _Choice] = field(default_factory=dict)

    async def annotated(self, events: Events) -> Events:
        """The same events; a delta that completes a marker carries its annotation, the last one the `citations`."""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Delta) and self.passages:
                    event = self._annotate(event) if event.text else event
                    if event.finish_reason:
                        event = replace(event, envelope={**event.envelope, "citations": self.listed()})
                yield event

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "index": number,
                "file_id": passage.file_id,
                "source": passage.source,
                "title": passage.title,
                "heading": passage.heading,
                "place": passage.place,
                "page": passage.page,
                "score": round(passage.score, 4),
                "snippet": passage.text[:SNIPPET_CHARACTERS],
            }
            for number, passage in sorted(self.cited.items())
        ]

    def _annotate(self, delta: Delta) -> Delta:
        markers = self._choices.setdefault(delta.choice, _Choice()).markers(delta.text)
        known = [(n, start, end) for n, start, end in markers if 1 <= n <= len(self.passages)]
        if not known:
            return delta
        for number, _, _ in known:
            self.cited[number] = self.passages[number - 1]
        annotations = [annotation(self.passages[n - 1], start, end) for n, start, end in known]
        return replace(delta, fields={**delta.fields, "annotations": annotations})


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
