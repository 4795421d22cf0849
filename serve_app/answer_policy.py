"""What holds for every text of one answer, and the screener as an answer sees it."""

import re
from dataclasses import dataclass
from functools import cached_property

from serve_app.deadline import screened
from serve_app.errors import ScreenerUnavailable
from serve_app.leakage import Leakage
from serve_app.normalisation import unified
from serve_app.placeholders import Vault
from serve_app.ports import Screener
from serve_app.rules import DenyList
from serve_app.turn import Scope, Screening

NUMBERS = ("PHONE_NUMBER", "CREDIT_CARD", "US_SSN", "IBAN_CODE")


@dataclass
class AnswerPolicy:
    screener: Screener
    deny: DenyList | None
    vault: Vault
    allowed: tuple[str, ...]
    window: int
    deadline_s: float
    masks: bool
    scope: Scope = Scope(answer=True)
    leak: Leakage | None = None
    prose: bool = False
    """Words without a digit may be findings too (names, lexicons of one's own): whole sentences are held."""
    open_when_down: bool = False
    unscreened: bool = False
    """The screener was down and the answer goes on without it; placeholders and denied phrases need none."""

    async def screen(self, texts: tuple[str, ...]) -> tuple[Screening, ...]:
        """Raises ScreenerUnavailable; if `open_when_down`, nothing is found in the rest of the answer instead."""
        try:
            if not self.unscreened:
                return await screened(self.screener, texts, self.scope, self.deadline_s)
        except ScreenerUnavailable:
            if not self.open_when_down:
                raise
            self.unscreened = True
        return tuple(Screening() for _ in texts)

    def allows(self, kind: str, value: str) -> bool:
        """Whether the caller may see this value anyway: it stands in what the caller sent or was given."""
        if any(value.casefold() in text for text in self._known):
            return True
        digits = re.sub(r"\D", "", value)
        return kind in NUMBERS and len(digits) >= 7 and any(digits in text for text in self._known_numbers)

    @cached_property
    def _known(self) -> tuple[str, ...]:
        return tuple(unified(text).casefold() for text in (*self.allowed, *self.vault.values()))

    @cached_property
    def _known_numbers(self) -> tuple[str, ...]:
        """`(415) 555-2671` and `415.555.2671` are one number."""
        return tuple(re.sub(r"(?<=[\d)])[ ()./-]{1,3}(?=\d)", "", text) for text in self._known)
