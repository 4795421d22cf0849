"""The verdict over screening and scores, and `POST /v1/moderations`."""

import asyncio
import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from serve_app.adapters.memory_screener import MemoryScreener
from serve_app.errors import ClassifierUnavailable, ScreenerUnavailable
from serve_app.http.moderation_wire import MOST_TEXTS
from serve_app.moderation import CATEGORIES, Moderation, Verdict
from serve_app.ports import ANY
from serve_app.settings import GatewaySettings
from serve_app.turn import Scope, Screening
from tests.builders import THRESHOLDS, HashClassifier, OpenScreener, gateway, settings
from tests.unit.test_http import call, error
from tests.unit.test_openai_shapes import SPECIFICATION, complaints

MAIL = "Write to jane@example.com today."


@dataclass
class FixedScreener:
    """Says the same of every text; remembers the scopes it was asked under."""

    screening: Screening
    delay_s: float = 0.0
    less: int = 0

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        await asyncio.sleep(self.delay_s)
        return (self.screening,) * (len(texts) - self.less)


def guarded(**policy: Any) -> GatewaySettings:
    return settings(guardrail={"policies": {"default": policy}})


async def verdict(
    text: str = "Hello.", given: GatewaySettings | None = None, screening: Screening | None = None, **scores: float
) -> Verdict:
    screener = FixedScreener(screening) if screening else MemoryScreener()
    classifier = HashClassifier({name.replace("_harm", "-harm"): score for name, score in scores.items()})
    moderation = Moderation(screener, classifier, (given or settings()).guardrail, THRESHOLDS)
    [found] = await moderation.verdicts((text,), "acme", deadline_s=5)
    return found


async def moderate(given: Any, behind: Any = None, **sent: Any) -> Any:
    return await call(
        behind or gateway(screener=MemoryScreener()), "POST", "/v1/moderations", json={"input": given, **sent}
    )


async def test_a_harmless_text_passes_under_every_category() -> None:
    found = await verdict()
    assert (found.flagged, found.policy, found.broken) == (False, "", frozenset())
    assert found.scores.keys() == set(CATEGORIES)


async def test_a_head_at_its_shipped_threshold_refuses() -> None:
    assert (await verdict(jailbreak=0.9)).policy == "jailbreak"
    assert not (await verdict(jailbreak=0.89)).flagged


async def test_a_policy_has_its_own_threshold_or_none() -> None:
    assert (await verdict(given=guarded(thresholds={"hate": 0.3}), hate=0.31)).broken == {"hate"}
    assert not (await verdict(given=guarded(thresholds={"hate": None}), hate=1.0)).flagged


async def test_a_subcategory_of_two_heads_needs_both() -> None:
    assert (await verdict(hate=0.95, violence=0.5)).broken == {"hate"}
    both = await verdict(hate=0.95, violence=0.92)
    assert both.broken == {"hate", "violence", "hate/threatening"}
    assert both.scores["hate/threatening"] == 0.92


async def test_self_harm_stands_for_its_subcategories_and_what_nothing_reads_is_zero() -> None:
    found = await verdict(self_harm=0.97, sexual=0.99, violence=0.99)
    assert {"self-harm/intent", "self-harm/instructions"} < found.broken
    assert found.scores["sexual/minors"] == found.scores["violence/graphic"] == 0


async def test_a_lexical_rule_decides_whatever_the_head_says() -> None:
    found = await verdict(screening=Screening(policy="prompt_injection"))
    assert (found.policy, found.scores["prompt_injection"]) == ("prompt_injection", 1.0)
    assert "prompt_injection" in found.broken


async def test_a_denied_phrase_is_flagged_under_no_category() -> None:
    found = await verdict(screening=Screening(policy="denied-phrase"))
    assert (found.flagged, found.policy, found.broken) == (True, "denied-phrase", frozenset())


@pytest.mark.parametrize(
    ("action", "category", "policy"), [("allow", False, ""), ("mask", True, ""), ("block", True, "pii")]
)
async def test_personal_data_are_flagged_only_where_they_are_blocked(action: str, category: bool, policy: str) -> None:
    found = await verdict(MAIL, guarded(entities={"EMAIL_ADDRESS": action}))
    assert ("pii" in found.broken, found.policy) == (category, policy)
    assert (found.scores["pii"] > 0) == category
    assert [MAIL[one.start : one.end] for one in found.findings] == ["jane@example.com"]


async def test_a_tenant_is_judged_by_its_own_policy() -> None:
    policies = {"default": {}, "strict": {"entities": {"EMAIL_ADDRESS": "block"}}}
    given = settings(guardrail={"policies": policies, "tenants": {"acme": "strict"}})
    assert (await verdict(MAIL, given)).flagged
    assert not (await verdict(MAIL, settings(guardrail={"policies": policies}))).flagged


