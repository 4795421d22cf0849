"""Endpoints to attack: a chat API whose answers the test writes, on a real port or in the process."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

Body = dict[str, Any]
Answer = Callable[[Body], JSONResponse]


def said(text: str, finish_reason: str = "stop", headers: dict[str, str] | None = None, **message: Any) -> JSONResponse:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return JSONResponse({"id": "c", "object": "chat.completion", "choices": [choice]}, headers=headers)


def filtered(policy: str = "words") -> JSONResponse:
    error = {"message": f"the request was blocked by the policy '{policy}'; rephrase it", "code": "content_filter"}
    return JSONResponse({"error": error}, 400)


def failing(status: int, **headers: str) -> JSONResponse:
    return JSONResponse({"error": {"message": "it went wrong", "code": "broken"}}, status, headers)


@dataclass
class ChatApi:
    """Keeps what it was asked; with `stores` it also keeps documents, and counts what nobody deleted."""

    answer: Answer
    stores: bool = False
    ingests: bool = True
    asked: list[Body] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)

    @property
    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        def models() -> Body:
            return {"data": [{"id": "text-embedder"}, {"id": "tiny-chat"}]}

        @app.post("/v1/chat/completions")
        async def complete(request: Request) -> JSONResponse:
            self.asked.append(await request.json())
            return self.answer(self.asked[-1])

        if self.stores:
            self._add_stores(app)
        return app

    def _add_stores(self, app: FastAPI) -> None:
        @app.get("/v1/vector_stores")
        def listing() -> Body:
            return {"data": []}

        @app.post("/v1/files")
        @app.post("/v1/vector_stores")
        def create(request: Request) -> Body:
            made = f"{request.url.path.removeprefix('/v1/')}/x{len(self.kept)}"
            self.kept.add(made)
            return {"id": made.split("/")[1]}

        @app.get("/v1/vector_stores/{store}")
        def state(store: str) -> Body:
            return {"file_counts": {"completed": int(self.ingests), "failed": int(not self.ingests)}}

        @app.delete("/v1/{kind}/{name}")
        def delete(kind: str, name: str) -> Body:
            self.kept.remove(f"{kind}/{name}")
            return {"deleted": True}


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of the app on a port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
