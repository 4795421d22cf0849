"""What stands around a question: earlier turns, tool results and passages, judged before an engine reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.deadline import screened
from serve_app.placeholders import passage_text
from serve_app.policy import GuardrailSettings
from serve_app.ports import Classifier, Screener
from serve_app.recent import Recent
from serve_app.turn import Passage, Scope, Scores, Screening, Turn

TOOL_ROLES = ("tool", "function")


@dataclass(frozen=True, slots=True)
class History:
    """What the classifier read in a conversation, by position of the message; the question is not among them."""

    scores: Mapping[int, Scores] = field(default_factory=dict)
    """Of earlier user messages."""
    suspicions: Mapping[int, float] = field(default_factory=dict)
    """Of tool results."""


@dataclass(frozen=True)
class Vetting:
    """Asks once for every text and remembers the verdict: a passage comes again with every other question.

    A cached value races with nothing: two turns that ask for the same text at once get the same answer twice.
    """

    screener: Screener
    classifier: Classifier
    settings: GuardrailSettings
    _scores: Recent[Scores] = field(default_factory=Recent)
    _suspicions: Recent[float] = field(default_factory=Recent)
    _screenings: Recent[Screening] = field(default_factory=Recent)

    async def history(self, turn: Turn) -> History:
        """Raises ClassifierUnavailable."""
        asked = [n for n, m in enumerate(turn.messages) if m.role == "user" and m.text and m.text != turn.question]
        told = [n for n, m in enumerate(turn.messages) if m.role in TOOL_ROLES and m.text]
        if not asked and not told:
            return History()
        scores = await self._scores.of([turn.messages[n].text for n in asked], self.classifier.score)
        suspicions = await self._suspicions.of([turn.messages[n].text for n in told], self.classifier.inspect)
        return History(dict(zip(asked, scores, strict=True)), dict(zip(told, suspicions, strict=True)))

    async def suspicions(self, passages: tuple[Passage, ...]) -> tuple[float, ...]:
        """One per passage: as judged when it was ingested, else now. Raises ClassifierUnavailable."""
        unknown = [passage.text for passage in passages if passage.suspicion is None]
        judged = iter(await self._suspicions.of(unknown, self.classifier.inspect) if unknown else ())
        return tuple(next(judged) if one.suspicion is None else one.suspicion for one in passages)

    async def screenings(self, turn: Turn) -> tuple[Screening, ...]:
        """One per passage, under the policy of who asks. Raises ScreenerUnavailable, also when it is late."""
        scope = Scope(self.settings.policy_of(turn.caller.tenant))
        seconds = min(self.settings.deadline_ms / 1000, turn.seconds_left)
        return await self._screenings.of(
            [passage_text(passage) for passage in turn.passages],
            lambda texts: screened(self.screener, texts, scope, seconds),
            salt=scope.policy,
        )
