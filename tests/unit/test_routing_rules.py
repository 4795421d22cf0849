"""`model: auto`: the first rule that fits, then difficulty."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.router_settings import RouterSettings
from serve_app.turn import Ceilings
from tests.unit.routed import FixedPace, FixedTask, Routing, asking, entry, read

MODELS = ("small", "large", "coder", "cheap")


def routing(*rules: dict[str, Any], **changes: Any) -> Routing:
    return Routing.over(*map(entry, MODELS), rules=[{"name": f"rule {n}", **r} for n, r in enumerate(rules)], **changes)


def chosen(routing: Routing, difficulty: float | None = 0.1, **changes: Any) -> str:
    return routing.router.route(asking(model="auto", **changes), read(difficulty)).chosen.model


def test_a_tenants_rule_holds_for_that_tenant() -> None:
    ours = routing({"tenants": ["umbrella"], "models": ["coder"]})
    assert chosen(ours, tenant="umbrella") == "coder"
    assert chosen(ours, tenant="acme") == "small"


def test_a_tasks_rule_holds_where_the_task_is_sure() -> None:
    rule = {"tasks": ["code", "math"], "models": ["coder"]}
    assert chosen(routing(rule, tasks=FixedTask("code", 0.5))) == "coder"
    assert chosen(routing(rule, tasks=FixedTask("code", 0.49))) == "small"
    assert chosen(routing(rule, tasks=FixedTask("chat", 0.99))) == "small"
    assert chosen(routing(rule, tasks=FixedTask("code", 0.9), task_threshold=0.95)) == "small"


def test_without_a_classifier_no_rule_of_task_or_difficulty_holds() -> None:
    ours = routing({"tasks": ["code"], "models": ["coder"]}, {"max_difficulty": 1, "models": ["large"]})
    assert chosen(ours, None) == "small"
    route = ours.router.route(asking(model="auto"), None)
    assert route.reason == "auto; no classifier, default model"


@pytest.mark.parametrize(("difficulty", "model"), [(0.29, "small"), (0.3, "coder"), (0.6, "coder"), (0.61, "large")])
def test_bounds_of_difficulty_belong_to_it(difficulty: float, model: str) -> None:
    rule = {"min_difficulty": 0.3, "max_difficulty": 0.6, "models": ["coder"]}
    assert chosen(routing(rule), difficulty) == model


def test_a_rule_may_ask_for_what_a_request_needs() -> None:
    rule = {"needs": ["json"], "models": ["coder"]}
    wanted = {"response_format": {"type": "json_object"}}
    assert chosen(routing(rule), parameters=wanted) == "coder"
    assert chosen(routing(rule), parameters={"response_format": {"type": "text"}}) == "small"


def test_a_rule_may_ask_for_a_long_prompt() -> None:
    rule = {"min_prompt_tokens": 1_000, "models": ["coder"]}
    assert chosen(routing(rule), text="why? " * 1_000) == "coder"
    assert chosen(routing(rule), text="why?") == "small"


def test_the_first_rule_that_fits_decides() -> None:
    rules = ({"tenants": ["acme"], "models": ["cheap"]}, {"tasks": ["code"], "models": ["coder"]})
    assert chosen(routing(*rules, tasks=FixedTask("code"))) == "cheap"


def test_a_rules_models_are_tried_in_their_order_and_no_others() -> None:
    ours = routing({"tenants": ["acme"], "models": ["gone", "coder", "cheap"]}, fallbacks={"coder": ["large"]})
    assert ours.names(asking(model="auto"), 0.9) == ["coder@1", "cheap@1"]


def test_a_rule_without_models_sets_ceilings_and_leaves_the_rest_to_difficulty() -> None:
    ours = Routing.over(
        entry("small"),
        entry("large", output_price=100),
        rules=[{"name": "thrifty", "tenants": ["acme"], "max_cost": 0.001}],
    )
    assert ours.names(asking(model="auto"), 0.9) == ["small@1"]
    assert ours.names(asking(model="auto", tenant="umbrella"), 0.9) == ["large@1", "small@1"]


def test_the_lower_of_a_rules_ceiling_and_the_callers_holds() -> None:
    prices = {"small": 10.0, "large": 100.0}
    ours = Routing.over(
        *(entry(model, output_price=price) for model, price in prices.items()),
        rules=[{"name": "thrifty", "max_cost": 0.02}],
    )
    assert ours.names(asking(model="auto"), 0.9) == ["small@1"]
    route = ours.router.route(asking(model="auto", ceilings=Ceilings(max_cost=0.01)), read(0.9))
    assert route.facts["max_cost"] == 0.01
    route = ours.router.route(asking(model="auto", ceilings=Ceilings(max_cost=1)), read(0.9))
    assert route.facts["max_cost"] == 0.02


def test_the_reason_names_rule_task_and_difficulty() -> None:
    ours = routing({"tasks": ["code"], "max_first_token_ms": 900}, tasks=FixedTask("code"), pace=FixedPace())
    route = ours.router.route(asking(model="auto"), read(0.62))
    assert route.reason == "auto; rule rule 0; task code; difficulty 0.62 >= 0.50"


def test_a_rule_does_not_touch_a_model_that_was_named() -> None:
    ours = routing({"tenants": ["acme"], "models": ["cheap"], "max_cost": 1e-9})
    assert ours.router.route(asking(model="large"), read(0.1)).chosen.model == "large"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"name": "idle"}, "rule 'idle' decides nothing; give it `models`, `max_cost` or `max_first_token_ms`"),
        (
            {"name": "void", "models": ["m"], "min_difficulty": 0.7, "max_difficulty": 0.2},
            "rule 'void' fits nothing: min_difficulty 0.7 is above max_difficulty 0.2",
        ),
        ({"name": "a;b", "models": ["m"]}, "String should match pattern"),
        ({"name": "x", "models": ["m"], "tasks": ["cooking"]}, "Input should be 'question', 'code'"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match="1 validation error") as refusal:
        RouterSettings.model_validate({"small": "s", "large": "l", "rules": [rule]})
    assert sentence in str(refusal.value)
