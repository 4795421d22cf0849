"""What a policy would say to texts that nobody answers: `POST /v1/moderations`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from serve_app.deadline import screened, within
from serve_app.errors import ClassifierUnavailable
from serve_app.guardrail import PII, forbidden_by
from serve_app.pipeline import together
from serve_app.policy import ATTACKS, HARMS, GuardrailSettings, PolicySettings
from serve_app.ports import Classifier, Screener
from serve_app.turn import Finding, Scope, Scores, Screening
from serve_app.verdict import broken, limits

READ = (*ATTACKS, *HARMS)
"""Categories with a head of their own."""
BOTH = {
    "hate/threatening": ("hate", "violence"),
    "harassment/threatening": ("harassment", "violence"),
    "illicit/violent": ("illicit", "violence"),
}
"""OpenAI's subcategories that are two of our heads at once: the lower score counts, and both must be over theirs."""
SAME = {"self-harm/intent": "self-harm", "self-harm/instructions": "self-harm"}
"""Subcategories one head stands for: it does not tell a wish from a question how."""
UNREAD = ("sexual/minors", "violence/graphic")
"""Subcategories nothing here reads: always 0 and false. Their parents, `sexual` and `violence`, cover such texts."""
CATEGORIES = (*READ, *BOTH, *SAME, *UNREAD, PII)

TEXT_AT_A_TIME = 25_000
"""Characters for which the guardrail's deadline was made; more of them get it again for each such stretch."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of one text."""

    scores: Scores
    """Probability by category, all of `CATEGORIES`."""
    broken: frozenset[str]
    """Categories over their threshold. `pii` is one as soon as something would be masked."""
    findings: tuple[Finding, ...]
    policy: str
    """What refuses the text: `denied-phrase`, a category, or `pii` where an entity is blocked. Empty: it may pass."""

    @property
    def flagged(self) -> bool:
        return bool(self.policy)


@dataclass(frozen=True)
class Moderation:
    screener: Screener
    classifier: Classifier
    settings: GuardrailSettings
    shipped: Mapping[str, float]
    """Threshold by head, as the models were trained to; a policy may have others."""

    async def verdicts(self, texts: tuple[str, ...], tenant: str, deadline_s: float) -> tuple[Verdict, ...]:
        """One per text, in order. Raises ScreenerUnavailable or ClassifierUnavailable: half a verdict is none."""
        name = self.settings.policy_of(tenant)
        seconds = min(deadline_s, self.settings.deadline_ms / 1000 * (1 + sum(map(len, texts)) // TEXT_AT_A_TIME))
        screenings, heads = await together(
            screened(self.screener, texts, Scope(name), seconds), self._scores(texts, seconds)
        )
        return tuple(self.verdict(self.settings.policies[name], *read) for read in zip(screenings, heads, strict=True))

    async def _scores(self, texts: tuple[str, ...], seconds: float) -> tuple[Scores, ...]:
        async with within(seconds, "classifier", ClassifierUnavailable):
            scores = await self.classifier.score(texts)
        if len(scores) != len(texts):
            raise ClassifierUnavailable(f"the classifier answered for {len(scores)} of {len(texts)} texts")
        return scores

    def verdict(self, policy: PolicySettings, screening: Screening, heads: Scores) -> Verdict:
        """Raises ClassifierUnavailable where a head says nothing: a category that nobody read is not clean."""
        if missing := [name for name in READ if not 0 <= heads.get(name, -1) <= 1]:
            raise ClassifierUnavailable(
                f"the classifier gives no probability of {missing[0]!r}: its model does not fit this code"
            )
        scores = {name: float(heads[name]) for name in READ}
        over = broken(scores, limits(policy, self.shipped))
        if screening.policy in ATTACKS:
            scores[screening.policy] = 1.0
            over = (screening.policy, *over)
        treated = [found for found in screening.findings if policy.entities.get(found.kind, "mask") != "allow"]
        return Verdict(
            scores={**scores, **derived(scores), PII: max((float(found.score) for found in treated), default=0.0)},
            broken=frozenset({*over, *implied(over), *([PII] if treated else [])}),
            findings=screening.findings,
            policy=forbidden_by(screening, policy) or next(iter(over), ""),
        )


def derived(scores: Scores) -> dict[str, float]:
    """Scores of the subcategories no head was trained for; see `BOTH`, `SAME` and `UNREAD`."""
    both = {name: min(scores[one], scores[other]) for name, (one, other) in BOTH.items()}
    return {**both, **{name: scores[parent] for name, parent in SAME.items()}, **dict.fromkeys(UNREAD, 0.0)}


def implied(over: Collection[str]) -> list[str]:
    """The subcategories that follow from the categories over their threshold."""
    both = [name for name, parents in BOTH.items() if all(parent in over for parent in parents)]
    return both + [name for name, parent in SAME.items() if parent in over]
