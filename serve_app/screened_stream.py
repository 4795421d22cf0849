"""One text of an answer, screened as it grows: what has left was screened, and only the open tail is held."""

import asyncio
import json
import re
from dataclasses import dataclass, field

from serve_app.errors import ScreenerUnavailable
from serve_app.placeholders import PLACEHOLDER, Vault
from serve_app.ports import Screener
from serve_app.rules import DenyList, folded, suspicious
from serve_app.seams import ALERT, KEY_ENDS, OPENING, Units, last_seam, units
from serve_app.turn import Screening

WHITE_SPACE = re.compile(r"\s")
CONTEXT = 48
"""Characters before a stretch that the screener sees too: `my ssn is` makes nine digits a number."""
NUMBERS = ("PHONE_NUMBER", "CREDIT_CARD", "US_SSN", "IBAN_CODE")
FOOTER = 80
"""Characters kept while a key block is dropped, so that its last line is recognised."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`text[start:end]` becomes `replacement`; positions count from the start of the whole text."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True)
class AnswerPolicy:
    """What holds for every text of one answer."""

    screener: Screener
    deny: DenyList | None
    vault: Vault
    allowed: tuple[str, ...]
    window: int
    deadline_s: float
    masks: bool

    async def screen(self, texts: tuple[str, ...]) -> tuple[Screening, ...]:
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self.screener.screen(texts)
        except TimeoutError as late:
            raise ScreenerUnavailable(f"the screener did not answer within {self.deadline_s:g} s") from late

    def allows(self, kind: str, value: str) -> bool:
        """Whether the caller may see this value anyway: it stands in what the caller sent or was given."""
        seen = [text.casefold() for text in (*self.allowed, *self.vault.values())]
        if any(value.casefold() in text for text in seen):
            return True
        digits = re.sub(r"\D", "", value)
        return kind in NUMBERS and len(digits) >= 7 and any(digits in _joined(text) for text in seen)


def _joined(text: str) -> str:
    """`(415) 555-2671` and `415.555.2671` are one number."""
    return re.sub(r"(?<=[\d)])[ ()./-]{1,3}(?=\d)", "", text)


@dataclass
class Strand:
    """One text of an answer: the `content` of one choice, say."""

    policy: AnswerPolicy
    in_json: bool = False
    """Restored values are escaped: the text is the arguments of a tool call."""
    held: str = ""
    """From the last seam on."""
    origin: int = 0
    """Where `held` begins in the whole text."""
    released: int = 0
    """Up to here the text may leave; ahead of `origin` only by the opening letters."""
    edits: list[Edit] = field(default_factory=list)
    denied: bool = False
    """A denied phrase begins at `released`: nothing more may leave."""
    _before: str = ""
    _dropping_until: re.Pattern[str] | None = None

    async def advance(self, text: str, *, at_end: bool = False) -> None:
        """Take the next stretch of the text and release what can be decided. Raises ScreenerUnavailable."""
        self.held += text
        if self.origin == 0 and not at_end:
            self._open()
        deny = self.policy.deny
        calm = len(self.held) < self.policy.window and not at_end and self._dropping_until is None
        if calm and deny is None and not ALERT.search(self.held):
            self._release(last_seam(self.held))
        elif deny is None:
            await self._settle(self.origin + len(self.held), at_end=at_end)
        else:
            await self._settle_before(deny, at_end=at_end)

    async def _settle_before(self, deny: DenyList, *, at_end: bool) -> None:
        stop = deny.find(self.held, at_end=at_end)
        opened = len(self.held) if at_end else deny.begins(self.held)
        if 0 <= stop <= opened:
            self.held = self.held[:stop]
            await self._settle(self.origin + stop, at_end=True)
            self.denied = True
        else:
            await self._settle(self.origin + opened, at_end=at_end)

    def _open(self) -> None:
        """Release the letters at the very start, unless a denied phrase may begin with them."""
        deny = self.policy.deny
        if self.held and (deny is None or folded(self.held[0]) not in deny.first_characters):
            opening = OPENING.match(self.held)
            self.released = max(self.released, opening.end() if opening else 0)

    async def _settle(self, limit: int, *, at_end: bool) -> None:
        """Screen and release the units that are decided and end before `limit`, a position in the whole text."""
        window = self.policy.window
        while not self._drops(at_end=at_end):
            found = units(self.held, at_end=at_end)
            spans = (*found.spans, (found.rest, len(self.held)))
            before = limit - self.origin
            long = next((a for a, b in spans if b - a >= window and a + window <= before), None)
            if long is None:
                rest = _last_seam_before(before, found, self.held)
                await self._screen([span for span in found.spans if span[1] <= rest])
                self._release(rest)
                return
            await self._screen([span for span in found.spans if span[1] <= long])
            self._release(long)
            await self._break_up()

    async def _break_up(self) -> None:
        """Release about half a window of a unit that fills one; findings of up to half a window are seen whole."""
        window = self.policy.window
        space = max(self.held.rfind(" ", window // 4, window // 2), self.held.rfind("\n", window // 4, window // 2))
        cut = space + 1 if space >= 0 else max(1, window // 2)
        known = len(self.edits)
        await self._screen([(0, window)])
        edits = sorted(self.edits[known:], key=lambda edit: edit.start)
        for edit in edits:
            start, end = edit.start - self.origin, edit.end - self.origin
            if start < cut and end == window:
                self._dropping_until = KEY_ENDS if "-----BEGIN" in self.held[start:end] else WHITE_SPACE
            if start < cut < end:
                cut = end
        del self.edits[known:]
        self.edits += [edit for edit in edits if edit.end - self.origin <= cut]
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
        self.edits.append(Edit(self.origin, self.origin + dropped, ""))
        self._release(dropped)
        return ending is None

    async def _screen(self, spans: list[tuple[int, int]]) -> None:
        pieces = [piece for start, end in spans for piece in self._between_placeholders(start, end)]
        if not self.policy.masks or not pieces:
            return
        past = self._before + self.held
        shift = len(self._before)
        begins = [max(0, start + shift - CONTEXT) for start, _ in pieces]
        texts = tuple(past[begin : end + shift] for begin, (_, end) in zip(begins, pieces, strict=True))
        for (start, _), begin, screening in zip(pieces, begins, await self.policy.screen(texts), strict=True):
            for finding in screening.findings:
                self._mask(finding.kind, max(start, finding.start + begin - shift), finding.end + begin - shift)

    def _between_placeholders(self, start: int, end: int) -> list[tuple[int, int]]:
        """The stretches that need screening; placeholders in between are put down for restoring."""
        pieces: list[tuple[int, int]] = []
        for placeholder in PLACEHOLDER.finditer(self.held, start, end):
            value = self.policy.vault.get(placeholder[0])
            if value is not None:
                shown = json.dumps(value, ensure_ascii=False)[1:-1] if self.in_json else value
                self.edits.append(Edit(self.origin + placeholder.start(), self.origin + placeholder.end(), shown))
                pieces.append((start, placeholder.start()))
                start = placeholder.end()
        pieces.append((start, end))
        return [(a, b) for a, b in pieces if suspicious(self.held[a:b])]

    def _mask(self, kind: str, start: int, end: int) -> None:
        if start < end:
            value = self.held[start:end]
            begin = max(self.origin + start, self.released)
            shown = value[begin - self.origin - start :] if self.policy.allows(kind, value) else f"[{kind}]"
            self.edits.append(Edit(begin, self.origin + end, shown))

    def _release(self, length: int) -> None:
        """The first `length` characters of `held` may leave."""
        if length:
            self._before = (self._before + self.held[:length])[-CONTEXT:]
            self.held = self.held[length:]
            self.origin += length
            self.released = max(self.released, self.origin)


def _last_seam_before(limit: int, found: Units, text: str) -> int:
    """The last decided seam at or before `limit`."""
    if found.rest <= limit:
        return found.rest
    for start, end in found.spans:
        if start < limit <= end:
            return limit if end == limit else start
    return last_seam(text[:limit])
