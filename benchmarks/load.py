"""Callers: so many requests a second, whatever becomes of those before them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

QUESTION = "How do I roll back a model to the version before it?"


@dataclass(frozen=True, slots=True)
class Answered:
    """What one caller got."""

    at: float
    """Monotonic seconds when it asked."""
    ended: float
    version: str
    trouble: str = ""
    """Empty where the answer came whole: else the status, the error's code, or what broke."""
    first_s: float = 0.0
    words: int = 0


@dataclass
class Callers:
    client: httpx.AsyncClient
    answered: list[Answered] = field(default_factory=list)
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def ask(self, **changes: Any) -> None:
        """One streamed request, not waited for."""
        task = asyncio.ensure_future(self._one(changes))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def ended(self) -> None:
        while self.under_way:
            await asyncio.wait(self.under_way)

    @asynccontextmanager
    async def at_rate(self, rate: float, **changes: Any) -> AsyncIterator["Callers"]:
        """`rate` requests a second while the block runs; it ends when the last of them has ended."""
        asking = asyncio.create_task(self._asking(rate, changes))
        try:
            yield self
        finally:
            asking.cancel()
            await asyncio.wait({asking})
            await self.ended()

    async def _asking(self, rate: float, changes: dict[str, Any]) -> None:
        begun, asked = time.monotonic(), 0
        while True:
            self.ask(**changes)
            asked += 1
            await asyncio.sleep(max(0.0, begun + asked / rate - time.monotonic()))

    async def _one(self, changes: dict[str, Any]) -> None:
        body = {"stream": True, "messages": [{"role": "user", "content": QUESTION}], **changes}
        at, first, version, words, trouble, whole = time.monotonic(), 0.0, "", 0, "", False
        try:
            async with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
                version = response.headers.get("x-manta-version", "")
                if response.status_code != 200:
                    trouble = f"{response.status_code} {(await response.aread()).decode()[:200]}"
                async for line in response.aiter_lines():
                    first = first or time.monotonic()
                    words += '"content"' in line
                    trouble = trouble or fault(line)
                    whole = whole or line == "data: [DONE]"
                trouble = trouble or ("" if whole else "the stream ended early")
        except httpx.HTTPError as failure:
            trouble = type(failure).__name__
        self.answered.append(Answered(at, time.monotonic(), version, trouble, first - at, words))


def fault(line: str) -> str:
    if not line.startswith('data: {"error"'):
        return ""
    return str(orjson.loads(line[6:])["error"]["code"])


def shares(answered: Sequence[Answered]) -> dict[str, float]:
    """Of the whole answers, by version."""
    counted = Counter(one.version for one in answered if not one.trouble)
    return {version: count / counted.total() for version, count in sorted(counted.items())}


def troubles(answered: Sequence[Answered]) -> dict[str, int]:
    return dict(Counter(one.trouble for one in answered if one.trouble))
