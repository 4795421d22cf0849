"""One text of an answer, screened as it grows: what has left was screened, and only the open tail is held."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from serve_app.answer_policy import AnswerPolicy as AnswerPolicy
from serve_app.leakage import Decoded, Trace
from serve_app.normalisation import unified
from serve_app.rules import suspicious
from serve_app.seams import ALERT, KEY_ENDS, Units, last_seam, sentences, units

BACKSLASH = "\\"
WHITE_SPACE = re.compile(r"\s")
USUAL = re.compile(r"[\t-\r -~]*")
"""Characters that are what they look like."""
RESTORED = re.compile(r"(?:<|&lt;)([A-Z][A-Z0-9]*(?:\\?_[A-Z0-9]+)*\\?_\d+)(?:>|&gt;)")
"""A placeholder as engines repeat it: also escaped for Markdown or HTML."""
JSON = re.compile(r"([^\\]+)|\\u([0-9A-Fa-f]{4})|(\\(?:u[0-9A-Fa-f]{0,3})?\Z)|\\([\s\S])")
"""Characters, the code of an escaped one, an escape that is not complete, an escaped character."""
CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "b": "", "f": ""}
CONTEXT = 48
"""Characters before a stretch that the screener sees too: `my ssn is` makes nine digits a number."""
STRETCH = 4_096
"""Characters taken at once of a text that came whole."""
FOOTER = 80
"""Characters kept while a key block is dropped, so that its last line is recognised."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`text[start:end]` becomes `replacement`."""

    start: int
    end: int
    replacement: str


