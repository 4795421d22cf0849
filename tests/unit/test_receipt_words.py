"""`manta explain`, word by word."""

from typing import Any

import pytest

from serve_app.http.receipts import receipt_object
from serve_app.routing.explain import explained, model_words
from serve_app.routing.receipt import Receipt
from serve_app.routing.route import Attempt
from tests.unit.routed import FixedPace, FixedTask, Routing, asking, entry, read, rollout

RULE = {"name": "code to large", "tasks": ["code"], "models": ["large"]}


def receipt(**changes: Any) -> Receipt:
    given = {
        "id": "req-7",
        "at": 1_763_742_166.5,
        "tenant": "acme",
        "key_id": "ann",
        "asked": "auto",
        "operation": "chat",
        "outcome": "answered",
        "policy": "strict",
        "timings_ms": {"screen": 1.24, "classify": 3.1, "total": 812.4},
        "prompt_tokens": 1_204,
        "output_tokens": 87,
    }
    return Receipt(**{**given, **changes})


def words(given: Receipt) -> str:
    said = explained(receipt_object(given, shows_endpoints=True))
    return "\n".join(f"{heading}: {sentence}" for heading, sentence in said)


def test_a_canary_that_failed_and_was_answered_by_the_stable_version() -> None:
    canary = entry("chat", "2", 5, prompt_price=2, output_price=8)
    stable = entry("chat", "1", 95, digest=f"sha256:{'ab' * 32}", signature="verified")
    routing = Routing.over(
        canary,
        stable,
        entry("tiny", context_tokens=512),
        small="tiny",
        large="chat",
        rollouts=(rollout(step=0),),
    )
    turns = [asking("why? " * 2_000, model="auto", session=f"s{n}") for n in range(200)]
    route = next(r for r in (routing.router.route(turn, read(0.31)) for turn in turns) if r.chosen == canary)
    given = receipt(
        model="chat",
        version="1",
        endpoint="serve://chat-1",
        digest=stable.digest,
        signature="verified",
        reason=route.reason,
        facts=route.facts,
        attempts=(
            Attempt(entry=canary, outcome="engine_failed", ms=41.26, failed=True),
            Attempt(entry=stable, outcome="answered", ms=120.4),
        ),
        redacted={"EMAIL_ADDRESS": 2, "PERSON": 1},
        passages=("file-1/c1", "file-2/c9"),
        withheld=("guide.md",),
        degraded=("sessions",),
        cost=0.003104,
    )
    name = route.facts["sticky"]["name"]
    assert words(given) == (
        "request: req-7, 2025-11-21 16:22:46 UTC\n"
        "asked: for auto (chat) by key ann of tenant acme\n"
        "screened: under policy strict; 2 EMAIL_ADDRESS, 1 PERSON replaced by placeholders\n"
        "model: tiny, the question's difficulty is 0.31, below 0.50; it could not take the request, so chat did\n"
        "rollout: to version 2 was under way, at 5 %\n"
        f"version: 2 has 5 % of the requests, 1 has 95 %; 2 was kept by the session {name}\n"
        "left out: tiny@1 holds 512 tokens and the request needs about 4336\n"
        "tried: chat@2: failed after 41.3 ms (engine_failed)\n"
        "tried: chat@1: its answer began after 120 ms\n"
        f"answered by: serve://chat-1, sha256:{'ab' * 32}, signature verified\n"
        "passages: file-1/c1, file-2/c9\n"
        "withheld: from the model: guide.md\n"
        "missing: sessions\n"
        "tokens: 1,204 read, 87 written, at a cost of 0.003104\n"
        "times: screen 1.2 ms, classify 3.1 ms, 812 ms in all\n"
        "outcome: answered"
    )


def test_a_question_that_was_refused_before_anybody_was_chosen() -> None:
    given = receipt(outcome="content_filter", refused_by="jailbreak", prompt_tokens=0, output_tokens=0, timings_ms={})
    assert words(given) == (
        "request: req-7, 2025-11-21 16:22:46 UTC\n"
        "asked: for auto (chat) by key ann of tenant acme\n"
        "screened: under policy strict; refused for jailbreak\n"
        "tokens: 0 read, 0 written\n"
        "times: none taken\n"
        "outcome: ended with the error content_filter"
    )


def test_a_safe_answer_and_a_caller_who_left() -> None:
    assert words(receipt(refused_by="jailbreak")).endswith("outcome: answered with the policy's own words")
    assert words(receipt(outcome="abandoned")).endswith("outcome: abandoned: the caller hung up")


def test_an_endpoint_that_was_left_alone_and_a_request_that_was_refused_there() -> None:
    attempts = (
        Attempt(entry=entry(), outcome="circuit_open", failed=True),
        Attempt(entry=entry(version="2"), outcome="context_length_exceeded", ms=3.0),
    )
    said = words(receipt(attempts=attempts))
    assert "tried: chat@1: left alone, it has failed too often of late\n" in said
    assert "tried: chat@2: refused the request after 3.0 ms (context_length_exceeded)\n" in said


def test_a_missing_screener_is_said() -> None:
    assert "screened: under policy strict; not at all, the screener was missing" in words(
        receipt(degraded=("screener",))
    )


@pytest.mark.parametrize(
    ("model", "difficulty", "changes", "expected"),
    [
        ("small", 0.2, {}, "small, by its name"),
        ("small@2", 0.2, {}, "small@2, the very version that was asked for"),
        ("auto", 0.2, {}, "small, the question's difficulty is 0.20, below 0.50"),
        ("auto", 0.5, {}, "large, the question's difficulty is 0.50, at or above 0.50"),
        ("auto", None, {}, "small, the default, as the classifier was missing"),
        ("auto", 0.9, {"large": "small"}, "small, the only one there is for `auto`"),
        (
            "auto",
            0.2,
            {"rules": [RULE], "tasks": FixedTask("code", 0.93)},
            "large, by rule 'code to large' (task code with probability 0.93, difficulty 0.20)",
        ),
        (
            "auto",
            0.2,
            {"rules": [{"name": "thrifty", "max_cost": 0.5, "max_first_token_ms": 800}], "pace": FixedPace()},
            "small, the question's difficulty is 0.20, below 0.50; rule 'thrifty' set limits; "
            "it was to cost at most 0.5; its first token was to come within 800 ms",
        ),
        (
            "auto",
            0.9,
            {"rules": [{"name": "thrifty", "max_cost": 0.005}]},
            "large, the question's difficulty is 0.90, at or above 0.50; rule 'thrifty' set limits; "
            "it could not take the request, so small did; "
            "it was to cost at most 0.005, and was estimated to cost 0.000256",
        ),
    ],
)
def test_how_a_model_was_chosen(model: str, difficulty: float | None, changes: dict[str, Any], expected: str) -> None:
    prices = {"small": 1, "large": 100}
    models = [entry(one, output_price=price) for one, price in prices.items()]
    routing = Routing.over(*models, entry("small", "2", 0), **changes)
    route = routing.router.route(asking(model=model), read(difficulty))
    assert model_words(route.facts) == expected
