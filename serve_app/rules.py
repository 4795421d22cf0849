"""What a text may not say, decided from its characters alone: pure functions, microseconds, no model."""

import re
from collections.abc import Iterable
from dataclasses import replace

from serve_app import normalisation
from serve_app.deny import UNSPACED as UNSPACED
from serve_app.deny import DenyList as DenyList
from serve_app.normalisation import unified
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


def injection(text: str) -> str:
    """Name of the first lexical injection rule this text breaks, empty when none; mentions are let through."""
    for name, pattern in INJECTION_RULES:
        if any(not _is_mention(text, found) for found in pattern.finditer(text)):
            return name
    return ""


def lexical_policy(text: str, deny: DenyList | None) -> str:
    """Name of the rule that forbids this text, empty when none does."""
    if deny is not None and deny.find(text) >= 0:
        return "denied-phrase"
    return injection(unified(text).replace("’", "'"))


def _is_mention(text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - 100) : found.start()]
    return (before[-1:] in QUOTES and before != "") or ABOUT.search(before) is not None


def folded(text: str) -> str:
    """The text for exact search, without the way back to its positions."""
    return normalisation.folded(text).text
