"""What real servers behind HTTP do with what the engine sends them: vLLM's own server, and another Manta."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import openai
import pytest

from serve_app.adapters.http_check import HttpCheck
from serve_app.adapters.http_engine import HttpEngine, upstream_client
from serve_app.checkpoint import CONTEXT_TOKENS, ensure_demo
from serve_app.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, MantaError, UnknownModel
from serve_app.events import Delta, Events, Finished
from serve_app.http.app import create_app
from serve_app.http.errors import error_body
from serve_app.registry.entry import ModelEntry
from serve_app.turn import Message, Turn
from tests.builders import KEY, ScriptedEngine, gateway, turn
from tests.contracts.vllm_server import vllm_server
from tests.upstream import entry, listed, served, text_of

KEY_ENV = "THERE_API_KEY"
LONG = 1_500
"""Tokens of an answer that nobody waits for."""


@dataclass(frozen=True)
class There:
    """A server that runs, and what is asked of it."""

    entry: ModelEntry
    engine: HttpEngine
    names: set[str]
    context_tokens: int | None
    refuses: dict[str, Any]
    """A parameter that its own rules forbid."""

    def asked(self, **changes: Any) -> Turn:
        parameters = {"max_tokens": 8, "temperature": 0, **changes.pop("parameters", {})}
        return turn("Hello", parameters=parameters, stream=changes.pop("stream", True), **changes)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with upstream_client() as opened:
        yield opened


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vllm")
    demo = ensure_demo(folder / "demo")
    with vllm_server(folder, model=demo, served_model_name="there", dtype="bfloat16", api_key=KEY) as server:
        yield server.url


@pytest.fixture
def vllm(vllm_url: str, client: httpx.AsyncClient) -> There:
    there = entry(f"{vllm_url}/v1", key_env=KEY_ENV)
    return There(there, HttpEngine(there, client), {"there"}, CONTEXT_TOKENS, {"top_k": -5})


@pytest.fixture
async def manta(client: httpx.AsyncClient) -> AsyncIterator[There]:
    async with served(create_app(gateway(engine=ScriptedEngine(pieces=("Hello ",) * 8)))) as url:
        there = entry(url, key_env=KEY_ENV, served_name="small")
        yield There(there, HttpEngine(there, client), {"extractive", "large", "small"}, None, {"temperature": 9})


BACKENDS = [pytest.param("vllm", marks=pytest.mark.vllm), "manta"]


@pytest.fixture(params=BACKENDS)
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> There:
    monkeypatch.setenv(KEY_ENV, KEY)
    found: There = request.getfixturevalue(request.param)
    return found


async def refused(there: There, asked: Turn) -> MantaError:
    with pytest.raises(MantaError) as raised:
        await listed(there.engine.generate(asked))
    assert there.entry.endpoint.split("/")[2] not in str(raised.value)
    return raised.value


async def test_it_passes_the_check_that_comes_before_registration(there: There) -> None:
    result = await HttpCheck(deadline_s=60).check(there.entry)
    assert there.names <= set(result.served_names)
    assert result.context_tokens == there.context_tokens
    assert set(result.steps) == {"health", "models", "completion"}


async def test_it_can_be_pinged(there: There) -> None:
    await there.engine.ping()


async def test_an_answer_is_the_same_streamed_and_whole(there: There) -> None:
    streamed = await listed(there.engine.generate(there.asked()))
    whole = await listed(there.engine.generate(there.asked(stream=False)))
    assert text_of(streamed) == text_of(whole) != ""
    assert sum(isinstance(event, Delta) for event in streamed) > 4
    ends = [events[-1] for events in (streamed, whole)]
    assert all(isinstance(end, Finished) and end.prompt_tokens and end.output_tokens for end in ends)


async def test_what_it_refuses_is_refused_in_its_words(there: There) -> None:
    error = await refused(there, there.asked(parameters=there.refuses))
    assert (type(error), error.status) == (InvalidRequest, 400)
    [field] = there.refuses
    assert field in str(error)
    assert error_body(error)["error"]["type"] in ("BadRequestError", "invalid_request_error")


async def test_a_model_it_does_not_have_may_be_had_elsewhere(there: There, client: httpx.AsyncClient) -> None:
    absent = HttpEngine(replace(there.entry, served_name="absent"), client)
    error = await refused(replace(there, engine=absent), there.asked())
    assert isinstance(error, UnknownModel)
    assert error.elsewhere


async def test_a_wrong_key_is_not_the_callers_fault(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "sk-wrong")
    error = await refused(there, there.asked())
    assert isinstance(error, EngineFailed)
    assert "refuses Manta's key" in str(error)


async def test_requests_one_after_the_other_share_a_connection(there: There, client: httpx.AsyncClient) -> None:
    """What was read to its end is handed back: streams, whole answers and refusals."""
    opened: list[str] = []

    async def opens(event: str, _: dict[str, Any]) -> None:
        opened.extend([event] if event == "connection.connect_tcp.started" else [])

    async def trace(request: httpx.Request) -> None:
        request.extensions["trace"] = opens

    client.event_hooks = {"request": [trace]}
    for stream in (True, False, True):
        await listed(there.engine.generate(there.asked(stream=stream)))
        await refused(there, there.asked(parameters=there.refuses))
    assert len(opened) == 1


@pytest.mark.vllm
async def test_a_prompt_that_vllm_cannot_hold_is_known_by_its_code(
    vllm: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    error = await refused(vllm, vllm.asked(messages=(Message("user", "again " * 4_000),)))
    assert isinstance(error, ContextLengthExceeded)
    assert error_body(error)["error"]["code"] == "context_length_exceeded"


@pytest.mark.vllm
async def test_completions_logprobs_and_choices_come_through(vllm: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    completed = vllm.asked(operation="completion", parameters={"logprobs": 1, "max_tokens": 5, "ignore_eos": True})
    said = [event for event in await listed(vllm.engine.generate(completed)) if isinstance(event, Delta)]
    assert all(delta.extras["logprobs"]["tokens"] for delta in said if delta.text)
    several = vllm.asked(parameters={"n": 2, "temperature": 1, "seed": 3, "logprobs": True, "top_logprobs": 2})
    chosen = [event for event in await listed(vllm.engine.generate(several)) if isinstance(event, Delta)]
    assert {delta.choice for delta in chosen} == {0, 1}


@pytest.mark.vllm
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_closing_stops_vllm(
    vllm: There, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """By its own count of what it generated."""
    monkeypatch.setenv(KEY_ENV, KEY)
    before = await counted(client, vllm)
    asked = vllm.asked(stream=stream, parameters={"max_tokens": LONG, "ignore_eos": True})
    if stream:
        async with aclosing(vllm.engine.generate(asked)) as events:
            for _ in range(5):
                await anext(events)
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await listed(vllm.engine.generate(asked))
    assert await counted(client, vllm) - before < LONG * 0.6


async def counted(client: httpx.AsyncClient, vllm: There) -> float:
    """Tokens that vLLM generated, once nothing runs."""
    url = vllm.entry.endpoint.removesuffix("/v1") + "/metrics"
    async with asyncio.timeout(60):
        while True:
            lines = (await client.get(url)).text.splitlines()
            found = {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:")}
            if found["vllm:num_requests_running"] == 0:
                return found["vllm:generation_tokens_total"]
            await asyncio.sleep(0.05)


@dataclass
class Endless:
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, asked: Turn) -> Events:
        try:
            yield Delta({"content": "Hello "})
            await asyncio.Event().wait()
        finally:
            self.stopped.set()


async def test_closing_stops_a_manta(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    endless = Endless()
    async with served(create_app(gateway(engine=endless))) as url:
        engine = HttpEngine(entry(url, key_env=KEY_ENV, served_name="small"), client)
        async with aclosing(engine.generate(turn(stream=True))) as events:
            assert await anext(events) == Delta({"content": "Hello "})
            assert not endless.stopped.is_set()
        async with asyncio.timeout(10):
            await endless.stopped.wait()


async def test_openais_client_sees_through_one_manta_what_the_other_said(
    there: There, client: httpx.AsyncClient
) -> None:
    async with (
        served(create_app(gateway(engine=there.engine))) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as outside,
    ):
        asked: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        whole = await outside.chat.completions.create(**asked, temperature=0)
        stream = await outside.chat.completions.create(**asked, temperature=0, stream=True)
        said = [choice.delta.content or "" async for piece in stream for choice in piece.choices]
        assert "".join(said) == whole.choices[0].message.content != ""
        assert whole.model == "small"
        with pytest.raises(openai.BadRequestError) as refused:
            await outside.chat.completions.create(**{**asked, "extra_body": there.refuses})
    assert refused.value.type in ("BadRequestError", "invalid_request_error")
