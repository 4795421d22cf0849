"""Presidio's pattern recognizers, and what they need to hold in prose, in logs and in German letters; all offline."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence

import spacy
import tldextract
from phonenumbers import PhoneNumberMatcher
from presidio_analyzer import (
    EntityRecognizer,
    Pattern,
    PatternRecognizer,
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

LANGUAGE = "en"
"""Of the recognizers' own context words; what they find is found in every language."""

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


MOST_ASKED = 12
AROUND = 12
"""Characters beside a number that decide whether it is one: letters, signs, further digits."""


class BlankPipeline(SpacyNlpEngine):  # type: ignore[misc]
    """Tokens only: no model, so no names and places either."""

    def __init__(self) -> None:
        super().__init__()
        self.nlp = {LANGUAGE: spacy.blank(LANGUAGE)}


INTERNAL = frozenset({"local", "internal", "corp", "lan", "intranet", "home"})
"""Top-level domains of networks of one's own, which the public suffix list does not have."""


class OfflineEmailRecognizer(EmailRecognizer):  # type: ignore[misc]
    """Presidio's asks the network for the public suffix list at first use; this one reads the bundled copy."""

    def __init__(self) -> None:
        self.suffixes = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)
        super().__init__()

    def validate_result(self, pattern_text: str) -> bool:
        domain = pattern_text.rpartition("@")[2]
        is_known = self.suffixes(domain).fqdn != "" or domain.rpartition(".")[2].lower() in INTERNAL
        return is_known and not pattern_text.startswith("git@")


class TelephoneRecognizer(EntityRecognizer):  # type: ignore[misc]
    """Valid numbers of the regions whose national form people write, and any number that is introduced as one."""

    REGIONS: Mapping[str, tuple[str, ...]] = {
        "en": ("US", "GB", "IN"),
        "de": ("DE", "AT", "CH"),
        "fr": ("FR",),
        "pt": ("BR", "PT"),
        "es": ("ES", "MX"),
        "it": ("IT",),
        "nl": ("NL",),
        "pl": ("PL",),
        "tr": ("TR",),
        "sv": ("SE",),
        "da": ("DK",),
        "fi": ("FI",),
        "cs": ("CZ",),
    }
    """Whose national form is read as a number, by language."""
    INTRODUCED = re.compile(
        rf"(?i:{PHONE_CONTEXT})"
        r"((?:\+|\(\+?|00)?\d(?:[ ()./-]{0,3}\d){6,14}(?:\s?(?:x|ext\.?)\s?\d{1,5})?)(?![\w@-])"
    )
    WRITTEN = re.compile(
        r"(?:\+|\(\+?)\d[\d ()./\-\u2010-\u2015\u00a0]{5,40}+|\d{1,8}(?:[ ()/\-\u2010-\u2015\u00a0]{1,3}\d{1,8}){1,5}+"
    )
    """What `_is_written_as_number` may say yes to: a plus, or two to six groups."""
    BEFORE = re.compile(r"[\w.:/=#_-]$")
    AFTER = re.compile(r"^(?:[\w@%=]|[-.:/]\d)")
    DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")

    def __init__(self, languages: Sequence[str] = ("en", "de")) -> None:
        super().__init__(supported_entities=["PHONE_NUMBER"])
        self.regions = [region for language in languages for region in self.REGIONS.get(language, ())] or ["US"]

    def load(self) -> None:
        """Nothing to load."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        results = [
            RecognizerResult("PHONE_NUMBER", a, b, 0.6)
            for a, b in sorted(self._valid(text))
            if self._is_written_as_number(text, a, b)
        ]
        introduced = [found for found in self.INTRODUCED.finditer(text) if not self.DATE.search(found[1])]
        return results + [RecognizerResult("PHONE_NUMBER", found.start(1), found.end(1), 0.5) for found in introduced]

    def _valid(self, text: str) -> set[tuple[int, int]]:
        """Spans of numbers that are valid in one of the regions; behind the first MOST_ASKED, of all that look so.

        The library takes 0.1 ms for each run of digits and each region, so it is shown only what could be written as
        a number, and not more of it than a page of contacts has: text that is full of numbers must not cost seconds.
        """
        spans: set[tuple[int, int]] = set()
        asked = 0
        for written in self.WRITTEN.finditer(text):
            if sum(map(str.isdigit, written[0])) < 7 or self.DATE.search(written[0]):
                continue
            asked += 1
            if asked > MOST_ASKED:
                spans.add(written.span())
                continue
            start = max(0, written.start() - AROUND)
            part = text[start : written.end() + AROUND]
            for region in self.regions:
                spans |= {(start + found.start, start + found.end) for found in PhoneNumberMatcher(part, region)}
        return spans

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


RECOGNIZERS: Mapping[str, Callable[[Sequence[str]], EntityRecognizer]] = {
    "EMAIL_ADDRESS": lambda _: OfflineEmailRecognizer(),
    "PHONE_NUMBER": TelephoneRecognizer,
    "CREDIT_CARD": lambda _: CardRecognizer(),
    "IBAN_CODE": lambda _: IbanRecognizer(),
    "US_SSN": lambda _: UsSsnRecognizer(),
    "IP_ADDRESS": lambda _: IpRecognizer(),
    "API_KEY": lambda _: PatternRecognizer(
        "API_KEY", patterns=[Pattern(name, regex, 0.9) for name, regex in SECRETS], global_regex_flags=re.MULTILINE
    ),
}
"""By entity, given the languages that are spoken."""
