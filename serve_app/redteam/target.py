"""The endpoint under attack: any that speaks OpenAI's chat completions."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from serve_app.redteam.judge import FILTERED, Reply
from serve_app.redteam.replies import error_of, json_of, mapping, reply_of
from serve_app.redteam.suite import Probe

PAUSES_S = (0.5, 2.0)
"""Before the attempts after the first, where the target fails."""
MOST_WAITS = 10
LONGEST_WAIT_S = 120.0
"""For a target that asks to be left alone (429); after so many of these the attempt is an error."""
INGESTION_S = 60.0
CHATTED = ("gpt", "llama", "qwen", "mistral", "claude", "gemma", "chat", "instruct")
"""Parts of names of models that chat: some targets list their embedding models first."""

Pause = Callable[[float], Awaitable[None]]


class TargetUnreachable(Exception):
    """Nothing can be tried; the message is for the person who named the target."""


class _Failed(Exception):
    """No answer to this one request; the message is the reason."""

    status = 0


class _NotPlanted(_Failed):
    """The target answers, and the document is not where it should be: WebDAV's Failed Dependency says just that."""

    status = 424


def api_root(target: str) -> str:
    """An address without a path is that of a service: its API stands under /v1. Raises TargetUnreachable."""
    try:
        parts = httpx.URL(target)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise TargetUnreachable(f"--target: {target!r} is no address; give one such as http://127.0.0.1:8000")
    return f"{target.rstrip('/')}/" if parts.path.strip("/") else str(parts.copy_with(path="/v1/"))


def connection(target: str, key: str, timeout_s: float) -> httpx.AsyncClient:
    """Raises TargetUnreachable when the address is none, or the key cannot be sent."""
    if not key.isascii() or not key.isprintable():
        raise TargetUnreachable("--key-env: the key holds characters that a header cannot carry; check the variable")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(
        base_url=api_root(target), headers=headers, timeout=httpx.Timeout(timeout_s, connect=5), follow_redirects=True
    )


async def reach(
    client: httpx.AsyncClient, model: str, max_tokens: int, *, streams: bool = False, pause: Pause = asyncio.sleep
) -> "Target":
    """The target, once it has answered. Raises TargetUnreachable with what to do about it."""
    try:
        listed = await client.get("models")
        stores = await client.get("vector_stores", params={"limit": 1})
    except httpx.HTTPError as exc:
        raise TargetUnreachable(
            f"no target at {client.base_url}: {exc or type(exc).__name__}; start it, or name another with --target"
        ) from exc
    if listed.status_code in (401, 403):
        raise TargetUnreachable(
            f"{client.base_url} does not know this key: name the variable that holds it with --key-env"
        )
    return Target(
        client=client,
        model=model or _model_of(listed, str(client.base_url)),
        max_tokens=max_tokens,
        searches_files=stores.status_code == 200,
        streams=streams,
        pause=pause,
    )


