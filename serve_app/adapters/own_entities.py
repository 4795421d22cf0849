"""A policy's own entities: words and patterns, found by RE2, whose time is linear in the text whatever the pattern."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from serve_app.policy import LexiconSettings
from serve_app.turn import Finding


@dataclass(frozen=True, slots=True)
class OwnEntities:
    """Lexicons of one policy, ready to search."""

    searches: tuple[tuple[str, Any, bool], ...]
    """Kind, RE2 pattern, and whether it finds whole words alone."""

    @classmethod
    def of(cls, lexicons: Sequence[LexiconSettings]) -> "OwnEntities":
        """Raises ValueError for a pattern that RE2 does not take: it knows no look-around and no back-reference."""
        return cls(tuple(search for lexicon in lexicons for search in _searches(lexicon)))

    def find(self, text: str, kinds: frozenset[str]) -> list[Finding]:
        """In the order of the text; two lexicons may find the same stretch."""
        found = [
            Finding(kind, *match.span())
            for kind, pattern, whole in self.searches
            if kind in kinds
            for match in pattern.finditer(text)
            if match.start() < match.end() and not (whole and _is_cut(text, *match.span()))
        ]
        return sorted(found, key=lambda finding: (finding.start, -finding.end))


def _searches(lexicon: LexiconSettings) -> Iterator[tuple[str, Any, bool]]:
    options = re2.Options()
    options.log_errors = False
    if lexicon.pattern is not None:
        try:
            yield lexicon.kind, re2.compile(lexicon.pattern, options), False
        except re2.error as failure:
            reason = failure.args[0].decode() if isinstance(failure.args[0], bytes) else failure.args[0]
            raise ValueError(
                f"lexicon {lexicon.kind}: the pattern {lexicon.pattern!r} is refused ({reason}); RE2 reads patterns "
                "here, so write it without look-around and back-references, or list `words`"
            ) from failure
    if lexicon.words:
        options.case_sensitive = False
        spelled = (r"\s+".join(map(re2.escape, word.split())) for word in lexicon.words)
        yield lexicon.kind, re2.compile("|".join(sorted(spelled, key=len, reverse=True)), options), True


def _is_cut(text: str, start: int, end: int) -> bool:
    """Whether the word goes on before or after; RE2's own `\\b` knows ASCII only."""
    return (text[start].isalnum() and text[start - 1 : start].isalnum()) or (
        text[end - 1].isalnum() and text[end : end + 1].isalnum()
    )
