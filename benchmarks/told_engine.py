"""An engine that does as it is told: quick, slow, wrong or broken. Real Serve applications of it stand in for versions
of a model, where what is measured is how Manta deals with them."""

import asyncio
import random
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from ray import serve
from ray.serve import Application

from deployments.remote import ENGINE
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

    def tell(name: str, **changes: Any) -> None:
    """Blocks; from a coroutine in a thread, so that the handle lives in Ray's own loop."""
    serve.get_deployment_handle(ENGINE, app_name=name).tell.remote(**changes).result(timeout_s=10)


def asked_of(name: str) -> int:
    """Requests that the application was asked so far. Blocks."""
    count: int = serve.get_deployment_handle(ENGINE, app_name=name).asked.remote().result(timeout_s=10)
    return count
