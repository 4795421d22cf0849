"""Who may see a document, and what its subject consented to: read from its attributes, applied inside the index."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from serve_app.errors import InvalidRequest
from serve_app.turn import Caller

RETRIEVAL = "retrieval"
"""The purpose for which a search reads; consent that names others only does not cover it."""
MOST_NAMES = 64
FIELDS = ("access", "consent_subject", "consent_purposes", "consent_until")
"""Attributes of a document that say so. They are ordinary attributes, too: a caller's filter can narrow by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one caller may see. Made by `of`, and nowhere else."""

    tenant: str
    groups: frozenset[str] = frozenset()
    purpose: str = RETRIEVAL
    now: float
    """UTC seconds: consent is compared with it."""

    @classmethod
    def of(cls, caller: Caller) -> Self:
        """What this caller, as proven by the key, may see now."""
        return cls(tenant=caller.tenant, groups=caller.groups, now=time.time())

    def sees(self, tenant: str, terms: "Terms") -> bool:
        """The rule itself; an index with a query language writes the same as an expression."""
        return (
            tenant == self.tenant
            and (not terms.access or bool(terms.access & self.groups))
            and (not terms.purposes or self.purpose in terms.purposes)
            and (terms.until is None or self.now < terms.until)
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which a document may be shown."""

    access: frozenset[str] = frozenset()
    """Groups that may see it; empty: everybody of its tenant."""
    subject: str = ""
    """Whom it is about, for `manta purge`."""
    purposes: frozenset[str] = frozenset()
    """What the subject consented to; empty: everything."""
    until: float | None = None
    """UTC seconds when the consent runs out; None: never."""

    @classmethod
    def of(cls, attributes: Mapping[str, str | float | bool]) -> "Terms":
        """`access` and `consent_purposes` are lists with commas, `consent_until` an ISO 8601 time or UTC seconds.

        Raises InvalidRequest for what cannot be read: a document nobody understands the terms of is not shown.
        """
        return cls(
            access=_names(attributes, "access"),
            subject=str(attributes.get("consent_subject", "")),
            purposes=_names(attributes, "consent_purposes"),
            until=_time(attributes.get("consent_until")),
        )


def _names(attributes: Mapping[str, str | float | bool], field: str) -> frozenset[str]:
    given = attributes.get(field)
    if given is None:
        return frozenset()
    names = frozenset(name.strip() for name in str(given).split(",")) - {""}
    if not isinstance(given, str) or not 0 < len(names) <= MOST_NAMES:
        raise InvalidRequest(
            f"attributes.{field}: {str(given)[:80]!r} must be 1 to {MOST_NAMES} names with commas: 'legal,finance'"
        ).at("attributes")
    return names


def _time(given: str | float | bool | None) -> float | None:
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    try:
        found = datetime.fromisoformat(str(given))
    except ValueError as exc:
        raise InvalidRequest(
            f"attributes.consent_until: {given!r} is no time; give ISO 8601, such as '2027-01-31' or UTC seconds"
        ).at("attributes") from exc
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
