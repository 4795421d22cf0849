"""An engine behind an OpenAI-compatible HTTP endpoint: vLLM elsewhere, another Manta, a provider."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx
import orjson

from serve_app import openai_engine
from serve_app.adapters.http_engine_errors import Refused, asked_of, checked
from serve_app.adapters.http_engine_wire import gathered, streamed_chunks, whole_chunk
from serve_app.errors import InvalidRequest
from serve_app.events import Events
from serve_app.registry.entry import ModelEntry
from serve_app.turn import Turn

CONNECT_S = 2.0
IDLE_S = 60.0
"""Longest pause within a stream that has begun."""
AFTER_DONE_S = 0.2
"""Waited for the end of the response behind `[DONE]`: with it the connection serves the next request."""
PING_S = 5.0
KEEPALIVE_S = 4.0
"""Idle connections are closed before vLLM closes them, after 5 s: no request meets one that is being closed."""
IDLE_CONNECTIONS = 200
LONGEST_REFUSAL_BYTES = 64 * 2**10
LARGEST_LIST_BYTES = 4 * 2**20
"""Of models: some providers list thousands."""
PERSONAL = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key"})
"""Fields that say who asks; an upstream that may see redacted text only gets none of them."""


@cache
def trusted() -> ssl.SSLContext:
    """Whose certificates are believed: SSL_CERT_FILE's, where it is set. Read once: it takes a tenth of a second."""
    return httpx.create_ssl_context()


def upstream_client() -> httpx.AsyncClient:
    """The connections to all upstreams, opened at first use in the loop of that call; admission bounds their number.

    No redirect is followed, no cookie kept, and nothing is compressed: a compressed stream comes in lumps.
    """
    client = httpx.AsyncClient(
        headers={"user-agent": "manta", "accept-encoding": "identity"},
        verify=trusted(),
        timeout=httpx.Timeout(None, connect=CONNECT_S),
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=KEEPALIVE_S
        ),
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


class HttpEngine:
    """Implements `Engine`. Nothing of the caller's request leaves but its body, and nothing that only Manta reads."""

    def __init__(self, entry: ModelEntry, client: httpx.AsyncClient, *, idle_s: float = IDLE_S) -> None:
        """`client`: of all upstreams together, from `upstream_client`."""
        self._entry = entry
        self._client = client
        self._idle_s = idle_s
        self._root = root(entry.endpoint)

    async def generate(self, turn: Turn) -> Events:
        """As the port says; also RateLimited and UnknownModel, which another endpoint may not raise.

        A stream's first event is waited for as long as the entry says, an answer that comes whole until the turn's
        deadline: how long it takes to be written says nothing about its server. Closing closes the connection.
        """
        with asked_of(self._entry) as key:
            async with (
                aclosing(self._chunks(turn, key)) as chunks,
                aclosing(openai_engine.events(chunks)) as events,
            ):
                async for event in events:
                    yield event

    async def ping(self) -> None:
        """Its health page, or where it has none, its models."""
        with asked_of(self._entry) as key:
            async with asyncio.timeout(PING_S):
                try:
                    await self.get("/health", key)
                except Refused as refused:
                    if refused.status >= 500:
                        raise
                    await self.get("/v1/models", key)

    async def get(self, path: str, key: str) -> bytes:
        """The body. Raises Refused, httpx's errors, and ValueError when it is too large."""
        request = self._client.build_request("GET", f"{self._root}{path}", headers=authorization(key))
        async with aclosing(await self._client.send(request, stream=True)) as response:
            if response.status_code != httpx.codes.OK:
                raise Refused(response.status_code, response.headers, await whole_refusal(response.aiter_bytes()))
            return await gathered(response.aiter_bytes(), LARGEST_LIST_BYTES)

    async def _chunks(self, turn: Turn, key: str) -> AsyncGenerator[Mapping[str, Any], None]:
        wait_s = min(self._entry.first_event_deadline_s, turn.seconds_left) if turn.stream else turn.seconds_left
        until = time.monotonic() + wait_s
        request = self._client.build_request(
            "POST",
            f"{self._root}/v1/{'completions' if turn.operation == 'completion' else 'chat/completions'}",
            content=encoded(self._body(turn)),
            headers={"content-type": "application/json", **authorization(key)},
        )
        async with asyncio.timeout(wait_s):
            response = await self._client.send(request, stream=True)
        async with aclosing(response), aclosing(self._pieces(response, turn, until)) as pieces:
            if response.status_code != httpx.codes.OK:
                raise Refused(response.status_code, response.headers, await whole_refusal(pieces))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                yield checked(await whole_chunk(pieces))
                return
            async with aclosing(streamed_chunks(pieces)) as chunks:
                async for chunk in chunks:
                    yield checked(chunk)
            with suppress(TimeoutError, StopAsyncIteration, httpx.HTTPError):
                async with asyncio.timeout(AFTER_DONE_S):
                    await anext(pieces)

    async def _pieces(self, response: httpx.Response, turn: Turn, until: float) -> AsyncGenerator[bytes, None]:
        """What the network brings. Raises TimeoutError when its first piece comes after `until`, or one pauses."""
        received = response.aiter_bytes()
        while True:
            async with asyncio.timeout(until - time.monotonic()):
                piece = await anext(received, None)
            if piece is None:
                return
            yield piece
            until = time.monotonic() + min(self._idle_s, turn.seconds_left)

    def _body(self, turn: Turn) -> dict[str, Any]:
        body = openai_engine.request_body(turn, self._entry.id_there)
        if self._entry.egress == "raw":
            return body
        if any(isinstance(message["content"], list) for message in body.get("messages", ())):
            raise InvalidRequest(
                f"messages: model {self._entry.model!r} takes text only; leave out pictures and files, or ask for "
                "another model"
            ).at("messages")
        return {name: value for name, value in body.items() if name not in PERSONAL}


def root(endpoint: str) -> str:
    return endpoint.rstrip("/").removesuffix("/v1").rstrip("/")


def authorization(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, default=dict)
    except TypeError:
        # Half a surrogate pair or a number of more than 64 bits: JSON may carry them, orjson does not.
        return json.dumps(body, default=dict).encode()


async def whole_refusal(pieces: AsyncIterator[bytes]) -> bytes:
    """What is read of a refusal: a proxy's may be a long page, or break off."""
    try:
        return await gathered(pieces, LONGEST_REFUSAL_BYTES)
    except (ValueError, httpx.HTTPError, TimeoutError):
        return b""
