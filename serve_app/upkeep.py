import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from serve_app.errors import Unavailable

EVERY_S = 60.0

logger = logging.getLogger(__name__)


class Upkeep:
    """Chores done one after the other, now and then, beside everything else."""

    def __init__(self, *chores: Callable[[], Awaitable[None]]) -> None:
        self._chores = chores
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._repeat())

    def wake(self) -> None:
        """Do them soon."""
        self._woken.set()

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _repeat(self) -> None:
        while True:
            for chore in self._chores:
                try:
                    await chore()
                except Unavailable as exc:
                    logger.warning("%s is put off: %s", chore.__name__, exc)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), EVERY_S)
            self._woken.clear()
