"""Personal data, secrets and names: Presidio's pattern recognizers, a model of names, a policy's own entities."""

import asyncio
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry

from serve_app.adapters.named_entities import NameFinder, name_finder
from serve_app.adapters.own_entities import OwnEntities
from serve_app.adapters.presidio_recognizers import LANGUAGE, RECOGNIZERS, BlankPipeline, technical
from serve_app.errors import ScreenerUnavailable
from serve_app.layers import beneath
from serve_app.policy import NAMES, GuardrailSettings, PolicySettings
from serve_app.ports import ANY
from serve_app.rules import SUSPECT, DenyList, disjoint, lexical_policy, suspicious
from serve_app.turn import Finding, Scope, Screening

SURROUNDINGS = 120
"""Characters around a suspicious place that Presidio is shown; the rest of a long text costs nothing."""


HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can spell and no library here can encode."""
STRETCH = 2_000
OVERLAP = 400
"""Characters; longer than any finding but a key block, with the words that introduce it."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one policy has its texts searched for."""

    question: frozenset[str]
    answer: frozenset[str]
    own: OwnEntities
    deny: DenyList | None

    @classmethod
    def of(cls, policy: PolicySettings) -> "_Wanted":
        own = OwnEntities.of(policy.lexicons)
        return cls(frozenset(policy.entities), frozenset(policy.answer_entities), own, DenyList.of(policy.deny))


class PresidioScreener:
    """Implements `Screener`. Construction loads and warms everything up (about two seconds); no call is slow after it.

    Findings with a pattern come first, then the policy's own entities, then names; none loses a character to a later.
    """

    def __init__(self, settings: GuardrailSettings, names: NameFinder | None = None) -> None:
        """`names` instead of what `settings.names` says.

        Raises ValueError for a model of names that is not installed and for a lexicon's pattern that is refused.
        """
        self._wanted = {name: _Wanted.of(policy) for name, policy in settings.policies.items()}
        known = [recognizer(settings.languages) for recognizer in RECOGNIZERS.values()]
        registry = RecognizerRegistry(recognizers=known, supported_languages=[LANGUAGE])
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=BlankPipeline(), supported_languages=[LANGUAGE])
        self._names = names or name_finder(settings.names, settings.languages)
        self._min_score = settings.min_score
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="screener")
        for name in self._wanted:
            self.examine("Jane Doe: jane@example.com, 10.1.2.3, +1 415 555 2671, GB29NWBK60161331926819", Scope(name))

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: tuple(self.examine(text, scope) for text in texts))
        except Exception as failure:  # whatever broke, an unscreened text must not pass
            raise ScreenerUnavailable(f"the screener failed: {type(failure).__name__}") from failure

    def examine(self, text: str, scope: Scope = ANY) -> Screening:
        """One text, on the calling thread. Raises KeyError for a policy that the settings do not have."""
        wanted = self._wanted[scope.policy]
        text = HALF.sub("\ufffd", text)
        if scope.answer:  # Denied phrases are cut where the answer streams, and an engine attacks nobody.
            return Screening(self._findings(text, wanted.own, wanted.answer))
        return Screening(self._findings(text, wanted.own, wanted.question), lexical_policy(text, wanted.deny))

    def _findings(self, text: str, own: OwnEntities, kinds: frozenset[str]) -> tuple[Finding, ...]:
        patterned = tuple(f for f in disjoint(text, self._patterned(text, kinds)) if _names_a_host(text, f))
        listed = beneath(text, patterned, own.find(text, kinds))
        return beneath(text, listed, self._named(text, kinds)) if kinds.intersection(NAMES) else listed

    def _named(self, text: str, kinds: frozenset[str]) -> Iterable[Finding]:
        """A model's number is one where it has enough digits for it, as for a pattern's."""
        for finding in self._names.find(text):
            if finding.kind in kinds and (finding.kind in NAMES or suspicious(text[finding.start : finding.end])):
                yield finding

    def _patterned(self, text: str, kinds: frozenset[str]) -> Iterable[Finding]:
        entities = [kind for kind in RECOGNIZERS if kind in kinds]
        if not entities:
            return
        for start, end in _bounded(text, _suspicious_parts(text)):
            part = text[start:end]
            for result in self._analyzer.analyze(
                part, language=LANGUAGE, entities=entities, score_threshold=self._min_score
            ):
                value = part[result.start : result.end]
                if suspicious(value) and not technical(result.entity_type, part, result.start, result.end):
                    yield Finding(result.entity_type, start + result.start, start + result.end, result.score)


def _names_a_host(text: str, finding: Finding) -> bool:
    """Not so `::`, which can be left of an address beside a longer finding."""
    return finding.kind != "IP_ADDRESS" or any(letter.isdigit() for letter in text[finding.start : finding.end])


def _bounded(text: str, parts: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Long parts as overlapping stretches: Presidio compares every finding with every word of what it is shown.

    A key block has no such bound, and few findings: it stays whole.
    """
    for start, end in parts:
        if end - start <= STRETCH or "PRIVATE KEY" in text[start:end]:
            yield start, end
        else:
            yield from ((at, min(end, at + STRETCH)) for at in range(start, end - OVERLAP, STRETCH - OVERLAP))


def _suspicious_parts(text: str) -> list[tuple[int, int]]:
    """Stretches that can hold a finding, with their surroundings, widened to white space."""
    parts: list[tuple[int, int]] = []
    for match in SUSPECT.finditer(text):
        if parts and match.end() + SURROUNDINGS <= parts[-1][1]:
            continue  # Inside already: a long word is walked once, not for every match in it.
        start, end = _widened(text, match.start(), match.end())
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(end, parts[-1][1]))
        else:
            parts.append((start, end))
    return parts


def _widened(text: str, start: int, end: int) -> tuple[int, int]:
    start, end = max(0, start - SURROUNDINGS), min(len(text), end + SURROUNDINGS)
    while start > 0 and not text[start - 1].isspace():
        start -= 1
    while end < len(text) and not text[end].isspace():
        end += 1
    return start, end
