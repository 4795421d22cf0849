"""The registry in one process's memory, for tests and for trying things out."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from serve_app.errors import RegistryUnavailable
from serve_app.registry.applied import apply
from serve_app.registry.snapshot import Audit, Change, Decide, Snapshot
from serve_app.rollout.rollout import Rollout


@dataclass
class MemoryRegistryStore:
    """Implements `RegistryStore` for one event loop."""

    now: Callable[[], float] = time.time
    _snapshot: Snapshot = Snapshot()
    _audit: list[Audit] = field(default_factory=list)
    _rollouts: dict[str, Rollout] = field(default_factory=dict)
    _fail: bool = False
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by the next, whenever a listener has something to look at."""

    @property
    def fail(self) -> bool:
        """While true the store is away: every call raises RegistryUnavailable, `revisions` that wait do so at once."""
        return self._fail

    @fail.setter
    def fail(self, away: bool) -> None:
        self._fail = away
        self._wake()

    async def snapshot(self) -> Snapshot:
        self._reach()
        return self._snapshot

    async def change(self, decide: Decide) -> Change:
        self._reach()
        change = decide(self._snapshot)
        applied = apply(change, self._snapshot, at=self.now(), first_audit=len(self._audit) + 1)
        if applied.change.is_empty:
            return applied.change
        self._snapshot = applied.snapshot
        self._audit += applied.audit
        self._rollouts |= {rollout.id: rollout for rollout in applied.change.rollouts}
        self._wake()
        return applied.change

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]:
        self._reach()
        found = (row for row in reversed(self._audit) if _concerns(row, model, environment))
        return tuple(found)[:limit]

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        self._reach()
        found = (rollout for rollout in reversed(self._rollouts.values()) if _concerns(rollout, model, environment))
        return tuple(found)[:limit]

    async def revisions(self) -> AsyncGenerator[int, None]:
        seen = -1
        while True:
            self._reach()
            moved = self._moved
            if self._snapshot.revision != seen:
                seen = self._snapshot.revision
                yield seen
            else:
                await moved.wait()

    async def close(self) -> None:
        """Nothing is kept open."""

    def _reach(self) -> None:
        if self._fail:
            raise RegistryUnavailable("the registry's database cannot be used (told to fail)")

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _concerns(row: Audit | Rollout, model: str, environment: str) -> bool:
    return model in ("", row.model) and environment in ("", row.environment)
