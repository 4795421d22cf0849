"""What a text may not say, decided from its characters alone: pure functions, microseconds, no model."""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from serve_app.attack_patterns import RULES, Rule, stem
from serve_app.deny import UNSPACED as UNSPACED
from serve_app.deny import DenyList as DenyList
from serve_app.jailbreak_cues import CUES, CUES_NEEDED, CUES_WITHIN, Cue
from serve_app.normalisation import views
from serve_app.turn import Finding

SUSPECT = re.compile(
    r"@"
    r"|\d(?:\D{0,6}\d){6}"  # seven digits close together: telephone, card, account and security numbers
    r"|\d\.\d{1,3}\.\d{1,3}\.\d"  # IPv4
    r"|:[0-9A-Fa-f]{0,4}:"  # IPv6
    r"|(?<![\w-])(?=[\w-]*?\d)[\w-]{16,}+"  # keys and tokens
    r"|(?:AKIA|ASIA|AIza|gh[pousr]_|github_pat_|xox[abeposr]-|glpat-|hf_|[sr]k_(?:live|test)_|eyJ)[\w-]{6}"
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


def suspicious(text: str) -> bool:
    """Whether a screener could find anything in this text: false is a promise that it finds nothing.

    True of a text is true of every text around it, so a part of an answer can be judged alone.
    """
    return SUSPECT.search(text) is not None


def disjoint(text: str, found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without overlaps, in the order of the text: the longest stay whole, then the surest.

    Of the others remains what is suspicious by itself: half a number beside an address must not pass.
    """
    kept: list[Finding] = []  # in the order of the text
    for finding in sorted(found, key=lambda f: (f.start - f.end, -f.score, f.start, f.kind)):
        for start, end in _uncovered(finding, kept):
            if suspicious(text[start:end]):
                insort(kept, replace(finding, start=start, end=end), key=_start)
    return tuple(kept)


def _start(finding: Finding) -> int:
    return finding.start


def _uncovered(finding: Finding, kept: Sequence[Finding]) -> list[tuple[int, int]]:
    """What `kept`, without overlaps and in the order of the text, leaves of a finding."""
    free: list[tuple[int, int]] = []
    start = finding.start
    for place in range(max(0, bisect_left(kept, finding.start, key=_start) - 1), len(kept)):
        other = kept[place]
        if other.start >= finding.end:
            break
        if other.end <= start:
            continue
        if start < other.start:
            free.append((start, other.start))
        start = other.end
    return [*free, (start, finding.end)] if start < finding.end else free


def lexical_policy(text: str, deny: DenyList | None) -> str:
    """`denied-phrase`, `prompt_injection`, `jailbreak`, or empty: what the text breaks, as written or once decoded."""
    seen = views(text)
    if deny is not None and any(deny.find(each) >= 0 for each in (text, *seen[1:])):
        return "denied-phrase"
    return next((policy for each in seen if (policy := attack(each))), "")


REACH = 400
"""Characters on both sides of a word that an attack around it may take up; white space beyond two counts as one."""

_WORD = re.compile(r"[^\W_]+|[🔒🔓]")

Stems = Mapping[str, list[int]]
"""First letters of the words of a text, and where they stand."""


def attack(text: str) -> str:
    """The policy that a plain text breaks by its wording, empty when none; mentions are let through."""
    stems = stems_of(text)
    rule = broken_rule(text, stems)
    return rule.policy if rule else "jailbreak" if has_cues(text, stems) else ""


def broken_rule(text: str, stems: Stems) -> Rule | None:
    for rule in RULES:
        if any(not _is_mention(text, found) for found in matches(rule, text, stems)):
            return rule
    return None


def has_cues(text: str, stems: Stems) -> bool:
    """Whether enough different cues of a jailbreak stand close together."""
    if sum(cue.weight for cue in CUES if not cue.stems.isdisjoint(stems)) < CUES_NEEDED:
        return False
    places = sorted((found.start(), n) for n, cue in enumerate(CUES) for found in matches(cue, text, stems))
    last: dict[int, int] = {}
    for place, n in places:
        last[n] = place
        if sum(CUES[n].weight for n, seen in last.items() if place - seen <= CUES_WITHIN) >= CUES_NEEDED:
            return True
    return False


def stems_of(text: str) -> Stems:
    places: dict[str, list[int]] = {}
    for word in _WORD.finditer(text):
        places.setdefault(stem(word[0]), []).append(word.start())
    return places


def matches(rule: Rule | Cue, text: str, stems: Stems) -> Iterator[re.Match[str]]:
    """Where the pattern matches: it is tried only around words that every match holds one of."""
    if not rule.stems:
        if not text.isascii():
            yield from rule.pattern.finditer(text)
        return
    start = end = -1
    for place in sorted(place for name in rule.stems & stems.keys() for place in stems[name]):
        if place - REACH > end:
            if end >= 0:
                yield from rule.pattern.finditer(text, start, end)
            start = max(0, place - REACH)
        end = place + REACH
    if end >= 0:
        yield from rule.pattern.finditer(text, start, end)


def _is_mention(text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - 100) : found.start()]
    return (before[-1:] in QUOTES and before != "") or ABOUT.search(before) is not None
