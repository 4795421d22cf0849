from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.adapters.memory_screener import MemoryScreener
from serve_app.adapters.presidio import PresidioScreener
from serve_app.errors import ScreenerUnavailable
from serve_app.policy import GuardrailSettings, LexiconSettings, PolicySettings
from serve_app.ports import Screener
from serve_app.rules import suspicious
from serve_app.seams import ALERT, units
from serve_app.turn import Scope

ANSWER = Scope(answer=True)
KEY_BLOCK = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq3\nZ4fKq0tP8sYx\n-----END RSA PRIVATE KEY-----"


@pytest.fixture(scope="module")
def presidio() -> PresidioScreener:
    patients = (
        LexiconSettings(kind="PATIENT_ID", pattern=r"\bMRN_\d{4}\b"),
        LexiconSettings(kind="PROJECT", words=("Blue Heron", "Straße 9")),
    )
    policies = {
        "default": PolicySettings(deny=("project xenon",)),
        "clinic": PolicySettings(lexicons=patients),
        "mail": PolicySettings(answer_entities=("EMAIL_ADDRESS", "PERSON")),
    }
    return PresidioScreener(GuardrailSettings(policies=policies))


@pytest.fixture(params=["memory", "presidio"])
def screener(request: pytest.FixtureRequest, presidio: PresidioScreener) -> Screener:
    return presidio if request.param == "presidio" else MemoryScreener(("project xenon",))


async def test_one_screening_per_text_in_order(screener: Screener) -> None:
    first, second, third = await screener.screen(("nothing", "mail jane@example.com", "Project Xenon"))
    assert first.findings == () and first.policy == ""
    assert [(f.kind, f.start, f.end) for f in second.findings] == [("EMAIL_ADDRESS", 5, 21)]
    assert third.policy == "denied-phrase"


async def test_no_texts_no_screenings(screener: Screener) -> None:
    assert await screener.screen(()) == ()


async def test_findings_are_sorted_and_do_not_overlap(screener: Screener) -> None:
    (screening,) = await screener.screen(("call 415 555 2671 or mail jane@example.com or call 415 555 2672",))
    spans = [(finding.start, finding.end) for finding in screening.findings]
    assert len(spans) == 3
    assert all(left[1] <= right[0] for left, right in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("write to jane.doe@example.com.", "EMAIL_ADDRESS", "jane.doe@example.com"),
        ("write to jane.doe@mail.corp.internal.", "EMAIL_ADDRESS", "jane.doe@mail.corp.internal"),
        ("ring (415) 555-2671 today", "PHONE_NUMBER", "(415) 555-2671"),
        ("ring +49 30 901820 today", "PHONE_NUMBER", "+49 30 901820"),
        ("my mobile is 699 956 915", "PHONE_NUMBER", "699 956 915"),
        ("pay with 4111 1111 1111 1111 now", "CREDIT_CARD", "4111 1111 1111 1111"),
        ("my card number is 675984103431?", "CREDIT_CARD", "675984103431"),
        ("IBAN GB29 NWBK 6016 1331 9268 19", "IBAN_CODE", "GB29 NWBK 6016 1331 9268 19"),
        ("ssn 536-90-4399", "US_SSN", "536-90-4399"),
        ("from 203.0.113.77 at noon", "IP_ADDRESS", "203.0.113.77"),
        ("from 2001:db8::8a2e:370:7334 at noon", "IP_ADDRESS", "2001:db8::8a2e:370:7334"),
        ("key sk-proj-Ab3dEf6hIj9lMn2pQr5t", "API_KEY", "sk-proj-Ab3dEf6hIj9lMn2pQr5t"),
        ("AKIAIOSFODNN7EXAMPLE", "API_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ456789", "API_KEY", "ghp_0123456789abcdefghijABCDEFGHIJ456789"),
        ("xoxb-123456789012-abcdefGHIJ", "API_KEY", "xoxb-123456789012-abcdefGHIJ"),
        (f"see\n{KEY_BLOCK}\nend", "API_KEY", KEY_BLOCK),
    ],
)
def test_personal_data_is_found(presidio: PresidioScreener, text: str, kind: str, value: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in presidio.examine(text).findings] == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "numpy 1.26.0 on Python 3.11.7",
        "listens on 127.0.0.1:8000 and 0.0.0.0:8265",
        "the pod network is 10.0.0.0/8, the mask 255.255.255.0",
        "version 2.3.4.1 of the driver",
        "2026-11-21T03:28:04.123456Z",
        "commit 2fbb7291c0ffee1234567890abcdef1234567890",
        "p50 2.31 ms, p99 11.78 ms, 1200 requests, 99.95 %",
        "requests: cpu: 500m, memory: 1536Mi, ephemeral-storage: 20Gi",
        "1763695684 seconds, 1763695684123 ms",
        "sk-learn and sk-manta-local and task-123",
        "docker pull ray@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "git clone git@github.com:ray-project/ray.git",
        "shape (256, 64, 1024) or 256 64 1024",
        "std::vector a::b 10:30:45",
        "uuid 123e4567-e89b-12d3-a456-426614174000",
        "x = arr[0:10, 2:5]; y = 100_000_000; z = 0.123456789",
        "distance: 0.6269873976707458, score -0.36981146090600725",
        "go install mvdan.cc/gofumpt@v0.3.1 and actions/checkout@v4",
        "tsa_policy1 = 1.2.3.4.5.6",
        "issue 1234567 and ticket 20-04-2024",
    ],
)
def test_technical_text_is_left_alone(presidio: PresidioScreener, text: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in presidio.examine(text).findings] == []