@dataclass
class Strand:
    """One text of an answer: the `content` of one choice, say.

    It works on the text as a reader sees it, without invisible characters and with compatibility forms unified, and
    knows where each character of what it holds was written.
    """

    policy: AnswerPolicy
    in_json: bool = False
    """The text is the arguments of a tool call: escapes are read, and restored values are escaped."""
    taken: int = 0
    """Characters so far, as written."""
    edits: list[Edit] = field(default_factory=list)
    """In positions of the text as written."""
    denied: bool = False
    """What may not be said begins at `released`: nothing more may leave."""
    held: str = ""
    """From the last seam on, as seen."""
    _places: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)
    """From where to where each held character was written."""
    _origin: int = 0
    """Where `held` begins in the text as seen."""
    _incomplete: str = ""
    """An escape that goes on."""
    _before: str = ""
    _dropping_until: re.Pattern[str] | None = None
    _dropped_to: int = 0
    """Up to here, as written, a secret that goes on is dropped."""
    _traces: tuple[Trace | Decoded, ...] = ()

    def __post_init__(self) -> None:
        if self.policy.leak is not None:
            self._traces = (Trace(self.policy.leak), Decoded(self.policy.leak))

    @property
    def _read_to(self) -> int:
        return self.taken - len(self._incomplete)

    @property
    def released(self) -> int:
        """Up to here, as written, the text may leave."""
        return self._place(0)

    async def advance(self, text: str, *, at_end: bool = False) -> None:
        """Take the next stretch of the text and release what can be decided. Raises ScreenerUnavailable."""
        while len(text) > STRETCH and not self.denied:
            await self._advance(text[:STRETCH], at_end=False)
            text = text[STRETCH:]
        if not self.denied:
            await self._advance(text, at_end=at_end)

    async def _advance(self, text: str, *, at_end: bool) -> None:
        self._take(text, at_end=at_end)
        stop, begun = self._forbidden(at_end=at_end)
        policy = self.policy
        if stop is not None and stop <= begun:
            self.taken, self._incomplete = self._place(stop), ""
            self.held, self._places, self._ends = self.held[:stop], self._places[:stop], self._ends[:stop]
            await self._settle(stop, at_end=True)
            self.denied = True
        elif at_end or policy.prose or self._dropping_until is not None or len(self.held) >= policy.window:
            await self._settle(begun, at_end=at_end)
        elif ALERT.search(self.held):
            await self._settle(begun, at_end=False)
        else:
            self._release(_last_seam_before(begun, Units((), last_seam(self.held)), self.held))

    def _take(self, text: str, *, at_end: bool) -> None:
        begin = self._read_to
        self.taken += len(text)
        if USUAL.fullmatch(text) and not (self.in_json and (self._incomplete or BACKSLASH in text or '"' in text)):
            seen = text
            self._places += range(begin, self.taken)
            self._ends += range(begin + 1, self.taken + 1)
        else:
            seen = ""
            read = self._read(self._incomplete + text, at_end=at_end) if self.in_json else _written(text)
            for start, end, character in read:
                form = _seen(character)
                seen += form
                self._places += [begin + start] * len(form)
                self._ends += [begin + end] * len(form)
        self.held += seen
        for trace in self._traces:
            trace.take(seen)

    def _read(self, text: str, *, at_end: bool) -> Iterator[tuple[int, int, str]]:
        """As `_written`, what JSON stands for; a new line where a string begins or ends."""
        self._incomplete = ""
        for found in JSON.finditer(text):
            plain, code, incomplete, escaped = found.groups()
            if incomplete and not at_end:
                self._incomplete = incomplete
            elif plain or incomplete:
                yield from _written(found[0].replace('"', "\n"), found.start())
            else:
                yield *found.span(), chr(int(code, 16)) if code else CONTROLS.get(escaped, escaped)

    def _forbidden(self, *, at_end: bool) -> tuple[int | None, int]:
        """Where what may not be said begins in `held`, and where such a thing may have begun."""
        deny = self.policy.deny
        stops = [trace.stop for trace in self._traces]
        opens = [trace.begun for trace in self._traces if not at_end or trace.stop is not None]
        stop = min((max(0, place - self._origin) for place in stops if place is not None), default=None)
        begun = min((max(0, place - self._origin) for place in opens if place is not None), default=len(self.held))
        if deny is not None:
            found = deny.find(self.held, at_end=at_end)
            begun = min(begun, len(self.held) if at_end else deny.begins(self.held))
            stop = found if found >= 0 and (stop is None or found < stop) else stop
        return stop, begun

    async def _settle(self, limit: int, *, at_end: bool) -> None:
        """Screen and release the units that are decided and end before `limit`, a position in `held`."""
        window = self.policy.window
        limit += self._origin
        while not self._drops(at_end=at_end):
            found = units(self.held, at_end=at_end)
            if self.policy.prose:
                found = sentences(self.held, found, at_end=at_end)
            spans = (*found.spans, (found.rest, len(self.held)))
            before = limit - self._origin
            long = next((a for a, b in spans if b - a >= window and a + window <= before), None)
            rest = _last_seam_before(before, found, self.held) if long is None else long
            self._edit(await self._screen([span for span in found.spans if span[1] <= rest]))
            self._release(rest)
            if long is None:
                return
            await self._break_up()

    async def _break_up(self) -> None:
        """Release about half a window of a unit that fills one; findings of up to half a window are seen whole."""
        window = self.policy.window
        space = max(self.held.rfind(" ", window // 4, window // 2), self.held.rfind("\n", window // 4, window // 2))
        cut = space + 1 if space >= 0 else max(1, window // 2)
        masked: list[Edit] = []
        for edit in sorted(await self._screen([(0, window)]), key=lambda edit: edit.start):
            end = edit.end
            if edit.start < cut and end == window:
                self._dropping_until = WHITE_SPACE
                if "-----BEGIN" in self.held[edit.start : end]:
                    self._dropping_until = KEY_ENDS
                    cut = end = max(edit.start + 1, window - FOOTER)
            if edit.start < cut:
                cut = max(cut, end)
                masked.append(replace(edit, end=end))
        self._edit(masked)
        if self._dropping_until is not None:
            self._dropped_to = self.edits[-1].end
        self._release(cut)

    def _drops(self, *, at_end: bool) -> bool:
        """Drop the rest of a secret that is longer than the window; whether all of `held` belongs to it."""
        until = self._dropping_until
        if until is None:
            return False
        ending = until.search(self.held)
        if ending is None:
            dropped = len(self.held) if at_end or until is WHITE_SPACE else max(0, len(self.held) - FOOTER)
        else:
            dropped = ending.start() if until is WHITE_SPACE else ending.end()
            self._dropping_until = None
        end = self._ends[dropped - 1] if ending is not None and until is KEY_ENDS else self._place(dropped)
        self.edits.append(Edit(self._dropped_to, end, ""))
        self._dropped_to = end
        self._release(dropped)
        return ending is None

    async def _screen(self, spans: list[tuple[int, int]]) -> list[Edit]:
        """What these stretches of `held` need: placeholders restored, findings masked."""
        edits, pieces = self._between_placeholders(spans)
        if not self.policy.masks or not pieces:
            return edits
        past = self._before + self.held
        shift = len(self._before)
        begins = [max(0, start + shift - CONTEXT) for start, _ in pieces]
        texts = tuple(past[begin : end + shift] for begin, (_, end) in zip(begins, pieces, strict=True))
        for (first, _), begin, screening in zip(pieces, begins, await self.policy.screen(texts), strict=True):
            for finding in screening.findings:
                start, end = max(first, finding.start + begin - shift), finding.end + begin - shift
                if start < end and not self.policy.allows(finding.kind, self.held[start:end]):
                    edits.append(Edit(start, end, f"[{finding.kind}]"))
        return edits

    def _between_placeholders(self, spans: list[tuple[int, int]]) -> tuple[list[Edit], list[tuple[int, int]]]:
        """How placeholders are restored, and the stretches beside them that need screening."""
        edits: list[Edit] = []
        pieces: list[tuple[int, int]] = []
        for start, end in spans:
            for placeholder in RESTORED.finditer(self.held, start, end):
                value = self.policy.vault.get(f"<{placeholder[1].replace(BACKSLASH, '')}>")
                if value is not None:
                    shown = json.dumps(value, ensure_ascii=False)[1:-1] if self.in_json else value
                    edits.append(Edit(*placeholder.span(), shown))
                    pieces.append((start, placeholder.start()))
                    start = placeholder.end()
            pieces.append((start, end))
        return edits, [(a, b) for a, b in pieces if self.policy.prose or suspicious(self.held[a:b])]

    def _edit(self, edits: Iterable[Edit]) -> None:
        """Put down edits of `held` for the text as written; one character may be seen as several."""
        for edit in edits:
            if edit.start < edit.end:
                self.edits.append(Edit(self._places[edit.start], self._ends[edit.end - 1], edit.replacement))

    def _place(self, position: int) -> int:
        return self._places[position] if position < len(self._places) else self._read_to

    def _release(self, length: int) -> None:
        """The first `length` characters of `held` may leave."""
        if length:
            self._before = (self._before + self.held[:length])[-CONTEXT:]
            self.held, self._places, self._ends = self.held[length:], self._places[length:], self._ends[length:]
            self._origin += length


def _written(text: str, begin: int = 0) -> Iterator[tuple[int, int, str]]:
    """Each character, and from where to where it is written."""
    return ((place, place + 1, character) for place, character in enumerate(text, begin))


def _last_seam_before(limit: int, found: Units, text: str) -> int:
    """The last decided seam at or before `limit`."""
    if found.rest <= limit:
        return found.rest
    for start, end in found.spans:
        if start < limit <= end:
            return limit if end == limit else start
    return last_seam(text[:limit])


@lru_cache(maxsize=4096)
def _seen(character: str) -> str:
    return character if USUAL.fullmatch(character) else unified(character)
