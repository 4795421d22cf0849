"""What a validation asks, of a running service and of the Kubernetes at hand."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from serve_app.cli.deployment_sides import Where, rayservices
from serve_app.cli.remote_registry import RemoteRegistry
from serve_app.cli.remote_rollouts import ServiceSite
from serve_app.cli.service import Service
from serve_app.deployed.cluster import RayService
from serve_app.deployed.gateway import Gateway
from serve_app.errors import InvalidRequest, Unavailable
from serve_app.registry.entry import ModelEntry
from serve_app.validation.target import Answered, Health

QUESTION = "What is the capital of France?"
MOST_TOKENS = 16
HEALTH_S = 10.0
"""/health/ready waits 5 s for each part."""


@dataclass(frozen=True)
class ServiceTarget:
    """Implements `Target`."""

    service: Service
    where: Where
    answer_s: float = 60.0
    """For a whole answer; the first may load or compile for long."""

    async def health(self) -> Health:
        response = await self._get("/health/ready", HEALTH_S)
        try:
            parts = response.json()["parts"]
        except (ValueError, KeyError, TypeError) as exc:
            raise Unavailable(f"{self.service.url}/health/ready answered {response.status_code}: is it Manta?") from exc
        return Health(is_ready=response.status_code == httpx.codes.OK, parts=parts)

    async def gateway(self) -> Gateway:
        return await ServiceSite(self.service).gateway()

    async def entries(self, model: str) -> tuple[ModelEntry, ...]:
        return await RemoteRegistry(self.service).entries(model=model)

    async def rayservice(self) -> RayService | None:
        if not self.where.names_kubernetes:
            return None
        found, _ = await rayservices(self.where)
        if len(found) == 1:
            return found[0]
        names = ", ".join(one.name for one in found) or "none"
        raise InvalidRequest(f"rayservice: name the one that is meant (there: {names})")

    async def metrics(self) -> str:
        response = await self._get("/metrics", HEALTH_S)
        if not response.is_success:
            raise Unavailable(f"/metrics answered {response.status_code}")
        return response.text

    async def _get(self, path: str, most_s: float) -> httpx.Response:
        async with self._reached(path):
            return await self.service.client.get(f"{self.service.url}{path}", timeout=most_s)

    @asynccontextmanager
    async def _reached(self, path: str) -> AsyncIterator[None]:
        try:
            yield
        except httpx.TimeoutException as exc:
            raise Unavailable(f"{self.service.url}{path} did not answer in time") from exc
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise Unavailable(
                f"no service at {self.service.url}: start one with `make serve`, or set MANTA_URL"
            ) from exc

    async def answer(self, model: str, *, plain: bool) -> Answered:
        body = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": QUESTION}],
            **({} if plain else {"max_tokens": MOST_TOKENS, "manta": {"retrieval": False}}),
        }
        path, begun = "/v1/chat/completions", time.monotonic()
        url = f"{self.service.url}{path}"
        reading = _Reading()
        async with (
            self._reached(path),
            self.service.client.stream("POST", url, json=body, timeout=self.answer_s) as response,
        ):
            if not response.is_success:
                raise Unavailable(_refusal(await response.aread(), response.status_code))
            async for line in response.aiter_lines():
                reading.take(line, time.monotonic() - begun)
        return reading.answered(response.headers, time.monotonic() - begun)


@dataclass
class _Reading:
    """Of a stream of server-sent events."""

    first_s: float | None = None
    characters: int = 0
    finish_reason: str = ""
    is_whole: bool = False
    error: str = ""

    def take(self, line: str, after_s: float) -> None:
        if not line.startswith("data:"):
            return
        content = line.removeprefix("data:").strip()
        if content == "[DONE]":
            self.is_whole = not self.error
            return
        try:
            chunk = orjson.loads(content)
        except orjson.JSONDecodeError as exc:
            raise Unavailable(f"the stream holds what is no JSON: {content[:80]!r}") from exc
        if "error" in chunk:
            self.error = str(chunk["error"].get("message"))
            return
        for choice in chunk.get("choices", ()):
            text = (choice.get("delta") or {}).get("content") or ""
            if text and self.first_s is None:
                self.first_s = after_s
            self.characters += len(text)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def answered(self, headers: Mapping[str, str], after_s: float) -> Answered:
        """Raises Unavailable where the stream ended with an error."""
        if self.error:
            raise Unavailable(f"the answer broke off: {self.error}")
        return Answered(
            model=headers.get("x-manta-model", ""),
            version=headers.get("x-manta-version", ""),
            first_token_s=after_s if self.first_s is None else self.first_s,
            seconds=after_s,
            characters=self.characters,
            finish_reason=self.finish_reason,
            is_whole=self.is_whole,
        )


def _refusal(body: bytes, status: int) -> str:
    try:
        said: Any = orjson.loads(body)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = "no reason given"
    return f"the question was answered with {status}: {said}"
