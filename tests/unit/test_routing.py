"""Who may answer: candidates and their order, and why somebody was left out."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import ContextLengthExceeded, InvalidRequest, UnknownModel
from serve_app.routing.asked import Length, asked_of
from serve_app.token_estimate import estimated_tokens
from serve_app.turn import Ceilings, Message, Passage
from tests.unit.routed import FixedPace, Routing, asking, entry, read, rollout

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
LONG = "why? " * 3_000
"""About 6,300 tokens by estimate, 15,000 bytes."""


def with_part(part: dict[str, Any]) -> tuple[Message, ...]:
    return (Message("user", "What is this?", {"content": [{"type": "text", "text": "What is this?"}, part]}),)


def test_the_others_with_a_weight_answer_in_the_chosen_ones_place() -> None:
    routing = Routing.over(
        entry(version="1", weight=70), entry(version="2", weight=30), entry(version="3", weight=0), entry("other")
    )
    assert sorted(routing.names(asking())) == ["chat@1", "chat@2"]


def test_a_version_without_weight_is_reached_by_its_name_alone() -> None:
    routing = Routing.over(entry(version="1"), entry(version="2", weight=0), fallbacks={"chat": ["chat"]})
    assert routing.names(asking()) == ["chat@1"]
    assert routing.names(asking(model="chat@2")) == ["chat@2"]


def test_during_a_rollout_the_stable_versions_stay_behind_the_canary() -> None:
    entries = entry(version="1", weight=0), entry(version="2", weight=100), entry(version="3", weight=0)
    assert Routing.over(*entries, rollouts=(rollout(),)).names(asking()) == ["chat@2", "chat@1"]
    assert Routing.over(*entries).names(asking()) == ["chat@2"]


def test_another_environments_versions_and_those_not_enabled_are_not_there() -> None:
    routing = Routing.over(
        entry(version="1"),
        entry(version="2", environment="staging"),
        entry(version="3", status="disabled"),
        entry(version="4", status="failed"),
        entry(version="5", status="registered"),
    )
    assert routing.names(asking()) == ["chat@1"]


def test_fallbacks_come_after_the_models_own_versions_each_once() -> None:
    routing = Routing.over(
        *map(entry, ("chat", "backup", "saas")), fallbacks={"chat": ["backup", "chat", "gone", "saas"]}
    )
    route = routing.router.route(asking(), None)
    assert [one.name for one in route.candidates] == ["chat@1", "backup@1", "saas@1"]
    assert route.facts["left_out"] == {"gone": "is not served"}


def test_auto_has_the_other_model_and_the_fallbacks_behind_it() -> None:
    routing = Routing.over(*map(entry, ("small", "large", "saas")), fallbacks={"large": ["saas"]})
    assert routing.names(asking(model="auto"), 0.9) == ["large@1", "small@1", "saas@1"]
    assert routing.names(asking(model="auto"), 0.1) == ["small@1", "large@1"]


def test_auto_takes_the_other_model_while_one_is_switched_off() -> None:
    route = Routing.over(entry("small", status="disabled"), entry("large")).router.route(
        asking(model="auto"), read(0.1)
    )
    assert route.chosen.model == "large"
    assert route.reason == "auto; difficulty 0.10 < 0.50; not small"


def test_auto_comes_to_a_fallback_while_both_are_switched_off() -> None:
    routing = Routing.over(entry("saas"), small="chat", large="chat", fallbacks={"chat": ["saas"]})
    routing.router.check("auto")
    assert routing.names(asking(model="auto"), 0.9) == ["saas@1"]


def test_auto_never_takes_a_model_that_cannot_hold_the_prompt() -> None:
    routing = Routing.over(entry("small", context_tokens=4_096), entry("large", context_tokens=32_768))
    route = routing.router.route(asking(LONG, model="auto"), read(0.1))
    assert [one.name for one in route.candidates] == ["large@1"]
    assert route.facts["left_out"]["small@1"].startswith("holds 4096 tokens and the request needs about 6")


def test_the_answer_needs_room_too() -> None:
    routing = Routing.over(entry("small", context_tokens=4_096), entry("large", context_tokens=32_768))
    assert routing.names(asking(model="auto", parameters={"max_tokens": 4_000}), 0.1) == ["small@1", "large@1"]
    assert routing.names(asking(model="auto", parameters={"max_tokens": 4_090}), 0.1) == ["large@1"]
    assert routing.names(asking(model="auto", parameters={"max_completion_tokens": 500, "n": 9}), 0.1) == ["large@1"]


def test_what_surely_is_too_long_for_everybody_is_refused_with_everybodys_limit() -> None:
    routing = Routing.over(entry("small", context_tokens=1_024), entry("large", context_tokens=2_048))
    with pytest.raises(ContextLengthExceeded) as refusal:
        routing.router.route(asking(LONG, model="auto"), read(0.1))
    assert str(refusal.value).startswith("model: none of small, large can take this request: small@1 holds 1024 tokens")
    assert "large@1 holds 2048 tokens and the request needs about 6" in str(refusal.value)
    assert refusal.value.param == "messages"


def test_what_may_be_too_long_for_everybody_is_left_to_the_longest_context() -> None:
    """The estimate is high on purpose: the engine counts."""
    routing = Routing.over(entry("small", context_tokens=1_024), entry("large", context_tokens=6_000))
    assert routing.names(asking(LONG, model="auto"), 0.1) == ["large@1"]


def test_a_long_conversation_that_will_lose_its_middle_is_not_refused() -> None:
    routing = Routing.over(entry("small", context_tokens=1_024), entry("large", context_tokens=2_048))
    said = [(LONG, "So."), (LONG, "So.")]
    turn = asking("And then?", model="auto", answered=said, grounded_by_retrieval=True)
    assert routing.names(turn, 0.1) == ["large@1"]
    with pytest.raises(ContextLengthExceeded):
        routing.router.route(replace(turn, grounded_by_retrieval=False), read(0.1))


def test_the_length_of_a_prompt_is_left_to_a_model_that_was_named() -> None:
    assert Routing.over(entry(context_tokens=512)).names(asking(LONG)) == ["chat@1"]


def test_of_a_named_models_versions_one_that_holds_the_prompt_is_preferred() -> None:
    routing = Routing.over(entry(version="1", context_tokens=512), entry(version="2", weight=1, context_tokens=16_384))
    assert routing.names(asking(LONG)) == ["chat@2"]


def test_a_fallback_that_cannot_hold_the_prompt_is_none() -> None:
    """It would refuse what the model that was asked for would have answered."""
    routing = Routing.over(entry(), entry("tiny", context_tokens=512), fallbacks={"chat": ["tiny"]})
    assert routing.names(asking()) == ["chat@1", "tiny@1"]
    assert routing.names(asking(LONG)) == ["chat@1"]


@pytest.mark.parametrize(
    ("needed", "changes"),
    [
        ("tools", {"parameters": {"tools": [{"type": "function", "function": {"name": "f"}}]}}),
        ("json", {"parameters": {"response_format": {"type": "json_schema", "json_schema": {}}}}),
        ("vision", {"messages": with_part(PICTURE)}),
    ],
)
def test_auto_takes_only_who_can_do_what_the_request_needs(needed: str, changes: dict[str, Any]) -> None:
    others = frozenset({"tools", "json", "vision"}) - {needed}
    able = frozenset({needed})
    routing = Routing.over(entry("small", capabilities=others), entry("large", capabilities=able))
    route = routing.router.route(asking(model="auto", **changes), read(0.1))
    assert [one.name for one in route.candidates] == ["large@1"]
    assert route.facts["left_out"] == {"small@1": f"has no {needed}"}
    assert route.facts["needs"] == [needed]


def test_of_an_engine_that_nobody_described_nothing_is_known() -> None:
    wanted = {"response_format": {"type": "json_object"}}
    routing = Routing.over(entry("small", engine="extractive"), entry("large"))
    assert routing.names(asking(model="auto", parameters=wanted), 0.1) == ["large@1"]


def test_what_a_named_model_cannot_do_its_engine_says() -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    routing = Routing.over(entry(capabilities=frozenset({"json"})))
    assert routing.names(asking(parameters=tools)) == ["chat@1"]


def test_nobody_left_is_a_sentence_with_every_reason() -> None:
    routing = Routing.over(
        entry("small", capabilities=frozenset({"json"})), entry("large", prompt_price=100, output_price=1_000)
    )
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    turn = asking(model="auto", parameters=tools, ceilings=Ceilings(max_cost=0.01))
    with pytest.raises(InvalidRequest, match="small@1 has no tools; large@1 would cost about 0.26") as refusal:
        routing.router.route(turn, read(0.1))
    assert str(refusal.value).endswith("above 0.01; ask for another model, or for less")
    assert refusal.value.code == "invalid_value"


def test_a_ceiling_of_cost_holds_for_a_named_model_and_its_versions() -> None:
    routing = Routing.over(entry(version="1", output_price=100), entry(version="2", weight=1, output_price=1))
    assert routing.names(asking(ceilings=Ceilings(max_cost=0.01))) == ["chat@2"]
    for model in ("chat", "chat@2"):
        with pytest.raises(InvalidRequest, match=r"chat@2 would cost about 0\.000256, above 1e-06"):
            routing.router.route(asking(model=model, ceilings=Ceilings(max_cost=1e-6)), None)


def test_passages_that_may_be_read_are_paid_for() -> None:
    routing = Routing.over(entry(prompt_price=1_000), entry(version="2", weight=1))
    passage = Passage("c1", "x" * 8_000, 0.9, "file-1", "guide.md")
    dear = asking(ceilings=Ceilings(max_cost=1))
    assert routing.names(dear)[0] == "chat@1"
    assert routing.names(replace(dear, passages=(passage,))) == ["chat@2"]


def test_a_ceiling_of_latency_goes_by_what_was_seen_of_late() -> None:
    slow, quick, new = entry("small"), entry("large"), entry("new")
    pace = FixedPace({slow.key: 900.0, quick.key: 120.0})
    routing = Routing.over(slow, quick, new, pace=pace, fallbacks={"small": ["new"]})
    turn = asking(model="auto", ceilings=Ceilings(max_first_token_ms=500))
    route = routing.router.route(turn, read(0.1))
    assert [one.name for one in route.candidates] == ["large@1", "new@1"]
    assert route.facts["left_out"] == {"small@1": "takes 900 ms to its first token, above 500 ms"}


@pytest.mark.parametrize("part", [PICTURE, SOUND])
def test_what_cannot_be_redacted_never_leaves_for_where_only_redacted_text_may(part: dict[str, Any]) -> None:
    inside, outside = entry(), entry("saas", egress="redacted")
    routing = Routing.over(inside, outside, fallbacks={"chat": ["saas"]})
    assert routing.names(asking(messages=with_part(part))) == ["chat@1"]
    assert routing.names(asking()) == ["chat@1", "saas@1"]
    for model in ("saas", "saas@1"):
        with pytest.raises(InvalidRequest, match="takes redacted text alone, and pictures and sound cannot be"):
            routing.router.route(asking(model=model, messages=with_part(part)), None)


def test_nothing_unscreened_leaves_for_where_only_redacted_text_may() -> None:
    routing = Routing.over(
        entry(),
        entry("saas", egress="redacted"),
        entry("careful", screener_down="refuse"),
        fallbacks={"chat": ["saas", "careful"]},
    )
    assert routing.names(asking(degraded=("screener",))) == ["chat@1"]


def test_a_question_passes_unscreened_only_where_all_that_it_can_reach_says_so() -> None:
    routing = Routing.over(
        *map(entry, ("chat", "small", "large")),
        entry("saas", egress="redacted"),
        entry("careful", screener_down="refuse"),
        entry("careful", "2", 0),
        fallbacks={"large": ["saas"]},
    )
    passes = {name: routing.router.passes_unscreened(name) for name in ("chat", "small", "large", "auto", "saas")}
    assert passes == {"chat": True, "small": True, "large": False, "auto": False, "saas": False}
    assert not routing.router.passes_unscreened("careful")
    assert routing.router.passes_unscreened("careful@2")


def test_a_rules_models_count_for_what_auto_can_reach() -> None:
    rules = [{"name": "r", "tenants": ["umbrella"], "models": ["careful"]}]
    models = (*map(entry, ("small", "large")), entry("careful", screener_down="refuse"))
    assert Routing.over(*models).router.passes_unscreened("auto")
    assert not Routing.over(*models, rules=rules).router.passes_unscreened("auto")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("gpt-9", "there is no model 'gpt-9' here; ask for one of: auto, chat, large"),
        ("chat@9", "'chat' has no version '9' here; ask for one of: auto, chat@1, chat@2"),
        ("chat@3", "'chat@3' is disabled here; ask for one of: auto, chat@1, chat@2"),
        ("old", "'old' is failed here; ask for one of: auto, chat, large"),
    ],
)
def test_a_model_that_is_not_served_is_refused_with_what_is(model: str, sentence: str) -> None:
    router = Routing.over(
        entry(version="1"),
        entry(version="2"),
        entry(version="3", status="disabled"),
        entry("old", status="failed"),
        entry("large"),
    ).router
    with pytest.raises(UnknownModel) as refusal:
        router.check(model)
    assert str(refusal.value) == f"model: {sentence}"
    assert refusal.value.param == "model"


def test_auto_is_refused_at_once_where_none_of_its_models_is_served() -> None:
    with pytest.raises(UnknownModel, match="there is no model 'auto'"):
        Routing.over(entry()).router.check("auto")


@pytest.mark.parametrize("model", ["chat", "chat@1", "auto"])
def test_who_was_let_in_is_answered_though_the_model_was_switched_off_since(model: str) -> None:
    routing = Routing.over(entry(), small="chat", large="chat")
    routing.router.check(model)
    routing.becomes(entry(status="disabled"))
    assert routing.names(asking(model=model)) == ["chat@1"]
    routing.becomes(entry("new"))
    assert routing.names(asking(model=model)) == ["chat@1"]
    with pytest.raises(UnknownModel):
        routing.router.check(model)


def test_a_version_whose_weight_was_taken_away_since_is_simply_not_chosen() -> None:
    routing = Routing.over(entry(version="1", weight=0), entry(version="2"))
    routing.router.check("chat")
    routing.becomes(entry(version="1"), entry(version="2", weight=0))
    assert routing.names(asking()) == ["chat@1"]


def test_the_facts_are_plain_json_and_hold_no_text() -> None:
    routing = Routing.over(
        entry(version="1"),
        entry(version="2"),
        entry("tiny", context_tokens=10),
        fallbacks={"chat": ["tiny"]},
        rollouts=(rollout(),),
    )
    turn = asking("xylophone", session="ann", ceilings=Ceilings(max_cost=1, max_first_token_ms=5))
    facts = routing.router.route(turn, read(0.3)).facts
    assert json.loads(json.dumps(facts)) == facts
    assert "xylophone" not in json.dumps(facts)
    assert facts.keys() >= {"revision", "shares", "sticky", "left_out", "rollout", "max_cost"}


@given(st.text(max_size=3_000))
def test_the_cheap_bound_of_a_prompts_length_is_one(text: str) -> None:
    assert Length((text,)).most >= Length((text,)).tokens


def test_a_long_texts_length_is_estimated_from_stretches_of_it() -> None:
    text = "The weights roll back with one command, and nobody notices. " * 5_000
    assert Length((text,)).tokens == pytest.approx(estimated_tokens(text), rel=0.02)


def test_tools_pictures_and_calls_are_part_of_a_prompt() -> None:
    plain = asking()
    tools = {"tools": [{"type": "function", "function": {"name": "f", "description": "d" * 400}}]}
    calls = Message("assistant", "", {"tool_calls": [{"function": {"name": "f", "arguments": "a" * 400}}]})
    longer = (
        asking(parameters=tools),
        asking(messages=with_part(PICTURE)),
        replace(plain, messages=(*plain.messages, calls)),
    )
    least = asked_of(plain, None, None).prompt.tokens
    assert all(asked_of(turn, None, None).prompt.tokens > least + 50 for turn in longer)
