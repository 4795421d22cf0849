"""A screener with three patterns and no library: for tests, and for a first look without Presidio."""

import re

from serve_app.ports import ANY
from serve_app.rules import DenyList, disjoint, lexical_policy, suspicious
from serve_app.turn import Finding, Scope, Screening

PATTERNS = (
    ("EMAIL_ADDRESS", re.compile(r"[\w.+-]+@\w+(?:\.\w+)+")),
    (
        "API_KEY",
        re.compile(
            r"\bsk-(?=[a-z]*\d)[a-z0-9]{16,}|-----BEGIN PRIVATE KEY-----[\s\S]*?(?:-----END PRIVATE KEY-----|\Z)"
        ),
    ),
    ("PHONE_NUMBER", re.compile(r"(?<![\w.-])\+?\d(?:[ -]?\d){6,14}(?![\w.-]?\d)")),
)


class MemoryScreener:
    """Implements `Screener`."""

    def __init__(self, deny: tuple[str, ...] = ()) -> None:
        self._deny = DenyList.of(deny)

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        return tuple(Screening(_findings(text), lexical_policy(text, self._deny)) for text in texts)


def _findings(text: str) -> tuple[Finding, ...]:
    found = [Finding(kind, *match.span()) for kind, pattern in PATTERNS for match in pattern.finditer(text)]
    return disjoint(text, (finding for finding in found if suspicious(text[finding.start : finding.end])))
