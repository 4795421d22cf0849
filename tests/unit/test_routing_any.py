"""Whatever the registry holds and whoever asks: a decision that keeps to the limits, or a sentence."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import ContextLengthExceeded, InvalidRequest, UnknownModel
from serve_app.registry.entry import CAPABILITIES, STATUSES, ModelEntry
from serve_app.turn import Ceilings, Message, Turn
from tests.unit.routed import FixedPace, Routing, asking, entry, read, rollout

PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}

entries = st.builds(
    entry,
    model=st.sampled_from(["small", "large", "other"]),
    version=st.sampled_from("123"),
    weight=st.integers(0, 100),
    status=st.sampled_from(STATUSES),
    engine=st.sampled_from(["vllm", "extractive", "openai"]),
    environment=st.sampled_from(["production", "staging"]),
    context_tokens=st.sampled_from([64, 512, 8_192]),
    capabilities=st.frozensets(st.sampled_from(CAPABILITIES)),
    output_price=st.sampled_from([0.0, 1.0, 1_000.0]),
    egress=st.sampled_from(["raw", "redacted"]),
    screener_down=st.sampled_from(["refuse", "pass"]),
)
registries = st.lists(entries, max_size=9, unique_by=lambda one: one.key)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    parts = [PICTURE] if draw(st.booleans()) else []
    text = draw(st.sampled_from(["Why?", "why? " * 300, "why? " * 3_000]))
    turn = asking(
        model=draw(st.sampled_from(["auto", "small", "large", "other", "small@1", "other@2"])),
        messages=(Message("user", text, {"content": [{"type": "text", "text": text}, *parts]}),),
        session=draw(st.sampled_from(["", "s1"])),
        parameters={"tools": [{"type": "function"}]} if draw(st.booleans()) else {},
        degraded=draw(st.sampled_from([(), ("screener",)])),
        grounded_by_retrieval=draw(st.booleans()),
    )
    cost, wait = draw(st.sampled_from([None, 0.01, 1.0])), draw(st.sampled_from([None, 100.0]))
    return replace(turn, ceilings=Ceilings(max_cost=cost, max_first_token_ms=wait))


@settings(max_examples=150, deadline=None)
@given(registries, turns(), st.sampled_from([None, 0.1, 0.9]), st.sampled_from(["session", "user", "key"]))
def test_a_decision_keeps_to_the_limits_or_says_why_there_is_none(
    held: list[ModelEntry], turn: Turn, difficulty: float | None, sticky: str
) -> None:
    slow = {one.key: 500.0 for one in held if one.version == "3"}
    routing = Routing.over(
        *held,
        sticky=sticky,
        pace=FixedPace(slow),
        rollouts=(rollout("2", {"1": 50, "2": 0}, model="small"),),
        fallbacks={"small": ["other"], "other": ["small", "large"]},
        rules=[{"name": "odd", "min_prompt_tokens": 100, "max_prompt_tokens": 5_000, "models": ["other", "small"]}],
    )
    try:
        routing.router.check(turn.model)
        route = routing.router.route(turn, read(difficulty))
    except (InvalidRequest, ContextLengthExceeded, UnknownModel) as refusal:
        assert str(refusal).startswith("model: ")
        assert refusal.param in ("model", "messages")
        return
    names = [one.name for one in route.candidates]
    assert names == list(dict.fromkeys(names)) == route.facts["candidates"]
    assert not set(names) & set(route.facts["left_out"])
    assert route.reason.isascii()
    for one in route.candidates:
        assert is_allowed(one, turn, slow)


def is_allowed(one: ModelEntry, turn: Turn, slow: dict[tuple[str, str, str], float]) -> bool:
    pictures, ceilings = PICTURE in turn.messages[0].fields["content"], turn.ceilings
    leaks = one.egress == "redacted" and (pictures or bool(turn.degraded))
    unscreened = bool(turn.degraded) and one.screener_down == "refuse"
    dear = ceilings.max_cost is not None and one.price(0, min(256, one.context_tokens // 4)) > ceilings.max_cost
    late = ceilings.max_first_token_ms is not None and one.key in slow
    return one.is_enabled and one.environment == "production" and not (leaks or unscreened or dear or late)