@pytest.mark.parametrize("scores", [{"injection": 0.1}, dict.fromkeys(THRESHOLDS, math.nan)])
async def test_a_head_that_says_nothing_is_no_verdict(scores: dict[str, float]) -> None:
    @dataclass
    class OldClassifier(HashClassifier):
        def _scored(self, text: str) -> dict[str, float]:
            return scores

    moderation = Moderation(MemoryScreener(), OldClassifier(), settings().guardrail, THRESHOLDS)
    with pytest.raises(ClassifierUnavailable, match="no probability of 'prompt_injection'"):
        await moderation.verdicts(("Hello.",), "acme", deadline_s=5)


async def test_a_screener_that_says_less_or_is_late_is_no_verdict() -> None:
    guardrail = settings(guardrail={"deadline_ms": 20}).guardrail
    for screener in (FixedScreener(Screening(), less=1), FixedScreener(Screening(), delay_s=5)):
        with pytest.raises(ScreenerUnavailable):
            await Moderation(screener, HashClassifier(), guardrail, THRESHOLDS).verdicts(("a", "b"), "acme", 5)


async def test_many_texts_have_their_verdicts_in_order() -> None:
    texts = [MAIL if n % 3 == 0 else f"text {n}" for n in range(MOST_TEXTS)]
    results = (await moderate(texts)).json()["results"]
    assert [bool(result["pii"]) for result in results] == [n % 3 == 0 for n in range(MOST_TEXTS)]


async def test_a_result_holds_openais_categories_and_ours() -> None:
    body = (await moderate(MAIL, model="omni-moderation-latest")).json()
    [result] = body["results"]
    assert (body["id"][:5], body["model"]) == ("modr-", "omni-moderation-latest")
    assert result["pii"] == [{"entity": "EMAIL_ADDRESS", "start": 9, "end": 25, "score": 1.0}]
    assert (result["flagged"], result["categories"]["pii"], result["policy"]) == (False, True, "")
    assert result["category_applied_input_types"]["jailbreak"] == ["text"]
    assert result["category_applied_input_types"]["sexual/minors"] == []


async def test_positions_count_characters_not_bytes() -> None:
    text = "Grüße 🐙 an jane@example.com"
    [found] = (await moderate(text)).json()["results"][0]["pii"]
    assert text[found["start"] : found["end"]] == "jane@example.com"


async def test_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "jane@example.com"}]
    [result] = (await moderate(parts)).json()["results"]
    assert (result["pii"][0]["start"], result["pii"][0]["end"]) == (4, 20)


async def test_an_empty_text_has_a_verdict() -> None:
    assert (await moderate("")).json()["results"][0]["flagged"] is False
    assert len((await moderate(["", "a"])).json()["results"]) == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "1 to 256 texts"),
        (None, "1 to 256 texts"),
        (7, "1 to 256 texts"),
        (["a"] * 257, "at most 256 texts"),
        ([1, 2], "entry 0 is neither a text nor a part"),
        (["a", 7], "entry 1 is neither a text nor a part"),
        (["a", {"type": "text", "text": "b"}], "entry 1 is a part among texts"),
        ([{"type": "text", "text": "b"}, "a"], "entry 1 is a text among parts"),
        ([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}], "only text is judged here"),
        ([{"type": "text"}], "entry 0 has no `text`"),
    ],
)
async def test_what_cannot_be_judged_is_400_and_named(given: Any, told: str) -> None:
    response = await moderate(given)
    assert (response.status_code, error(response)["param"]) == (400, "input")
    assert error(response)["message"].startswith("input: ")
    assert told in error(response)["message"]


async def test_half_a_surrogate_pair_is_400() -> None:
    response = await call(gateway(), "POST", "/v1/moderations", content=b'{"input": "a \\ud800 b"}')
    assert (response.status_code, "JSON" in error(response)["message"]) == (400, True)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"screener": OpenScreener(failure=ScreenerUnavailable("gone"))}, "screener_unavailable"),
        ({"classifier": HashClassifier(failure=ClassifierUnavailable("gone"))}, "classifier_unavailable"),
    ],
)
async def test_without_a_screener_or_classifier_there_is_no_verdict(parts: Any, code: str) -> None:
    response = await moderate("Hello.", gateway(**parts))
    assert (response.status_code, error(response)["code"]) == (503, code)


async def test_a_key_is_needed_and_its_rate_counts() -> None:
    one_a_minute = settings(keys=[{**settings().keys[0].model_dump(exclude={"env"}), "requests_per_minute": 1}])
    behind = gateway(one_a_minute)
    assert (await moderate("a", behind)).headers["x-ratelimit-remaining-requests"] == "0"
    assert (await moderate("a", behind)).status_code == 429
    assert (await call(behind, "POST", "/v1/moderations", headers={"authorization": ""})).status_code == 401


async def test_the_documentation_shows_the_body() -> None:
    paths = (await call(gateway(), "GET", "/openapi.json")).json()["paths"]
    schema = paths["/v1/moderations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    assert len(schema["properties"]["input"]["anyOf"]) == 3


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="OpenAI's specification is missing")
async def test_a_moderation_fits_openais_specification() -> None:
    body = (await moderate([MAIL, "Hello."])).json()
    assert complaints(body, "CreateModerationResponse") == []
