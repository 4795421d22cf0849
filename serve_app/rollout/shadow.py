"""Requests that are also sent to a new version, whose answers are compared and thrown away."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import ClassifierUnavailable, EngineFailed, MantaError
from serve_app.events import Events, Finished
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.observation import Observation
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.tally import Tally
from serve_app.turn import Turn

Encode = Callable[[tuple[str, ...]], Awaitable[NDArray[np.float32]]]
"""Shape (len(texts), dimension), rows L2-normalised."""

MOST_AT_ONCE = 4
"""In one replica: shadow traffic must not take the engines from callers. What comes beyond is not sent."""
LONGEST_S = 120.0
"""For one answer; a longer one counts as failed."""
MOST_EVENTS = 4_096
"""After which an answer is left: what it says until then is enough to compare."""


@dataclass
class Shadows:
    """Tools are no reason to leave a request out: Manta runs none, and what an answer thrown away asks for is never
    seen by the caller who would run it."""

    snapshot: Callable[[], Snapshot]
    environment: str
    forbidden: frozenset[str]
    """Tenants whose requests are never sent a second time."""
    tally: Tally
    encode: Encode | None = None
    """None compares no answers."""
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def candidate(self, turn: Turn, answered: ModelEntry) -> ModelEntry | None:
        """The version that this turn is also sent to, when `answered` is what its caller was answered by. The same
        for the same turn, whichever replica decides."""
        rollout = self.snapshot().rollout(answered.model, self.environment)
        if rollout is None or not rollout.shadow_percent or turn.caller.tenant in self.forbidden:
            return None
        if not rollout.before.get(answered.version) or answered.version == rollout.to_version:
            return None
        if not sampled(turn.id, rollout.id, rollout.shadow_percent):
            return None
        entry = self.snapshot().find((rollout.model, rollout.to_version, rollout.environment))
        return entry if entry and entry.is_enabled else None

    def send(self, entry: ModelEntry, given: str, ask: Callable[[ModelEntry], Events]) -> bool:
        """In the background, once the caller has `given`, the beginning of its answer. False where that many are under
        way already: then it is not sent."""
        if len(self.under_way) >= MOST_AT_ONCE:
            return False
        task = asyncio.create_task(self._count(entry, given, ask))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        return True

    async def close(self) -> None:
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    async def _count(self, entry: ModelEntry, given: str, ask: Callable[[ModelEntry], Events]) -> None:
        outcome = await self.compare(entry, given, ask(entry))
        if outcome:
            self.tally.record(outcome)

    async def compare(self, entry: ModelEntry, given: str, events: Events) -> Outcome | None:
        """What the answer came to. None where the version was not to blame for having none: the request does not suit
        it, its caller's answer took most of its time, or a part of Manta is away."""
        observation, began = Observation(), time.perf_counter()
        finished, failed = None, False
        try:
            async with asyncio.timeout(LONGEST_S):
                finished = await read_to_end(events, observation)
        except (EngineFailed, TimeoutError):
            failed = True
        except MantaError:
            return None
        first_s = None if observation.began_at is None else observation.began_at - began
        cost = entry.price(finished.prompt_tokens, finished.output_tokens) if finished else None
        outcome = observation.outcome(entry.key, failed=failed, cost=cost, first_token_s=first_s)
        agreement = None if failed else await self._agreement(given, observation.text)
        return replace(outcome, shadow=True, agreement=agreement)

    async def _agreement(self, given: str, answer: str) -> float | None:
        if self.encode is None or not given.strip() or not answer.strip():
            return None
        try:
            one, other = await self.encode((given, answer))
        except ClassifierUnavailable:
            return None
        return float(np.clip(one @ other, 0.0, 1.0))


async def read_to_end(events: Events, observation: Observation) -> Finished | None:
    """None where there is more of it than is read."""
    seen = 0
    async with aclosing(events):
        async for event in events:
            observation.took(event)
            if isinstance(event, Finished):
                return event
            seen += 1
            if seen >= MOST_EVENTS:
                return None
    return None


def sampled(turn_id: str, rollout_id: str, percent: int) -> bool:
    digest = hashlib.blake2b(f"{rollout_id}\0{turn_id}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) * 100 < percent * 2**64
