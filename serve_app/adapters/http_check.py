"""Asks an OpenAI-compatible HTTP endpoint, before it is registered, whether it is there and answers."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson

from serve_app.adapters.http_engine import HttpEngine, upstream_client
from serve_app.adapters.http_engine_errors import Refused, key_of
from serve_app.errors import InvalidRequest, MantaError
from serve_app.events import Finished
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.turn import Caller, Message, Operation, Turn

DEADLINE_S = 10.0
"""For all steps together."""
CHECKER = Caller("manta", "registry")
CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window")
"""What servers call the length of a model's context in their list: vLLM's, OpenRouter's, Groq's."""
TRIES: tuple[tuple[Operation, Mapping[str, int]], ...] = (
    ("chat", {"max_tokens": 4}),
    ("chat", {"max_completion_tokens": 16}),
    ("completion", {"max_tokens": 4}),
)
"""Reasoning models refuse `max_tokens`, models without a chat template refuse to chat."""


@dataclass(frozen=True)
class HttpCheck:
    """Implements `EndpointCheck` for `http(s)://`, over connections of its own."""

    deadline_s: float = DEADLINE_S

    async def check(self, entry: ModelEntry) -> CheckResult:
        try:
            key = key_of(entry)
        except KeyError as missing:
            raise InvalidRequest(str(missing.args[0])).at("key_env") from missing
        async with upstream_client() as client:
            checking = _Checking(entry, key, client)
            try:
                async with asyncio.timeout(self.deadline_s):
                    return await checking.result()
            except TimeoutError:
                raise checking.failed(f"gave no answer within {self.deadline_s:g} s") from None


@dataclass
class _Checking:
    entry: ModelEntry
    key: str
    client: httpx.AsyncClient
    steps: dict[str, str] = field(default_factory=dict)
    step: str = "health"
    """Under way."""

    async def result(self) -> CheckResult:
        begun = time.monotonic()
        self.steps["health"] = await self._health()
        listed = await self._listed()
        first_token_ms = await self._completed(replace(self.entry, served_name=self._served_name(tuple(listed))))
        return CheckResult(
            steps=self.steps,
            served_names=tuple(listed),
            engine="openai",
            context_tokens=listed.get(self._served_name(tuple(listed))),
            seconds=time.monotonic() - begun,
            figures={"first_token_ms": round(first_token_ms, 1)},
        )

    async def _health(self) -> str:
        """A server need not have such a page; what it must not do is fail on it."""
        begun = time.monotonic()
        try:
            with self._wire():
                await HttpEngine(self.entry, self.client).get("/health", self.key)
        except Refused as refused:
            if refused.status >= 500:
                raise self.failed(str(refused)) from refused
            return f"reachable, without a health page ({refused.status})"
        return f"healthy, in {(time.monotonic() - begun) * 1000:.0f} ms"

    async def _listed(self) -> dict[str, int | None]:
        """Context length by the names of its models."""
        self.step = "list of models (/v1/models)"
        try:
            with self._wire():
                answer = orjson.loads(await HttpEngine(self.entry, self.client).get("/v1/models", self.key))
            listed = {str(model["id"]): context_tokens(model) for model in answer["data"]}
        except Refused as refused:
            raise self.failed(str(refused)) from refused
        except (ValueError, TypeError, KeyError) as exc:
            raise self.failed("is not a list as OpenAI's API has it") from exc
        if not listed:
            raise self.failed("is empty")
        self.steps["models"] = f"serves {', '.join(sorted(listed)[:10])}{', ...' if len(listed) > 10 else ''}"
        return listed

    def _served_name(self, names: tuple[str, ...]) -> str:
        """Its one name, where none was said and the model's own is not among its names."""
        if self.entry.id_there in names:
            return self.entry.id_there
        if len(names) == 1 and not self.entry.served_name:
            return names[0]
        raise InvalidRequest(
            f"served_name: {self.entry.endpoint} serves {', '.join(sorted(names)[:10])} and none is called "
            f"{self.entry.id_there!r}; say which of them it is, or register with --no-check"
        ).at("served_name")

    async def _completed(self, entry: ModelEntry) -> float:
        """Milliseconds to the first event of a tiny answer, streamed the way requests will be."""
        self.step, complaints = "completion", list[MantaError]()
        for operation, limit in TRIES:
            begun = time.monotonic()
            try:
                first_s, tokens = await answered(HttpEngine(entry, self.client), tiny(entry.model, operation, limit))
            except MantaError as error:
                complaints.append(error)
                if isinstance(error.__cause__, Refused) and error.__cause__.status in (400, 404, 405, 422):
                    continue
                break
            path = "" if operation == "chat" else " through /v1/completions only: it does not chat"
            self.steps["completion"] = f"{tokens} tokens in {(time.monotonic() - begun) * 1000:.0f} ms{path}"
            return first_s * 1000
        cause = complaints[0].__cause__ or complaints[0]
        raise self.failed(str(cause) if isinstance(cause, Refused) else failure(cause)) from complaints[0]

    @contextmanager
    def _wire(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise self.failed(failure(exc)) from exc

    def failed(self, what: str) -> MantaError:
        reason = what.replace(self.key, "(key)") if self.key else what
        way = "look at that server"
        if "answered 401" in reason or "answered 403" in reason:
            way = "let key_env name the gateway's environment variable with a key of that server"
        return InvalidRequest(
            f"endpoint: {self.entry.endpoint}: its {self.step} {reason}; {way}, or register with --no-check"
        ).at("endpoint")


def failure(exc: BaseException) -> str:
    return f"failed: {exc}" if isinstance(exc, ValueError) else f"failed ({type(exc).__name__}: {exc})"


def context_tokens(model: Mapping[str, Any]) -> int | None:
    return next((model[name] for name in CONTEXT_FIELDS if isinstance(model.get(name), int) and model[name] > 0), None)


def tiny(model: str, operation: Operation, limit: Mapping[str, int]) -> Turn:
    return Turn(
        id="registry-check",
        caller=CHECKER,
        messages=(Message("user", "Say yes."),),
        model=model,
        operation=operation,
        stream=True,
        parameters=limit,
    )


async def answered(engine: HttpEngine, turn: Turn) -> tuple[float, int]:
    """Seconds to the first event, and the tokens of the answer."""
    begun = time.monotonic()
    first_s, tokens = 0.0, 0
    async with aclosing(engine.generate(turn)) as events:
        async for event in events:
            first_s = first_s or time.monotonic() - begun
            tokens = event.output_tokens if isinstance(event, Finished) else tokens
    return first_s, tokens
