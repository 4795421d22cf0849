"""Counts of rollouts in the memory of one ingress replica, and in a file that outlives it."""

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.rollout.counts import ARMS, Counted, Find, Place
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.tally import Book, nowhere

logger = logging.getLogger("manta")

KEEP_S = 1.0
"""A gateway that is killed forgets no more than the outcomes of this long."""


@dataclass
class MemoryTally:
    """Implements `Tally` for one replica: several that share no Redis each judge by what they saw themselves."""

    find: Find = nowhere
    path: Path | None = None
    """None keeps nothing: a gateway that restarts begins to count anew."""
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _book: Book = field(init=False)
    _is_changed: bool = False

    def __post_init__(self) -> None:
        self._book = Book(self.find)
        if self.path:
            self._book.numbers.update(kept(self.path))

    def record(self, outcome: Outcome) -> None:
        self._is_changed = self._book.record(outcome) or self._is_changed

    async def read(self, rollout: Rollout) -> Counted:
        return self._book.read(rollout)

    async def run(self) -> None:
        while True:
            await self.pause(KEEP_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes the file where something was counted since; one that cannot be written is tried again."""
        if self.path is None or not self._is_changed:
            return
        self._is_changed = False
        content = json.dumps([[*where, numbers] for where, numbers in self._book.numbers.items()]).encode()
        try:
            await asyncio.to_thread(write, self.path, content)
        except OSError as exc:
            self._is_changed = True
            logger.warning("rollouts: their counts cannot be kept in %s (%s)", self.path, exc.strerror)

    async def close(self) -> None:
        await self.flush()


def kept(path: Path) -> Mapping[Place, dict[str, float]]:
    """What the file holds; a damaged one is set aside, and counting begins anew."""
    try:
        return dict(map(read_row, json.loads(path.read_bytes())))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        logger.warning("rollouts: their counts %s cannot be read (%s)", path, exc.strerror)
    except (ValueError, TypeError, AttributeError):
        damaged = path.with_name(f"{path.name}.damaged")
        logger.warning("rollouts: their counts %s are damaged; set aside as %s", path, damaged.name)
        path.replace(damaged)
    return {}


def read_row(row: Any) -> tuple[Place, dict[str, float]]:
    """Raises ValueError, TypeError or AttributeError for what is none."""
    rollout, step, arm, numbers = row
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}")
    return (str(rollout), int(step), arm), {str(name): float(amount) for name, amount in numbers.items()}


def write(path: Path, content: bytes) -> None:
    """All of it or nothing, whenever the machine stops. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # of its own name: the replicas of a machine share the path
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
