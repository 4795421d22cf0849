"""Personal data and secrets, found by Presidio's pattern recognizers on a blank pipeline: nothing is downloaded."""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import spacy
import tldextract
from phonenumbers import PhoneNumberMatcher
from presidio_analyzer import (
    AnalyzerEngine,
    EntityRecognizer,
    Pattern,
    PatternRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    UsSsnRecognizer,
)

from serve_app.errors import ScreenerUnavailable
from serve_app.ports import ANY
from serve_app.rules import SUSPECT, DenyList, disjoint, lexical_policy, suspicious
from serve_app.turn import Finding, Scope, Screening

SURROUNDINGS = 120
"""Characters around a suspicious place that Presidio is shown; the rest of a long text costs nothing."""

SECRETS = (
    (
        "private key block",
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,16000}?"
        r"(?:-----END [A-Z ]{0,40}KEY(?: BLOCK)?-----|\Z)",
    ),
    ("sk", r"\bsk-(?:[a-z0-9]{1,12}-){0,3}(?=[A-Za-z_]*\d)[A-Za-z0-9_]{16,}[A-Za-z0-9_-]*"),
    ("aws", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("github", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    ("slack", r"\bxox[abeposr]-[A-Za-z0-9-]{10,}"),
    ("google", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("gitlab and hugging face", r"\b(?:glpat-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,})"),
    ("stripe", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("json web token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
)

CARDS = (
    r"\b(?:4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|35\d{14}|(?:2131|1800)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|62\d{14})\b"
)
CARD_CONTEXT = r"\b(?:cards?|cc|visa|mastercard|maestro|amex)\b[^\d\n]{0,24}"
PHONE_CONTEXT = (
    r"(?<![\w-])(?:tele)?(?:phones?|tel|mobile|cell(?:phone)?|fax|desk|sms|whatsapp|hotline"
    r"|call(?:ed| me| us)?|dial|ring me|text me|messages to"
    r"|reach (?:me|us|him|her)|contact (?:me|us) (?:at|on|under)|registered)\b"
    r"[^\d\n+(]{0,24}\n?[^\d\n+(]{0,4}"
)
SSN_CONTEXT = re.compile(r"(?:ssn|social security|\bss\s?#)[^\d\n]{0,40}$", re.IGNORECASE)


class BlankPipeline(SpacyNlpEngine):  # type: ignore[misc]
    """Tokens only: no model, so no names and places either."""

    def __init__(self) -> None:
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}


class OfflineEmailRecognizer(EmailRecognizer):  # type: ignore[misc]
    """Presidio's asks the network for the public suffix list at first use; this one reads the bundled copy."""

    def __init__(self) -> None:
        self.suffixes = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)
        super().__init__()

    def validate_result(self, pattern_text: str) -> bool:
        domain = pattern_text.rpartition("@")[2]
        return self.suffixes(domain).fqdn != "" and not pattern_text.startswith("git@")


class TelephoneRecognizer(EntityRecognizer):  # type: ignore[misc]
    """Valid numbers of the regions whose national form people write, and any number that is introduced as one."""

    REGIONS = ("US", "GB", "DE", "FR", "IN", "BR")
    INTRODUCED = re.compile(
        rf"(?i:{PHONE_CONTEXT})"
        r"((?:\+|\(\+?|00)?\d(?:[ ()./-]{0,3}\d){6,14}(?:\s?(?:x|ext\.?)\s?\d{1,5})?)(?![\w@-])"
    )
    BEFORE = re.compile(r"[\w.:/=#_-]$")
    AFTER = re.compile(r"^(?:[\w@%=]|[-.:/]\d)")
    DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")

    def __init__(self) -> None:
        super().__init__(supported_entities=["PHONE_NUMBER"])

    def load(self) -> None:
        """Nothing to load."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        spans = {(found.start, found.end) for region in self.REGIONS for found in PhoneNumberMatcher(text, region)}
        results = [
            RecognizerResult("PHONE_NUMBER", a, b, 0.6)
            for a, b in sorted(spans)
            if self._is_written_as_number(text, a, b)
        ]
        introduced = [found for found in self.INTRODUCED.finditer(text) if not self.DATE.search(found[1])]
        return results + [RecognizerResult("PHONE_NUMBER", found.start(1), found.end(1), 0.5) for found in introduced]

    def _is_written_as_number(self, text: str, start: int, end: int) -> bool:
        """Ten bare digits are an id or a time stamp until something says otherwise."""
        number = text[start:end]
        if self.BEFORE.search(text[:start][-1:]) or self.AFTER.search(text[end : end + 2]) or self.DATE.search(number):
            return False
        digits = [len(run) for run in re.findall(r"\d+", number)]
        return number.startswith("+") or (2 <= len(digits) <= 6 and max(digits) <= 8 and "." not in number)


class CardRecognizer(CreditCardRecognizer):  # type: ignore[misc]
    """Presidio's pattern, the number ranges it does not know, and what is called a card; all with a right checksum."""

    PATTERNS = [
        *CreditCardRecognizer.PATTERNS,
        Pattern("issuer ranges", CARDS, 0.5),
        Pattern("introduced", rf"(?i)(?:{CARD_CONTEXT})\K\b\d{{12,19}}\b", 0.5),
    ]


def technical(kind: str, text: str, start: int, end: int) -> bool:
    """Whether a finding is a term of the trade rather than somebody's data.

    Loopback, unspecified, multicast and link-local addresses, netmasks, networks (10.0.0.0/8) and versions name
    no host; `256 64 1024` is a table row unless the text speaks of social security; the decimals
    of a fraction are no card, and five dotted numbers are an object identifier.
    """
    if kind == "CREDIT_CARD":
        return re.search(r"\d\.$", text[:start][-2:]) is not None
    if kind == "IP_ADDRESS" and re.match(r"\.\d", text[end : end + 2]):
        return True
    if kind == "IP_ADDRESS":
        return (
            _names_no_host(text[start:end])
            or re.search(r"(?:\bv|version:?\s|==)$", text[:start][-10:], re.IGNORECASE) is not None
        )
    if kind == "US_SSN":
        return "-" not in text[start:end] and SSN_CONTEXT.search(text[:start][-60:]) is None
    return False


def _names_no_host(value: str) -> bool:
    if not any(character.isdigit() for character in value):
        return True  # `a::b` is C++
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        return True
    address = interface.ip
    if (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or value.startswith("255.")
    ):
        return True
    return "/" in value and address == interface.network.network_address


RECOGNIZERS: dict[str, Callable[[], EntityRecognizer]] = {
    "EMAIL_ADDRESS": OfflineEmailRecognizer,
    "PHONE_NUMBER": TelephoneRecognizer,
    "CREDIT_CARD": CardRecognizer,
    "IBAN_CODE": IbanRecognizer,
    "US_SSN": UsSsnRecognizer,
    "IP_ADDRESS": IpRecognizer,
    "API_KEY": lambda: PatternRecognizer(
        "API_KEY", patterns=[Pattern(name, regex, 0.9) for name, regex in SECRETS], global_regex_flags=re.MULTILINE
    ),
}


class PresidioScreener:
    """Implements `Screener`. Construction loads and warms everything up (about a second); no call is slow after it."""

    def __init__(self, entities: Iterable[str], *, min_score: float, deny: Iterable[str] = ()) -> None:
        """Raises ValueError for an entity no recognizer here finds."""
        kinds = tuple(entities)
        for kind in kinds:
            if kind not in RECOGNIZERS:
                raise ValueError(
                    f"guardrail.entities: {kind!r} is not found by any recognizer; choose from {', '.join(RECOGNIZERS)}"
                )
        registry = RecognizerRegistry(recognizers=[RECOGNIZERS[kind]() for kind in kinds], supported_languages=["en"])
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=BlankPipeline(), supported_languages=["en"])
        self._kinds = list(kinds)
        self._min_score = min_score
        self._deny = DenyList.of(deny)
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="screener")
        self.examine("Warm up: jane@example.com, 10.1.2.3, +1 415 555 2671, GB29NWBK60161331926819")

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: tuple(self.examine(text) for text in texts))
        except Exception as failure:  # whatever broke, an unscreened text must not pass
            raise ScreenerUnavailable(f"the screener failed: {type(failure).__name__}") from failure

    def examine(self, text: str) -> Screening:
        """One text, on the calling thread."""
        return Screening(findings=self._findings(text), policy=lexical_policy(text, self._deny))

    def _findings(self, text: str) -> tuple[Finding, ...]:
        if not self._kinds:
            return ()
        found = (finding for start, end in _suspicious_parts(text) for finding in self._analyzed(text, start, end))
        return disjoint(text, found)

    def _analyzed(self, text: str, start: int, end: int) -> Iterable[Finding]:
        part = text[start:end]
        for result in self._analyzer.analyze(
            part, language="en", entities=self._kinds, score_threshold=self._min_score
        ):
            value = part[result.start : result.end]
            if suspicious(value) and not technical(result.entity_type, part, result.start, result.end):
                yield Finding(result.entity_type, start + result.start, start + result.end, result.score)


def _suspicious_parts(text: str) -> list[tuple[int, int]]:
    """Stretches that can hold a finding, with their surroundings, widened to white space."""
    parts: list[tuple[int, int]] = []
    for match in SUSPECT.finditer(text):
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
