"""What may reach an engine, and what may leave it."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property

from serve_app.errors import ContentFiltered, MantaError, ScreenerUnavailable
from serve_app.events import Delta, Events, Finished
from serve_app.placeholders import Masking, Vault, screened_text
from serve_app.ports import Screener
from serve_app.rules import DenyList
from serve_app.screened_choice import ScreenedAnswer
from serve_app.screened_stream import AnswerPolicy
from serve_app.settings import GuardrailSettings
from serve_app.turn import Screening, Signals, Turn

POLICED_ROLES = ("user", "tool", "function")
"""Whose words may not break a policy: the operator writes system messages, engines wrote the assistant's."""


@dataclass(frozen=True)
class Guardrail:
    screener: Screener
    settings: GuardrailSettings
    injection_threshold: float

    async def screen(self, turn: Turn) -> tuple[Screening, ...]:
        """One screening per message, over all of its texts. Raises ScreenerUnavailable, also when it is late."""
        seconds = min(self.settings.deadline_ms / 1000, turn.seconds_left)
        try:
            async with asyncio.timeout(seconds):
                screenings = await self.screener.screen(tuple(map(screened_text, turn.messages)))
        except TimeoutError as late:
            raise ScreenerUnavailable(f"the screener did not answer within {seconds:.3g} s; try again") from late
        if len(screenings) != len(turn.messages):
            raise ScreenerUnavailable(f"the screener answered for {len(screenings)} of {len(turn.messages)} messages")
        return screenings

    def admit(self, turn: Turn, screenings: tuple[Screening, ...], signals: Signals | None) -> tuple[Turn, Vault]:
        """The turn an engine may see, and what its placeholders stand for.

        Raises ContentFiltered. Without signals the lexical rules alone decide.
        """
        for message, screening in zip(turn.messages, screenings, strict=True):
            if screening.policy and message.role in POLICED_ROLES:
                raise _filtered(screening.policy)
        if signals is not None and signals.scores.get("injection", 0.0) >= self.injection_threshold:
            raise _filtered("injection")
        if self.settings.pii == "off":
            return turn, {}
        masking = Masking.of(turn)
        messages = tuple(masking.message(m, s) for m, s in zip(turn.messages, screenings, strict=True))
        return (turn.asking(messages) if masking.vault else turn), masking.vault

    async def screened(self, events: Events, vault: Vault, allowed: tuple[str, ...]) -> Events:
        """The answer with placeholders restored and all findings masked that do not stand in `allowed`.

        Text leaves at the end of its word; words of one number leave together when the number has ended. Only the
        letters at the very start of an answer leave at once (at most twelve), so that the first token never waits:
        an answer that begins with an e-mail address shows the first letters of it. A denied phrase ends all choices
        with `content_filter` and stops the engine; nobody knows its token count then, and `Finished` counts deltas.
        Raises ScreenerUnavailable; what was held then never leaves.
        """
        answer = ScreenedAnswer(self._answer_policy(vault, allowed))
        async with aclosing(events):
            async for event in events:
                for delta in await answer.take(event) if isinstance(event, Delta) else await answer.flush():
                    yield delta
                if answer.denied:
                    break
                if not isinstance(event, Delta):
                    yield event
            else:
                for delta in await answer.flush():
                    yield delta
        if answer.denied:
            for delta in answer.endings():
                yield delta
            yield Finished(prompt_tokens=0, output_tokens=answer.deltas)

    def _answer_policy(self, vault: Vault, allowed: tuple[str, ...]) -> AnswerPolicy:
        return AnswerPolicy(
            screener=self.screener,
            deny=self._deny,
            vault=vault,
            allowed=allowed,
            window=self.settings.window_chars,
            deadline_s=self.settings.deadline_ms / 1000,
            masks=self.settings.pii == "mask",
        )

    @cached_property
    def _deny(self) -> DenyList | None:
        return DenyList.of(self.settings.deny)


def _filtered(policy: str) -> MantaError:
    return ContentFiltered(
        f"the request was blocked by the policy {policy!r}; rephrase it without what that policy forbids"
    ).at("messages")
