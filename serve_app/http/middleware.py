"""Pure ASGI: nothing here may buffer a body or a stream."""

import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_ID = 128


@dataclass(frozen=True)
class RequestIds:
    """Gives every request an id, the caller's own where it is a plain token, and echoes it on every response."""

    app: ASGIApp
    is_echoed: bool = False
    """Whoever runs the application echoes the id already, as Ray Serve does: a second header would be one too many."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = accepted(Headers(scope=scope).get("x-request-id", ""))
        scope.setdefault("state", {})["id"] = request_id

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self.app(scope, receive, send if self.is_echoed else tagged)


def accepted(given: str) -> str:
    is_plain = 0 < len(given) <= LONGEST_ID and given.isascii() and given.isprintable()
    return given if is_plain else uuid.uuid4().hex
