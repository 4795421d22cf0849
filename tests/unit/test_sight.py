from datetime import UTC, datetime

import pytest

from serve_app.errors import InvalidRequest
from serve_app.sight import Sight, Terms


def test_terms_are_read_from_attributes() -> None:
    terms = Terms.of(
        {
            "access": "legal, finance",
            "consent_subject": "p-17",
            "consent_purposes": "retrieval,training",
            "consent_until": "2027-01-31",
            "colour": "red",
        }
    )
    assert terms == Terms(
        access=frozenset({"legal", "finance"}),
        subject="p-17",
        purposes=frozenset({"retrieval", "training"}),
        until=datetime(2027, 1, 31, tzinfo=UTC).timestamp(),
    )


def test_a_document_without_terms_is_for_everybody_for_ever() -> None:
    assert Terms.of({"colour": "red"}) == Terms()


def test_a_time_may_be_seconds_or_have_a_zone() -> None:
    assert Terms.of({"consent_until": 12.5}).until == 12.5
    assert Terms.of({"consent_until": "1970-01-01T01:00:00+01:00"}).until == 0.0


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"access": ""}, "attributes.access: '' must be 1 to 64 names with commas"),
        ({"access": " , "}, "must be 1 to 64 names"),
        ({"access": True}, "attributes.access: 'True'"),
        ({"access": ",".join(map(str, range(65)))}, "must be 1 to 64 names"),
        ({"consent_purposes": 3}, "attributes.consent_purposes"),
        ({"consent_until": "soon"}, "attributes.consent_until: 'soon' is no time; give ISO 8601"),
        ({"consent_until": True}, "attributes.consent_until"),
    ],
)
def test_terms_nobody_can_read_are_refused(attributes: dict[str, str | float | bool], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as refused:
        Terms.of(attributes)
    assert refused.value.param == "attributes"


@pytest.mark.parametrize(
    ("terms", "sees"),
    [
        (Terms(), True),
        (Terms(access=frozenset({"legal"})), True),
        (Terms(access=frozenset({"sales"})), False),
        (Terms(purposes=frozenset({"training"})), False),
        (Terms(until=100.0), False),
        (Terms(until=100.5), True),
    ],
)
def test_the_rule(terms: Terms, sees: bool) -> None:
    sight = Sight(tenant="acme", groups=frozenset({"legal"}), now=100.0)
    assert sight.sees("acme", terms) is sees
    assert not sight.sees("other", terms)