def found(presidio: PresidioScreener, text: str, scope: Scope) -> list[tuple[str, str]]:
    return [(finding.kind, text[finding.start : finding.end]) for finding in presidio.examine(text, scope).findings]


def test_an_answer_is_searched_for_what_the_policy_says(presidio: PresidioScreener) -> None:
    text = "Jane Kowalski, jane@example.com, 4111 1111 1111 1111"
    assert found(presidio, text, Scope("mail", answer=True)) == [
        ("PERSON", "Jane Kowalski"),
        ("EMAIL_ADDRESS", "jane@example.com"),
    ]


def test_an_answer_may_name_people_unless_the_policy_says_otherwise(presidio: PresidioScreener) -> None:
    text = "Jane Kowalski, jane@example.com"
    assert found(presidio, text, Scope("clinic")) == [
        ("PERSON", "Jane Kowalski"),
        ("EMAIL_ADDRESS", "jane@example.com"),
    ]
    assert found(presidio, text, Scope("clinic", answer=True)) == [("EMAIL_ADDRESS", "jane@example.com")]


def test_a_policy_has_entities_of_its_own(presidio: PresidioScreener) -> None:
    text = "MRN_1234 of BLUE\n heron, not MRN_12345 or Blue Herons; the project straße 9"
    assert found(presidio, text, Scope("clinic")) == [
        ("PATIENT_ID", "MRN_1234"),
        ("PROJECT", "BLUE\n heron"),
        ("PROJECT", "straße 9"),
    ]


def test_a_name_never_takes_a_character_of_what_has_a_pattern(presidio: PresidioScreener) -> None:
    text = "Kind regards, Jane Kowalski jane.kowalski@example.com"
    assert ("EMAIL_ADDRESS", "jane.kowalski@example.com") in found(presidio, text, Scope("clinic"))


def test_a_pattern_that_could_take_for_ever_is_read_in_linear_time() -> None:
    catastrophic = LexiconSettings(kind="CODE", pattern="(a+)+$")
    policy = PolicySettings(lexicons=(catastrophic,))
    screener = PresidioScreener(GuardrailSettings(policies={"default": policy}))
    assert found(screener, "a" * 50_000 + "b", Scope()) == []


def test_a_pattern_without_a_bound_is_refused() -> None:
    backward = LexiconSettings(kind="CODE", pattern=r"(a|b)\1")
    policy = PolicySettings(lexicons=(backward,))
    with pytest.raises(ValueError, match=r"lexicon CODE: the pattern .* is refused .* list `words`"):
        PresidioScreener(GuardrailSettings(policies={"default": policy}))


@pytest.mark.parametrize("names", ["spacy:en_core_web_none", "transformers:nobody/no-such-model"])
def test_a_model_that_is_not_installed_is_named_with_the_way_out(names: str) -> None:
    with pytest.raises(ValueError, match=r"^guardrail\.names: .*no.* is not .*`names: crf`$"):
        PresidioScreener(GuardrailSettings(names=names))


def test_names_can_be_turned_off() -> None:
    screener = PresidioScreener(GuardrailSettings(names="off"))
    assert found(screener, "Jane Kowalski, jane@example.com", Scope()) == [("EMAIL_ADDRESS", "jane@example.com")]


async def test_a_policy_that_does_not_exist_lets_nothing_pass(presidio: PresidioScreener) -> None:
    with pytest.raises(ScreenerUnavailable):
        await presidio.screen(("hello",), Scope("nobody's"))


@pytest.mark.parametrize(
    "text", ["Grüße aus 東京 von 😀 Jürgen Müller 😀, +49 30 901820", "\U0001f468\u200d\U0001f469 Ann Lee"]
)
def test_places_are_counted_in_characters(presidio: PresidioScreener, text: str) -> None:
    for finding in presidio.examine(text, Scope("clinic")).findings:
        assert text[finding.start : finding.end] in {"東京", "Jürgen Müller", "+49 30 901820", "Ann Lee"}


async def test_any_failure_inside_is_an_unavailable_screener(presidio: PresidioScreener) -> None:
    broken: Any = None
    with pytest.raises(ScreenerUnavailable):
        await presidio.screen((broken,))


LIKELY = st.sampled_from(
    ["jane@example.com", "415-555-2671", "+49 30 901820", "GB29NWBK60161331926819", "4111111111111111", "536-90-4399"]
    + [
        "10.1.2.3",
        "::1",
        "fe80::1",
        "a::b",
        "sk-",
        "AKIA",
        "PRIVATE KEY-----",
        "-----BEGIN ",
        "eyJ",
        "@",
        ".",
        " ",
        "card ",
        "call ",
    ]
    + ["0", "555", "1234567", "x", "ext. 12", "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668"]
)


@settings(max_examples=60, deadline=None)
@given(text=st.lists(LIKELY | st.text(max_size=6), max_size=8).map("".join))
def test_a_finding_is_only_made_where_the_text_is_suspicious(presidio: PresidioScreener, text: str) -> None:
    findings = presidio.examine(text, ANSWER).findings
    assert suspicious(text) or findings == ()
    assert all(suspicious(text[finding.start : finding.end]) for finding in findings)


@settings(max_examples=60, deadline=None)
@given(text=st.lists(LIKELY | st.text(max_size=6), max_size=8).map("".join))
def test_no_finding_crosses_a_seam_of_a_streamed_answer(presidio: PresidioScreener, text: str) -> None:
    spans = units(text, at_end=True).spans
    for finding in presidio.examine(text, ANSWER).findings:
        assert ALERT.search(text[finding.start : finding.end])
        assert any(start <= finding.start and finding.end <= end for start, end in spans)
