"""What a text may not say, decided from its characters alone: pure functions, microseconds, no model."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace

from serve_app.turn import Finding

SUSPECT = re.compile(
    r"@"
    r"|\d(?:\D{0,6}\d){6}"  # seven digits close together: telephone, card, account and security numbers
    r"|\d\.\d{1,3}\.\d{1,3}\.\d"  # IPv4
    r"|:[0-9A-Fa-f]{0,4}:"  # IPv6
    r"|(?=[\w-]{0,200}\d)[\w-]{16}"  # keys and tokens
    r"|PRIVATE KEY"
)

ABOUT = re.compile(
    r"\b(?:protect|prevent|detect|defen[ds]|mitigat|guard against|attacks?|injections?|jailbreaks?|phrases?"
    r"|prompts? like|such as|e\.g\.|example of|means?|meaning|what (?:is|does|are)|explain|classif|filter|block"
    r"|says?|said|called|titled)"
    r"[^.!?\n]{0,80}$",
    re.IGNORECASE,
)
"""A mention, not a use: `How do I detect "ignore previous instructions"?` The injection head decides those."""

QUOTES = "\"'`“”‘’«»„"

_EARLIER = (
    r"(?:previous|prior|above|earlier|preceding|foregoing|initial|original|former|existing|past|old"
    r"|your|my|our|these|those)"
)
_ORDERS = (
    r"(?:instructions?|directions?|directives?|guidelines?|prompts?|orders?|commands?|programming|training|restrictions?"
    r"|polic(?:y|ies)|assignments?|ethic(?:s|al)|tasks?|information)"
)
_FILLER = r"(?:(?:all|any|every|everything|of|the|that|and|or|other|given|to|you|i|we|system)\s+)"

INJECTION_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        (
            "ignore-instructions",
            r"\b(?:ignore|disregard|forget|override|overlook|discard|neglect|do not follow|stop following)\s+"
            rf"(?:about\s+)?{_FILLER}{{0,4}}{_EARLIER}\s+{_FILLER}{{0,2}}(?:{_EARLIER}\s+)?(?:[\w-]+\s+){{0,1}}{_ORDERS}\b",
        ),
        (
            "ignore-everything",
            r"\b(?:ignore|disregard|forget)\s+(?:about\s+)?(?:all|everything|anything)\s+(?:that\s+)?"
            r"(?:(?:was|is|stood|came|i|we|you|they|has|have|been)\s+){0,4}"
            r"(?:said|told|written|learned|above|before(?: (?:this|that)\b|[.!,:]|$)|up to now|until now|so far)"
            r"|\b(?:ignore|disregard|forget) (?:all (?:of )?)?(?:the above|what(?:'s| is| was) before|what you know)"
            r"(?: and (?:say|print|tell|give|repeat|write|output|answer|do|instead)\b|\s*[:.!]\s)",
        ),
        (
            "ignore-instructions-german",
            r"\b(?:vergiss|vergessen sie|ignorier(?:e|en sie))\s+(?:\w+\s+){0,4}"
            r"(?:anweisungen|anordnungen|aufgaben|instruktionen|befehle|vorgaben|aufträge)\b"
            r"|\b(?:vergiss|vergessen sie|ignorier(?:e|en sie)) (?:bitte )?(?:alles|das) "
            r"(?:davor|gesagte|vorherige|bisherige|obige)\b",
        ),
        (
            "reveal-system-prompt",
            r"\b(?:reveal|repeat|print|output|show|display|tell|give|leak|dump|recite|spell|write out|return)\s+"
            r"(?:(?:me|us|back|out|verbatim|all|of|exactly|everything|in)\s+){0,4}(?:your|the)\s+"
            r"(?:(?:full|entire|whole|complete|exact|initial|original|hidden|secret|above|actual|current|internal)\s+){0,3}"
            r"(?:system|developer|initial|hidden|secret|internal|original)\s+(?:prompt|message|instructions?)\b"
            r"|\b(?:repeat|print|output|recite)\s+(?:all\s+)?(?:of\s+)?(?:the|your) instructions "
            r"(?:that )?you (?:were given|received|got)",
        ),
        (
            "jailbreak-persona",
            r"\byou (?:are|will be|'re) (?:now |going to (?:be|act as|pretend to be) )?(?:an? )?"
            r"(?:DAN\b|STAN\b|jailbroken|unfiltered|completely unrestricted)"
            r"|\bDAN\b.{0,30}\bstands for\W{0,3}do anything now"
            r"|\bact as (?:a )?DAN\b|\bDo Anything Now\b.{0,200}\b(?:you|rules|answer|respond|pretend)\b"
            r"|\b(?:enter|enable|activate|switch to) (?:the )?(?:DAN|jailbreak|god) mode\b"
            r"|\bpretend (?:that )?you (?:have|are under) no (?:rules|restrictions|guidelines|ethic)",
        ),
        (
            "role-marker",
            r"<\|(?:im_start|im_end|system|start_header_id|eot_id|endofprompt)\|>|\[/?INST\]|<</?SYS>>"
            r"|^\s*###\s*(?:system|instruction)\s*:.{0,200}\b(?:you (?:are|must|will)|ignore)\b",
        ),
    )
)


def suspicious(text: str) -> bool:
    """Whether a screener could find anything in this text: false is a promise that it finds nothing.

    True of a text is true of every text around it, so a part of an answer can be judged alone.
    """
    return SUSPECT.search(text) is not None


def disjoint(text: str, found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without overlaps, in the order of the text: the longest stay whole, then the surest.

    Of the others remains what is suspicious by itself: half a number beside an address must not pass.
    """
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda f: (f.start - f.end, -f.score, f.start, f.kind)):
        for start, end in _uncovered(finding, kept):
            if suspicious(text[start:end]):
                kept.append(replace(finding, start=start, end=end))
    return tuple(sorted(kept, key=lambda f: f.start))


