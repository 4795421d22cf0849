import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from serve_app.errors import MantaError

DEADLINE_S = 5.0


@dataclass(frozen=True)
class Readiness:
    """Asks every part whether it is there."""

    required: Mapping[str, Callable[[], Awaitable[Any]]]
    """Parts without which a question is not answered: screener, the router's models."""
    optional: Mapping[str, Callable[[], Awaitable[Any]]]
    """Parts whose absence degrades an answer: retriever, classifier."""

    async def check(self) -> dict[str, str]:
        """ "ok" or the reason it is not, by part."""
        parts = {**self.required, **self.optional}
        states = await asyncio.gather(*(self._state(ping) for ping in parts.values()))
        return dict(zip(parts, states, strict=True))

    def is_ready(self, states: Mapping[str, str]) -> bool:
        return all(states[part] == "ok" for part in self.required)

    @staticmethod
    async def _state(ping: Callable[[], Awaitable[Any]]) -> str:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await ping()
        except TimeoutError:
            return f"no answer within {DEADLINE_S:g} s"
        except MantaError as error:
            return str(error)
        return "ok"


def health_router(readiness: Readiness) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Depends on nothing but this process."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready() -> Response:
        """200 only when a question would be answered; the body names every part either way."""
        states = await readiness.check()
        is_ready = readiness.is_ready(states)
        return JSONResponse({"status": "ok" if is_ready else "not ready", "parts": states}, 200 if is_ready else 503)

    return router
