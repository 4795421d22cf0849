"""Probes against a target, some at a time; what was recorded stays when the run is cut short."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serve_app.redteam.judge import Reply, Verdict, judge
from serve_app.redteam.suite import Probe
from serve_app.redteam.target import Target, TargetUnreachable

DEAD_AFTER = 8
"""Attempts in a row without any response: the target is gone, and trying the rest would only take hours."""


@dataclass(frozen=True, slots=True)
class Attempt:
    probe: Probe
    reply: Reply
    verdict: Verdict


async def attack(target: Target, probes: Sequence[Probe], concurrency: int, record: Callable[[Attempt], None]) -> None:
    """Tries every probe once. Raises TargetUnreachable when the target no longer answers at all."""
    waiting = iter(probes)
    silent = 0

    async def work() -> None:
        nonlocal silent
        for probe in waiting:
            reply = await target.ask(probe)
            record(Attempt(probe, reply, judge(probe, reply)))
            silent = 0 if reply.status else silent + 1
            if silent >= DEAD_AFTER:
                raise TargetUnreachable(f"the target stopped answering: the last {silent} attempts got no response")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except* TargetUnreachable as gone:
        raise gone.exceptions[0] from None
