"""A live view of rollouts, until they have ended."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live

from serve_app.cli.rollout_tables import standing_view
from serve_app.errors import Unavailable
from serve_app.rollout.operations import RolloutOperations, Standing
from serve_app.rollout.rollout import Rollout

EVERY_S = 1.0
PATIENCE_S = 60.0
"""A gateway that is restarted is back before."""


@dataclass
class Watch:
    """Looks at the rollouts of a model and an environment, either of which may be empty for all."""

    operations: RolloutOperations
    model: str = ""
    environment: str = ""
    now: Callable[[], float] = time.time
    seen: dict[str, Standing] = field(default_factory=dict)
    """By id, as it was last seen: those under way at the beginning, and those begun since."""
    answered_at: float = field(default_factory=time.time)

    async def look(self) -> bool:
        """Whether any is under way. Raises Unavailable once nobody has answered for a minute."""
        try:
            await self._look()
        except Unavailable:
            if self.now() - self.answered_at > PATIENCE_S:
                raise
            return True
        self.answered_at = self.now()
        return any(one.rollout and one.rollout.is_under_way for one in self.seen.values())

    async def _look(self) -> None:
        found = await self.operations.under_way(model=self.model, environment=self.environment)
        going = {one.rollout.id: one for one in found if one.rollout}
        ended = {id for id, one in self.seen.items() if id not in going and one.rollout and one.rollout.is_under_way}
        if ended or not (going or self.seen):
            await self._look_back(ended)
        self.seen |= going

    async def _look_back(self, ended: set[str]) -> None:
        """How those that are not under way any more ended; at the beginning the newest alone."""
        past = await self.operations.history(model=self.model, environment=self.environment)
        for rollout in past if ended else past[:1]:
            if rollout.id in ended or not ended:
                before = self.seen.get(rollout.id)
                self.seen[rollout.id] = _ended(rollout, before)

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        return tuple(one.rollout for one in self.seen.values() if one.rollout)

    def view(self) -> RenderableType:
        silent_s = self.now() - self.answered_at
        note = [f"[yellow]no answer for {silent_s:.0f} s, trying again[/yellow]"] if silent_s > 3 * EVERY_S else []
        return Group(*(standing_view(one, self.now()) for one in self.seen.values()), *note)


def _ended(rollout: Rollout, before: Standing | None) -> Standing:
    weights = {rollout.to_version: 100} if rollout.state == "promoted" else dict(rollout.before)
    report = before.report if before else None
    return Standing(
        model=rollout.model, environment=rollout.environment, rollout=rollout, weights=weights, report=report
    )


async def watched(watch: Watch, console: Console, every_s: float = EVERY_S) -> tuple[Rollout, ...]:
    """Shown until none is under way: how they ended."""
    with Live(watch.view(), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while await watch.look():
            live.update(watch.view(), refresh=True)
            await asyncio.sleep(every_s)
        live.update(watch.view(), refresh=True)
    return watch.rollouts
