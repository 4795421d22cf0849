"""Personal data out of documents before they are indexed: what is not in the index cannot be found, cited or leaked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from serve_app.documents.chunk import Excerpt
from serve_app.errors import InvalidRequest
from serve_app.placeholders import Masking, passage_text
from serve_app.policy import GuardrailSettings
from serve_app.ports import Screener
from serve_app.turn import Passage, Scope

Treatment = Literal["off", "mask", "drop"]
"""off: documents are indexed as they are. mask: values become `<PERSON_1>`, the same in all of a document, for good.
drop: an excerpt that holds personal data is not indexed."""
FIELD = "pii"
"""Key of a vector store's `metadata` that chooses the treatment of what is ingested into it from then on."""
AT_ONCE = 32


def treatment(metadata: Mapping[str, str]) -> Treatment:
    """Raises InvalidRequest for a word that is none."""
    given = metadata.get(FIELD, "off")
    for known in get_args(Treatment):
        if given == known:
            found: Treatment = known
            return found
    raise InvalidRequest(f"metadata.{FIELD}: {given!r} is not one of {', '.join(get_args(Treatment))}").at("metadata")


@dataclass(frozen=True)
class Redaction:
    screener: Screener
    settings: GuardrailSettings

    async def of(self, tenant: str, excerpts: Sequence[Excerpt], how: Treatment) -> list[Excerpt | None]:
        """One document's excerpts as they may be indexed; None for those that may not.

        What counts as personal is what the tenant's policy masks or blocks. Raises ScreenerUnavailable.
        """
        if how == "off":
            return list(excerpts)
        scope = Scope(self.settings.policy_of(tenant))
        entities = self.settings.policies[scope.policy].entities
        kinds = frozenset(kind for kind, action in entities.items() if action != "allow")
        masking = Masking(kinds, taken=frozenset())
        treated: list[Excerpt | None] = []
        for start in range(0, len(excerpts), AT_ONCE):
            batch = excerpts[start : start + AT_ONCE]
            passages = [_passage(excerpt) for excerpt in batch]
            screenings = await self.screener.screen(tuple(map(passage_text, passages)), scope)
            for excerpt, passage, screening in zip(batch, passages, screenings, strict=True):
                masked = masking.passage(passage, screening)
                treated.append(excerpt if masked == passage else None if how == "drop" else _masked(excerpt, masked))
        return treated


def _passage(excerpt: Excerpt) -> Passage:
    return Passage("", excerpt.text, 0.0, "", excerpt.source, excerpt.title, excerpt.heading)


def _masked(excerpt: Excerpt, masked: Passage) -> Excerpt:
    """Title and headings lead what is encoded: they are masked there, too."""
    lead = excerpt.lead
    for before, after in ((excerpt.title, masked.title), (excerpt.heading, masked.heading)):
        lead = lead.replace(before, after) if before else lead
        for old, new in zip(before.split(" > "), after.split(" > "), strict=False):
            lead = lead.replace(old, new) if old else lead
    return replace(
        excerpt, text=masked.text, title=masked.title, heading=masked.heading, source=masked.source, lead=lead
    )
