"""An OpenAI-compatible server that answers what a test tells it to, on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import uvicorn

from serve_app.events import Delta, Event, Events
from serve_app.registry.entry import ModelEntry

SSE = {"content-type": "text/event-stream; charset=utf-8"}


def frame(body: Any, end: str = "\n") -> bytes:
    return b"data: " + (body if isinstance(body, bytes) else orjson.dumps(body)) + end.encode() * 2


def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return {"id": "theirs", "object": "chat.completion.chunk", "model": "there", "choices": [choice]}


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
FRAMES = (
    frame(chunk("Hello ")),
    frame(chunk("world.", "stop")),
    frame({"choices": [], "usage": USAGE}),
    frame(b"[DONE]"),
)
WHOLE = {
    "id": "theirs",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world."}, "finish_reason": "stop"}],
    "usage": USAGE,
}


@dataclass
class Clock:
    """Seconds, where a test says how they pass."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Reply:
    pieces: tuple[bytes, ...] = FRAMES
    """Each leaves by itself."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: SSE)
    then: Literal["ends", "breaks", "hangs"] = "ends"
    silent: bool = False
    """Not even a status comes before the caller hangs up."""

    @classmethod
    def json(cls, body: Any, status: int = 200, **headers: str) -> "Reply":
        given = body if isinstance(body, bytes) else orjson.dumps(body)
        return cls((given,), status, {"content-type": "application/json", **headers})


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Upstream:
    """Replies by path, else as `reply` says; it keeps what it was asked, over how many connections, and who left."""

    reply: Reply = Reply()
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    _arrival: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(Asked(scope["method"], scope["path"], headers, orjson.loads(body) if body else None))
        self.connections.add(tuple(scope["client"]))
        self._arrival.set()
        await self._said(self.replies.get(scope["path"], self.reply), receive, send)

    async def _said(self, reply: Reply, receive: Any, send: Any) -> None:
        if not reply.silent:
            named = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
            await send({"type": "http.response.start", "status": reply.status, "headers": named})
            for piece in reply.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if reply.then == "breaks":
            raise ConnectionAbortedError("told to break")
        if reply.then == "hangs" or reply.silent:
            while (await receive())["type"] != "http.disconnect":
                continue
            self.left.set()
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(60):
            while len(self.asked) < times:
                await self._arrival.wait()
                self._arrival.clear()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Upstream"]:
        async with served(self) as self.url:
            yield self


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """Its address. It ends with the block and hangs up on whoever is left: uvicorn's own shutdown sleeps."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="critical", server_header=False, **options)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if config.is_ssl else ''}://127.0.0.1:{port}"
    finally:
        for socket in server.servers:
            socket.close()
        for connection in tuple(server.server_state.connections):
            connection.transport.close()
        await asyncio.gather(*server.server_state.tasks)


def entry(endpoint: str, **changes: Any) -> ModelEntry:
    given = {"model": "small", "version": "2", "environment": "development", "engine": "openai", "served_name": "there"}
    return ModelEntry(**{**given, "endpoint": endpoint, **changes})


async def listed(events: Events) -> list[Event]:
    return [event async for event in events]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))
