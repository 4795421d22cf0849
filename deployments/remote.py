"""Ports spoken over Serve handles: the one module that knows how Ray wraps results and errors."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_app import openai_engine
from serve_app.errors import (
    ClassifierUnavailable,
    EngineFailed,
    MantaError,
    RetrieverUnavailable,
    ScreenerUnavailable,
    Unavailable,
)
from serve_app.events import Events
from serve_app.ports import ANY, Query
from serve_app.registry.entry import ModelEntry
from serve_app.turn import Found, Scope, Scores, Screening, Signals, Turn

Handle: TypeAlias = "DeploymentHandle[Any]"

logger = logging.getLogger("manta")

GATEWAY = "gateway"
ENGINE = "engine"
"""Name of the one deployment in every engine application."""


def named(deployment: str, application: str) -> Handle:
    """A handle by name. The deployment may not be there yet: applications start in any order."""
    return serve.get_deployment_handle(deployment, app_name=application, _check_exists=False)


@contextmanager
def spoken_to(part: str, failure: type[Unavailable]) -> Iterator[None]:
    """Raises what the role raised, not Ray's copy of it with a remote traceback as its text.

    Whatever else goes wrong on the way - the replica died, has no successor yet, broke in its own code - is `failure`.
    """
    try:
        yield
    except RayTaskError as exc:
        if isinstance(exc.cause, MantaError):
            raise exc.cause from None
        logger.error("the %s failed: %s", part, exc)
        raise failure(f"the {part} failed; its log has the reason") from exc
    except (RayError, RayServeException, grpc.RpcError) as exc:
        raise failure(f"the {part} cannot be reached; it is restarted by itself, try again in a moment") from exc


class Remote:
    """What every port over a handle shares."""

    part = "service"
    failure: type[Unavailable] = Unavailable

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def _ask(self, method: str, *values: Any) -> Any:
        with spoken_to(self.part, self.failure):
            return await getattr(self._handle, method).remote(*values)

    async def ping(self) -> None:
        await self._ask("ping")


class RemoteScreener(Remote):
    part, failure = "screener", ScreenerUnavailable

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        screenings: tuple[Screening, ...] = await self._ask("screen", texts, scope)
        return screenings


class RemoteClassifier(Remote):
    part, failure = "classifier", ClassifierUnavailable

    async def classify(self, text: str) -> Signals:
        signals: Signals = await self._ask("classify", text)
        return signals

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        embeddings: NDArray[np.float32] = await self._ask("encode", texts)
        return embeddings

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        scores: tuple[Scores, ...] = await self._ask("score", texts)
        return scores

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        suspicions: tuple[float, ...] = await self._ask("inspect", texts)
        return suspicions


class RemoteRetriever(Remote):
    part, failure = "retriever", RetrieverUnavailable

    async def search(self, query: Query) -> Found:
        found: Found = await self._ask("search", query)
        return found


class RemoteLibrary(Remote):
    """The library's own methods, by name, over one handle: files, stores, and what is attached to them."""

    part, failure = "retriever", RetrieverUnavailable

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        async def call(*values: Any, **named: Any) -> Any:
            return await self._ask("library", method, values, named)

        return call


class RemoteEngine(Remote):
    """An engine application. The entry's `first_event_deadline_s` bounds the wait for a replica that never comes."""

    part, failure = "engine", EngineFailed

    def __init__(self, entry: ModelEntry) -> None:
        super().__init__(named(ENGINE, entry.application or ""))
        self._entry = entry

    def generate(self, turn: Turn) -> Events:
        return self._stream("generate", turn)

    async def _stream(self, method: str, *values: Any) -> AsyncGenerator[Any, None]:
        stream = getattr(self._handle.options(stream=True), method).remote(*values)
        try:
            with spoken_to(self.part, self.failure):
                async with asyncio.timeout(self._entry.first_event_deadline_s):
                    first = await anext(stream)
                yield first
                async for item in stream:
                    yield item
        except StopAsyncIteration:
            raise EngineFailed("the engine ended without an answer; try again") from None
        except TimeoutError as exc:
            raise EngineFailed(f"model {self._entry.model!r} has no replica that answers; try again later") from exc
        finally:
            # Ray cancels for us when the caller hangs up, not when we stop reading.
            stream.cancel()


class RemoteVllm(RemoteEngine):
    """vLLM in Ray's LLMServer: a body goes in, server-sent events or one response object come out."""

    async def generate(self, turn: Turn) -> Events:
        body = openai_engine.request_body(turn, self._entry.id_there)
        async with (
            aclosing(self._chunks(turn.operation, body)) as chunks,
            aclosing(openai_engine.events(chunks)) as events,
        ):
            async for event in events:
                yield event

    async def _chunks(self, operation: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(self._stream("generate", operation, body)) as items:
            async for item in items:
                for chunk in parsed(item):
                    yield chunk


def parsed(item: str | dict[str, Any]) -> Sequence[dict[str, Any]]:
    return openai_engine.parse_sse(item) if isinstance(item, str) else [item]


def remote_engine(entry: ModelEntry) -> RemoteEngine:
    return (RemoteVllm if entry.engine == "vllm" else RemoteEngine)(entry)