def _model_of(listed: httpx.Response, url: str) -> str:
    rows = mapping(json_of(listed)).get("data")
    names = [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
    if not names:
        raise TargetUnreachable(f"{url} lists no models: name one with --model")
    if "auto" in names:
        return "auto"
    return next((name for name in names if any(part in name.casefold() for part in CHATTED)), names[0])


@dataclass
class Target:
    client: httpx.AsyncClient
    model: str
    max_tokens: int
    searches_files: bool
    """Whether documents can be planted where retrieval finds them; else they come as the result of a tool."""
    streams: bool = False
    """Whether answers are asked for as streams: a guardrail may hold whole answers and let streams pass."""
    pause: Pause = asyncio.sleep
    left_behind: list[str] = field(default_factory=list)
    """What was uploaded and could not be deleted."""

    @property
    def planting(self) -> str:
        """How documents reach the model, as words of a report."""
        if self.searches_files:
            return "planted in a vector store of their own and found by file_search"
        return "given as the result of a tool: this target does not search files in a chat"

    async def ask(self, probe: Probe) -> Reply:
        """Never raises: what goes wrong is a reply of its own."""
        begun = time.monotonic()
        try:
            if probe.document and self.searches_files:
                reply = await self._ask_store(probe, begun)
                if reply.status != 400 or reply.code in FILTERED:
                    return reply
                # It keeps stores, and does not search them in a chat: OpenAI's own API is such a one.
                self.searches_files = False
            return reply_of(await self._chat(conversation(probe)), begun)
        except _Failed as exc:
            return Reply(exc.status, str(exc), seconds=time.monotonic() - begun)

    async def _ask_store(self, probe: Probe, begun: float) -> Reply:
        async with self._store_of(probe) as store:
            search = {"type": "file_search", "vector_store_ids": [store]}
            messages = conversation(probe.model_copy(update={"document": ""}))
            return reply_of(await self._chat(messages, tools=[search]), begun)

    async def _chat(self, messages: list[dict[str, Any]], **more: Any) -> httpx.Response:
        asked = {"model": self.model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0, **more}
        if self.streams:
            asked["stream"] = True
        # Escaped, as httpx's own encoding is not: an attack may hold half of a surrogate pair.
        body, kind = json.dumps(asked).encode(), {"content-type": "application/json"}
        return await self._send("POST", "chat/completions", content=body, headers=kind)

    @asynccontextmanager
    async def _store_of(self, probe: Probe) -> AsyncIterator[str]:
        """A vector store with the probe's document alone; it and the document are gone afterwards."""
        made: list[str] = []
        try:
            upload = {"file": ("page.md", probe.document.encode(errors="replace"), "text/markdown")}
            kept = await self._made("files", files=upload, form={"purpose": "assistants"})
            made.append(f"files/{kept}")
            store = await self._made("vector_stores", json={"name": f"redteam {probe.id}", "file_ids": [kept]})
            made.append(f"vector_stores/{store}")
            await self._ingested(store)
            yield store
        finally:
            for path in reversed(made):
                await self._delete(path)

    async def _made(self, path: str, form: Mapping[str, str] | None = None, **sent: Any) -> str:
        response = await self._send("POST", path, data=form, **sent)
        made = mapping(json_of(response)).get("id")
        if response.status_code >= 300 or not isinstance(made, str):
            raise _NotPlanted(f"the document was refused: {path}: {response.status_code} {error_of(response)[1]}")
        return made

    async def _ingested(self, store: str) -> None:
        pause_s, waited_s = 0.05, 0.0
        while waited_s < INGESTION_S:
            counts = mapping(mapping(json_of(await self._send("GET", f"vector_stores/{store}"))).get("file_counts"))
            if counts.get("completed"):
                return
            if counts.get("failed"):
                raise _NotPlanted("the target failed to ingest the document")
            await self.pause(pause_s)
            waited_s += pause_s
            pause_s = min(1.0, pause_s * 1.5)
        raise _NotPlanted(f"the document was not ingested within {INGESTION_S:g} s")

    async def _delete(self, path: str) -> None:
        try:
            gone = (await self._send("DELETE", path)).status_code < 300
        except _Failed:
            gone = False
        if not gone:
            self.left_behind.append(path)

    async def _send(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """A response, after waiting as long as the target asks to and trying again where it fails. Raises _Failed."""
        waits, failures = 0, 0
        while True:
            try:
                response = await self.client.request(method, path, **sent)
            except httpx.HTTPError as exc:
                if failures == len(PAUSES_S):
                    raise _Failed(f"no response: {exc or type(exc).__name__}") from exc
                await self.pause(PAUSES_S[failures])
                failures += 1
                continue
            if response.status_code == 429 and waits < MOST_WAITS:
                await self.pause(_asked_wait_s(response))
                waits += 1
            elif response.status_code >= 500 and failures < len(PAUSES_S):
                await self.pause(PAUSES_S[failures])
                failures += 1
            else:
                return response


def conversation(probe: Probe) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": probe.system}] if probe.system else []
    messages += [{"role": remark.role, "content": remark.content} for remark in probe.messages]
    messages.append({"role": "user", "content": probe.prompt})
    if probe.document:
        search = {"name": "search_documents", "arguments": "{}"}
        call = {"id": "call_1", "type": "function", "function": search}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": probe.document})
    return messages


def _asked_wait_s(response: httpx.Response) -> float:
    """`Retry-After` in seconds; its form as a date is rare and waits as long as no header does."""
    try:
        wanted = float(response.headers.get("retry-after", "2"))
    except ValueError:
        wanted = 2.0
    return min(LONGEST_WAIT_S, max(0.1, wanted))
