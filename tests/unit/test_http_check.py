"""What an endpoint is asked before it is registered, and what an operator reads when it does not answer."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve_app.adapters.http_check import HttpCheck
from serve_app.errors import InvalidRequest
from serve_app.registry.operations import CheckResult
from tests.upstream import FRAMES, Reply, Upstream, entry, frame

KEY = "sk-of-the-upstream"
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def listing(*models: dict[str, Any]) -> Reply:
    return Reply.json({"object": "list", "data": list(models)})


MODELS = listing({"id": "there", "max_model_len": 2_048}, {"id": "other"})
NO_TEMPLATE = Reply.json({"error": {"message": "no chat template", "type": "BadRequestError", "code": 400}}, 400)
WRONG_KEY = Reply.json({"error": {"message": f"wrong key {KEY}"}}, 401)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(replies={"/health": Reply.json({}), "/v1/models": MODELS}).running() as server:
        yield server


async def checked(upstream: Upstream, deadline_s: float = 10.0, **changes: Any) -> CheckResult:
    return await HttpCheck(deadline_s).check(entry(upstream.url, **changes))


async def refused(upstream: Upstream, **changes: Any) -> str:
    with pytest.raises(InvalidRequest) as raised:
        await checked(upstream, **changes)
    assert "--no-check" in str(raised.value) or "key_env" in str(raised.value)
    return str(raised.value)


async def test_an_endpoint_that_answers_says_what_it_is(upstream: Upstream) -> None:
    result = await checked(upstream)
    assert result.engine == "openai"
    assert result.served_names == ("there", "other")
    assert result.context_tokens == 2_048
    assert list(result.steps) == ["health", "models", "completion"]
    assert result.steps["models"] == "serves other, there"
    assert "2 tokens" in result.steps["completion"]
    assert 0 < result.figures["first_token_ms"] <= result.seconds * 1000
    assert [request.path for request in upstream.asked] == ["/health", "/v1/models", CHAT]
    asked = upstream.asked[-1].body
    assert (asked["model"], asked["max_tokens"], asked["stream"]) == ("there", 4, True)


async def test_the_one_model_of_a_server_is_meant_whatever_its_name(upstream: Upstream) -> None:
    upstream.replies["/v1/models"] = listing({"id": "org/weights", "max_model_len": 100})
    result = await checked(upstream, served_name="")
    assert (result.served_names, result.context_tokens) == (("org/weights",), 100)
    assert upstream.asked[-1].body["model"] == "org/weights"


@pytest.mark.parametrize("served_name", ["", "absent"])
async def test_a_model_that_is_not_there_is_told_with_those_that_are(upstream: Upstream, served_name: str) -> None:
    said = await refused(upstream, served_name=served_name)
    assert said.startswith("served_name: ")
    assert "serves other, there" in said
    assert repr(served_name or "small") in said


@pytest.mark.parametrize("status", [404, 405, 401])
async def test_a_server_need_not_have_a_health_page(upstream: Upstream, status: int) -> None:
    upstream.replies["/health"] = Reply.json(b"no", status)
    assert (await checked(upstream)).steps["health"] == f"reachable, without a health page ({status})"


async def test_a_model_that_cannot_chat_is_asked_to_complete(upstream: Upstream) -> None:
    said = frame({"choices": [{"index": 0, "text": "yes", "finish_reason": "stop"}]})
    upstream.replies |= {CHAT: NO_TEMPLATE, COMPLETION: Reply(pieces=(said,))}
    assert "does not chat" in (await checked(upstream)).steps["completion"]


async def test_a_model_that_takes_another_limit_is_asked_with_that(upstream: Upstream) -> None:
    upstream.replies[CHAT] = upstream.replies[COMPLETION] = NO_TEMPLATE
    await refused(upstream)
    limits = [{"max_tokens", "max_completion_tokens"} & request.body.keys() for request in upstream.asked[2:]]
    assert limits == [{"max_tokens"}, {"max_completion_tokens"}, {"max_tokens"}]


@pytest.mark.parametrize(
    ("path", "reply", "said"),
    [
        ("/health", Reply.json(b"starting", 503), "its health answered 503: starting"),
        ("/v1/models", Reply.json(b"404 page not found", 404), "(/v1/models) answered 404: 404 page not found"),
        ("/v1/models", Reply.json(b"<html>"), "(/v1/models) is not a list as OpenAI's API has it"),
        ("/v1/models", Reply.json([]), "is not a list"),
        ("/v1/models", Reply.json({"data": ["there"]}), "is not a list"),
        ("/v1/models", listing(), "(/v1/models) is empty"),
        ("/v1/models", WRONG_KEY, "answered 401: wrong key (key); let key_env"),
        (CHAT, Reply.json({"error": {"message": "out of memory"}}, 500), "its completion answered 500: out of memory"),
        (CHAT, WRONG_KEY, "its completion answered 401: wrong key (key); let key_env"),
        (CHAT, Reply.json({"error": {"message": "slow down"}}, 429), "its completion answered 429: slow down"),
        (CHAT, NO_TEMPLATE, "its completion answered 400: no chat template"),
        (CHAT, Reply.json(b"<html>"), "its completion failed: an answer that is not one of OpenAI's API"),
        (CHAT, Reply(pieces=FRAMES[:1], then="breaks"), "its completion failed (RemoteProtocolError"),
    ],
)
async def test_what_fails_is_told_by_its_step(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, path: str, reply: Reply, said: str
) -> None:
    monkeypatch.setenv("THERE_API_KEY", KEY)
    upstream.replies |= {COMPLETION: reply, path: reply}
    found = await refused(upstream, key_env="THERE_API_KEY")
    assert found.startswith(f"endpoint: {upstream.url}: its ")
    assert said in found
    assert KEY not in found


@pytest.mark.parametrize(("path", "step", "seconds"), [("/health", "health", 0.2), (CHAT, "completion", 2.0)])
async def test_a_step_that_hangs_is_named_after_the_deadline(
    upstream: Upstream, path: str, step: str, seconds: float
) -> None:
    upstream.replies[path] = Reply(silent=True)
    assert f"its {step} gave no answer within {seconds:g} s" in await refused(upstream, deadline_s=seconds)


async def test_a_missing_key_is_named_before_anything_is_asked(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THERE_API_KEY", raising=False)
    said = await refused(upstream, key_env="THERE_API_KEY")
    assert said == "key_env: the gateway's environment variable 'THERE_API_KEY' holds no key; set it"
    assert upstream.asked == []


async def test_an_address_where_nobody_listens_is_told() -> None:
    async with Upstream().running() as gone:
        pass
    assert "its health failed (ConnectError" in await refused(gone)