def _uncovered(finding: Finding, kept: Iterable[Finding]) -> list[tuple[int, int]]:
    free: list[tuple[int, int]] = []
    start = finding.start
    for other in sorted(kept, key=lambda f: f.start):
        if other.end <= start or other.start >= finding.end:
            continue
        if start < other.start:
            free.append((start, other.start))
        start = other.end
    return [*free, (start, finding.end)] if start < finding.end else free


def plain(text: str) -> str:
    """The text as a reader sees it: compatibility forms unified, invisible characters gone, quotes straight."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
        text = text.replace("’", "'")
    return text


def injection(text: str) -> str:
    """Name of the first lexical injection rule this text breaks, empty when none; mentions are let through."""
    for name, pattern in INJECTION_RULES:
        if any(not _is_mention(text, found) for found in pattern.finditer(text)):
            return name
    return ""


def lexical_policy(text: str, deny: "DenyList | None") -> str:
    """Name of the rule that forbids this text, empty when none does."""
    seen = plain(text)
    if deny is not None and deny.find(seen) >= 0:
        return "denied-phrase"
    return injection(seen)


def _is_mention(text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - 100) : found.start()]
    return (before[-1:] in QUOTES and before != "") or ABOUT.search(before) is not None


def folded(text: str) -> str:
    """Case-folded, character for character, so that positions stay; `ß` is left to the pattern."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := character.casefold()) == 1 else character for character in text)


@dataclass(frozen=True, slots=True)
class DenyList:
    """Phrases no text may contain: any case, any white space between their words, whole words only."""

    whole: re.Pattern[str]
    begun: re.Pattern[str]
    """Matches the end of a text that may still become a denied phrase."""
    first_characters: frozenset[str]
    longest: int
    """Most characters a phrase spans as written, its white space stretched."""

    @classmethod
    def of(cls, phrases: Iterable[str]) -> "DenyList | None":
        """None when nothing is denied."""
        normal = sorted({" ".join(folded(plain(phrase)).replace("ß", "ss").split()) for phrase in phrases} - {""})
        if not normal:
            return None
        begun = "|".join(
            f"{_edge(phrase[0], before=True)}{_spelled(phrase[:n])}" for phrase in normal for n in _lengths(phrase)
        )
        whole = "|".join(
            f"{_edge(phrase[0], before=True)}{_spelled(phrase)}{_edge(phrase[-1], before=False)}" for phrase in normal
        )
        return cls(
            whole=re.compile(whole),
            begun=re.compile(rf"(?:{begun})\Z"),
            first_characters=frozenset(phrase[0] for phrase in normal),
            longest=max(len(phrase) + (SPACES - 1) * phrase.count(" ") for phrase in normal),
        )

    def find(self, text: str, *, at_end: bool = True) -> int:
        """Where the first denied phrase begins, -1 when there is none; unless `at_end`, its last word may go on."""
        matches = self.whole.finditer(folded(text))
        return next((found.start() for found in matches if at_end or found.end() < len(text)), -1)

    def begins(self, text: str) -> int:
        """Where a denied phrase may have begun that the text's end leaves open; the text's length when none did."""
        found = self.begun.search(folded(text))
        return found.start() if found else len(text)


SPACES = 16
"""Most white space between two words of a denied phrase."""


def _lengths(phrase: str) -> range:
    """Longest first: an open phrase is held from its first character."""
    return range(len(phrase), 0, -1)


def _spelled(phrase: str) -> str:
    return re.escape(phrase).replace(r"\ ", rf"\s{{1,{SPACES}}}").replace("ss", "(?:ss|ß|ẞ)")


def _edge(character: str, *, before: bool) -> str:
    """A phrase ends where its letters end, in scripts that write words apart; a digit is no disguise."""
    if not re.match(r"\w", character) or is_unspaced(character):
        return ""
    return r"(?<![^\W\d_])" if before else r"(?![^\W\d_])"


UNSPACED = "぀-ヿ㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff฀-๿"
"""Character class of kana, Han and Thai: no white space between words."""


def is_unspaced(character: str) -> bool:
    return re.match(f"[{UNSPACED}]", character) is not None
