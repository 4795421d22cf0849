"""Answers on the wire: headers from the first event, then JSON or server-sent events, until the caller hangs up."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app.admission import Standing
from serve_app.errors import DeadlineExceeded, MantaError
from serve_app.events import Delta, Event, Events, Finished, Started
from serve_app.http.answers import Answer
from serve_app.http.errors import error_body
from serve_app.turn import Turn

DONE = b"data: [DONE]\n\n"


@dataclass
class AnswerResponse(Response):
    """Drives one turn's events to one client. What fails before the first event still gets an HTTP status."""

    turn: Turn
    events: Events
    standing: Callable[[], Standing]

    background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await until_hang_up(self._serve(send), receive)

    async def _serve(self, send: Send) -> None:
        async with aclosing(self.events) as events:
            try:
                async with asyncio.timeout(self.turn.seconds_left):
                    started = await anext(events)
            except TimeoutError as exc:
                raise DeadlineExceeded("no answer within this service's time limit; try again later") from exc
            assert isinstance(started, Started)
            answer = Answer(self.turn, started.model)
            headers = answer_headers(started, self.standing())
            if self.turn.stream:
                await send(head(200, {**headers, "content-type": "text/event-stream; charset=utf-8"}))
                await self._stream(answer, events, send)
            else:
                await self._whole(answer, events, headers, send)

    async def _whole(self, answer: Answer, events: Events, headers: dict[str, str], send: Send) -> None:
        finished = Finished(prompt_tokens=0, output_tokens=0)
        try:
            async with asyncio.timeout(self.turn.seconds_left):
                async for event in events:
                    if isinstance(event, Delta):
                        answer.gather(event)
                    elif isinstance(event, Finished):
                        finished = event
        except TimeoutError as exc:
            raise DeadlineExceeded("the answer was not finished in time; stream it, or ask for fewer tokens") from exc
        body = orjson.dumps(answer.completed(finished))
        length = {"content-type": "application/json", "content-length": str(len(body))}
        await send(head(200, {**headers, **length}))
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, answer: Answer, events: Events, send: Send) -> None:
        try:
            async with asyncio.timeout(self.turn.seconds_left):
                async for event in events:
                    if piece := stream_piece(answer, event):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        except MantaError as error:
            await send({"type": "http.response.body", "body": frame(error_body(error)), "more_body": True})
        except TimeoutError:
            late = DeadlineExceeded("the answer took longer than this service allows; ask for fewer tokens")
            await send({"type": "http.response.body", "body": frame(error_body(late)), "more_body": True})
        await send({"type": "http.response.body", "body": DONE, "more_body": False})


def stream_piece(answer: Answer, event: Event) -> bytes:
    match event:
        case Delta():
            return frame(answer.chunk(event))
        case Finished() if answer.wants_usage:
            return frame(answer.usage_chunk(event))
    return b""


def frame(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body, default=dict) + b"\n\n"


def head(status: int, headers: dict[str, str]) -> dict[str, Any]:
    encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def answer_headers(started: Started, standing: Standing) -> dict[str, str]:
    timings = ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in started.timings_ms.items())
    degraded = {"x-manta-degraded": ", ".join(started.degraded)} if started.degraded else {}
    return {
        "x-manta-model": started.model,
        **({"x-manta-version": started.version} if started.version else {}),
        "x-manta-route": started.route,
        **degraded,
        **({"x-manta-withheld": "; ".join(started.withheld)} if started.withheld else {}),
        "server-timing": timings,
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        **limit_headers(standing),
    }


def limit_headers(standing: Standing) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(standing.limit),
        "x-ratelimit-remaining-requests": str(standing.remaining),
        "x-ratelimit-reset-requests": f"{standing.reset_s:.3f}s",
    }


async def until_hang_up(work: Coroutine[Any, Any, None], receive: Callable[[], Awaitable[Any]]) -> None:
    """Runs `work`; cancels it and waits for its end when the client closes the connection first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(hung_up(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if not working.cancelled():
        working.result()


async def hung_up(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
