"""The whole service before two servers over HTTP, as OpenAI's own client sees it when they fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest

from serve_app.adapters.http_engine import HttpEngine, upstream_client
from serve_app.engines import Engines
from serve_app.http.app import create_app
from serve_app.registry.snapshot import Snapshot
from serve_app.routing.attempts import Attempts
from tests.builders import KEY, gateway, settings
from tests.upstream import FRAMES, WHOLE, Reply, Upstream, chunk, entry, frame, served

HELLO: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hello"}]}
GONE = Reply.json({"error": {"message": "0x7f /srv", "type": "server_error"}}, 500)
BUSY = Reply.json({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}, 429)
OTHER = Reply.json({**WHOLE, "choices": [{**WHOLE["choices"][0], "message": {"content": "Other."}}]})


@dataclass
class Service:
    """`small` runs on `first`; `large`, on `second`, answers in its place."""

    client: openai.AsyncOpenAI
    first: Upstream
    second: Upstream
    attempts: Attempts

    async def whole(self, **asked: Any) -> Any:
        return await self.client.chat.completions.with_raw_response.create(**{**HELLO, **asked})

    async def streamed(self, **asked: Any) -> list[str]:
        stream = await self.client.chat.completions.create(**{**HELLO, **asked}, stream=True)
        return [choice.delta.content or "" async for piece in stream for choice in piece.choices]


@asynccontextmanager
async def serving(first: Upstream, second: Upstream) -> AsyncIterator[Service]:
    async with first.running(), second.running(), upstream_client() as connections:
        entries = (
            entry(first.url, model="small", version="1", status="enabled", weight=100),
            entry(second.url, model="large", version="1", status="enabled", weight=100),
        )
        attempts = Attempts()
        parts = gateway(
            settings(router={"small": "small", "large": "large", "fallbacks": {"small": ["large"]}}),
            snapshot=Snapshot(entries=entries),
            engines=Engines(lambda asked: HttpEngine(asked, connections)),
            attempts=attempts,
        )
        async with (
            served(create_app(parts)) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client,
        ):
            yield Service(client, first, second, attempts)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(Upstream(Reply.json(WHOLE)), Upstream(OTHER)) as running:
        yield running


def said(raw: Any) -> str:
    return str(raw.parse().choices[0].message.content)


async def test_the_first_answers_and_only_what_it_needs_leaves(service: Service) -> None:
    raw = await service.whole(
        user="anna", extra_body={"manta": {"retrieval": False, "session": "s1"}}, extra_headers={"x-tenant": "acme"}
    )
    assert said(raw) == "Hello world."
    [asked] = service.first.asked
    assert asked.body == {**HELLO, "model": "there", "user": "anna", "stream": False}
    assert "x-tenant" not in asked.headers
    assert "authorization" not in asked.headers
    assert service.second.asked == []


@pytest.mark.parametrize("reply", [GONE, BUSY, Reply(pieces=(), then="breaks")], ids=["gone", "busy", "breaks"])
async def test_another_answers_in_its_place_and_the_headers_say_so(service: Service, reply: Reply) -> None:
    service.first.reply = reply
    raw = await service.whole()
    assert (said(raw), raw.headers["x-manta-model"]) == ("Other.", "large")
    assert "small@1 " in raw.headers["x-manta-route"]


async def test_what_the_caller_can_act_on_comes_at_once_and_as_the_server_said_it(service: Service) -> None:
    error = {"message": "top_p is too high", "type": "invalid_request_error", "param": "top_p", "code": "out_of_range"}
    service.first.reply = Reply.json({"error": error}, 400)
    with pytest.raises(openai.BadRequestError) as refused:
        await service.whole()
    found = refused.value
    assert (found.type, found.code, found.param) == ("invalid_request_error", "out_of_range", "top_p")
    assert "top_p is too high" in found.message
    assert service.second.asked == []


async def test_where_all_are_busy_the_client_learns_when_to_come_back(service: Service) -> None:
    service.first.reply = replace(BUSY, headers={**BUSY.headers, "retry-after": "17"})
    service.second.reply = GONE
    with pytest.raises(openai.RateLimitError) as refused:
        await service.whole()
    assert refused.value.response.headers["retry-after"] == "17"
    assert refused.value.code == "rate_limit_exceeded"


async def test_where_all_fail_the_client_learns_nothing_of_their_insides(service: Service) -> None:
    service.first.reply = service.second.reply = GONE
    with pytest.raises(openai.InternalServerError) as failed:
        await service.whole()
    assert failed.value.code == "engine_failed"
    assert "/srv" not in failed.value.message
    assert "127.0.0.1" not in failed.value.message


async def test_a_stream_that_breaks_off_says_so_and_nobody_takes_over(service: Service) -> None:
    service.first.reply = Reply(pieces=(frame(chunk("Hello there ")), frame(chunk("and "))), then="breaks")
    with pytest.raises(openai.APIError, match="broke off"):
        await service.streamed()
    assert service.second.asked == []


async def test_a_client_that_hangs_up_stops_the_server_behind(service: Service) -> None:
    service.first.reply = Reply(pieces=(*[frame(chunk("word "))] * 3,), then="hangs")
    stream = await service.client.chat.completions.create(**HELLO, stream=True)
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(10):
        await service.first.left.wait()


async def test_a_server_that_dies_under_load_costs_no_request(service: Service) -> None:
    """The circuit opens, so that it is not asked again and again."""
    service.first.reply, service.second.reply = Reply(FRAMES), Reply(FRAMES)

    async def ask(number: int) -> str:
        if number == 40:
            service.first.reply = GONE
        return "".join(await service.streamed())

    answers: list[str] = []
    for begin in range(0, 120, 10):
        answers += await asyncio.gather(*(ask(number) for number in range(begin, begin + 10)))
    assert answers == ["Hello world."] * 120
    assert {state.state for state in service.attempts.circuits.states()} == {"open", "closed"}
    assert len(service.first.asked) < 60
