"""Asks a Serve application, before it is registered, whether it is there and answers."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from ray import serve

from deployments.remote import ENGINE, named, remote_engine, spoken_to
from serve_app.errors import EngineFailed, InvalidRequest, MantaError
from serve_app.events import Finished
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.turn import Caller, Message, Turn

DEADLINE_S = 30.0
"""For all steps together: the first completion of a large model compiles for seconds."""
CHECKER = Caller("manta", "registry")


@dataclass(frozen=True)
class ServeCheck:
    """Implements `EndpointCheck` for `serve://`."""

    deadline_s: float = DEADLINE_S

    async def check(self, entry: ModelEntry) -> CheckResult:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.deadline_s):
                health = await asyncio.to_thread(running, entry.application or "")
                described = await self._described(entry)
                known = replace(entry, engine=described["engine"], served_name=served_name(entry, described))
                completion = await completed(known)
        except TimeoutError:
            raise refused(entry, f"did not answer within {self.deadline_s:g} s") from None
        return CheckResult(
            steps={"health": health, "models": f"engine {described['engine']}", "completion": completion},
            served_names=tuple(described.get("served_names", ())),
            engine=described["engine"],
            context_tokens=described.get("context_tokens"),
            seconds=time.monotonic() - begun,
        )

    async def _described(self, entry: ModelEntry) -> dict[str, Any]:
        try:
            with spoken_to("engine", EngineFailed):
                described: dict[str, Any] = await named(ENGINE, entry.application or "").describe.remote()
        except EngineFailed as failure:
            raise refused(entry, f"is not an engine of Manta's ({failure})") from failure
        return described


def running(application: str) -> str:
    """Blocks. Raises InvalidRequest unless the application runs and holds an engine."""
    applications = serve.status().applications
    if application not in applications:
        names = ", ".join(sorted(applications))
        raise InvalidRequest(
            f"endpoint: Ray Serve has no application {application!r}; it has {names}. Add it first, "
            "or register with --no-check"
        ).at("endpoint")
    status = str(applications[application].status.value)
    if status != "RUNNING":
        raise InvalidRequest(
            f"endpoint: the application {application!r} is {status}, not RUNNING: wait until it is, "
            "or register with --no-check"
        ).at("endpoint")
    if ENGINE not in applications[application].deployments:
        raise InvalidRequest(
            f"endpoint: the application {application!r} has no deployment {ENGINE!r}, so it is no engine of Manta's"
        ).at("endpoint")
    return f"application {application} is RUNNING"


def served_name(entry: ModelEntry, described: dict[str, Any]) -> str:
    """What the engine calls the model: its one name, where the entry's is not among its names."""
    names = described.get("served_names") or [entry.id_there]
    return entry.id_there if entry.id_there in names else str(names[0])


async def completed(entry: ModelEntry) -> str:
    """One tiny completion. Raises InvalidRequest with the engine's words when there is none."""
    turn = Turn(
        id="registry-check",
        caller=CHECKER,
        messages=(Message("user", "Say yes."),),
        model=entry.model,
        parameters={} if entry.engine == "extractive" else {"max_tokens": 2},
    )
    try:
        async with aclosing(remote_engine(entry).generate(turn)) as events:
            counted = [event.output_tokens async for event in events if isinstance(event, Finished)]
    except MantaError as failure:
        raise refused(entry, f"does not complete a prompt: {failure}") from failure
    return f"completed a prompt with {counted[-1] if counted else 0} tokens"


def refused(entry: ModelEntry, reason: str) -> MantaError:
    return InvalidRequest(f"endpoint: {entry.endpoint} {reason}; look into its log, or register with --no-check").at(
        "endpoint"
    )
