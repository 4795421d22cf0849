"""An engine that does as it is told: quick, slow, wrong or broken. Real Serve applications of it stand in for versions
of a model, where what is measured is how Manta deals with them.

Ray reads its settings when it is imported, and `deployments.cluster.running` makes them: it is imported here at use.
"""

import asyncio
import random
import threading
from collections import deque
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from serve_app.errors import EngineFailed
from serve_app.events import Delta, Events, Finished
from serve_app.turn import Turn

LONG, SLOWLY_S = 100, 0.1
"""Answers of more tokens come slowly: 600 take a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What it does with the next requests."""

    first_token_s: float = 0.01
    token_s: float = 0.002
    tokens: int = 8
    failing: float = 0.0
    """Share of requests that fail before their first token."""
    breaking: float = 0.0
    """Share that fail in the middle."""
    refusing: float = 0.0
    """Share that decline."""
    lying: float = 0.0
    """Share whose citation's passage does not say what it is cited for."""
    says: str = "word"


class ToldEngine:
    """Implements the engine's side of `RemoteEngine`."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._random = random.Random(7)
        self._asked: deque[tuple[str, str]] = deque(maxlen=100_000)

    async def tell(self, **changes: Any) -> None:
        self._told = replace(self._told, **changes)

    async def asked(self) -> int:
        """Requests so far."""
        return len(self._asked)

    async def describe(self) -> dict[str, Any]:
        return {"engine": "extractive", "context_tokens": 8_192}

    async def ping(self) -> None:
        """Answers once it is constructed."""

    async def generate(self, turn: Turn) -> Events:
        told, chance = self._told, self._random
        self._asked.append((turn.id, turn.model))
        await asyncio.sleep(told.first_token_s)
        pause_s = SLOWLY_S if (turn.parameters.get("max_tokens") or 0) > LONG else told.token_s
        if chance.random() < told.failing:
            raise EngineFailed("told to fail")
        words = self._words(turn, told)
        breaks_at = len(words) // 2 if chance.random() < told.breaking else None
        for number, word in enumerate(words):
            if number == breaks_at:
                raise EngineFailed("told to break")
            if number and pause_s:
                await asyncio.sleep(pause_s)
            yield Delta({"content": word}, finish_reason="stop" if number == len(words) - 1 else None)
        yield Finished(prompt_tokens=10, output_tokens=len(words))

    def _words(self, turn: Turn, told: Told) -> list[str]:
        if self._random.random() < told.refusing:
            return ["I'm ", "sorry, ", "but ", "I ", "can't ", "help ", "with ", "that."]
        if turn.passages and turn.grounding.wanted:
            lies = self._random.random() < told.lying
            said = "Elephants are exported by railway on Thursdays." if lies else turn.passages[0].text.split("\n")[0]
            return [f"{word} " for word in said.rstrip(".").split()] + ["[1]."]
        return [f"{told.says} "] * (turn.parameters.get("max_tokens") or told.tokens)


def add(name: str, told: Told) -> None:
    """Adds the application `name` to the running cluster, beside those that are there; returns when it runs."""
    from ray import serve

    from deployments.remote import ENGINE

    options: dict[str, Any] = {"max_ongoing_requests": 1_000, "ray_actor_options": {"num_cpus": 0.1}}
    application = serve.deployment(name=ENGINE, **options)(ToldEngine).bind(told)
    serve.run(application, name=name, route_prefix=None)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """A loop that lives as long as the process: a handle's router lives in the loop that made it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="told engines", daemon=True).start()
    return loop


def _call(name: str, method: str, **values: Any) -> Any:
    async def call() -> Any:
        from deployments.remote import ENGINE, named

        return await getattr(named(ENGINE, name), method).remote(**values)

    return asyncio.run_coroutine_threadsafe(call(), _loop()).result(timeout=10)


def tell(name: str, **changes: Any) -> None:
    """Blocks."""
    _call(name, "tell", **changes)


def asked_of(name: str) -> int:
    """Requests that the application was asked so far. Blocks."""
    return int(_call(name, "asked"))
