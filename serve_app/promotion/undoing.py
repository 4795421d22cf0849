"""Steps that are all done, or all undone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from serve_app.errors import Unavailable

T = TypeVar("T")

UNDO_TRIES, UNDO_PAUSE_S = 5, 2.0
"""While the registry is away: what made a step fail may well keep it from being undone for a moment too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    name: str
    do: Callable[[], Coroutine[Any, Any, str]]
    """Says what it did."""
    undo: Callable[[], Awaitable[None]] | None = None
    """Puts back what was before, whether `do` came to its end or not, and however often it is called. A step without
    one changes nothing, and may be cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What became of one step."""

    step: str
    state: str
    """done, failed, undone, or left: its undo failed, what it did is still there."""
    words: str = ""


class Undone(Exception):
    """A step failed, or the whole was interrupted (`is_interrupted`); `left` says of which steps something is left."""

    def __init__(self, step: str, reason: str, left: tuple[Said, ...], *, is_interrupted: bool) -> None:
        super().__init__(f"{step}: {reason}")
        self.left, self.is_interrupted = left, is_interrupted


Pause = Callable[[float], Awaitable[None]]


async def carry_out(steps: Sequence[Step], say: Callable[[Said], None], pause: Pause = asyncio.sleep) -> None:
    """One after the other. Whatever goes wrong in one, it and those before it are undone in reverse order.

    Cancelling is acted on between steps and in those that change nothing: a change under way comes to its end, or
    nobody would know whether it did. Raises Undone.
    """
    begun: list[Step] = []
    try:
        for step in steps:
            begun.append(step)
            say(Said(step=step.name, state="done", words=await (to_its_end(step.do()) if step.undo else step.do())))
    except BaseException as error:
        is_interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        reason = "interrupted" if is_interrupted else str(error) or type(error).__name__
        say(Said(step=begun[-1].name if begun else "", state="failed", words=reason))
        left = await to_its_end(undo(begun, say, pause), is_final=True)
        raise Undone(begun[-1].name if begun else "", reason, left, is_interrupted=is_interrupted) from error


async def undo(begun: Sequence[Step], say: Callable[[Said], None], pause: Pause) -> tuple[Said, ...]:
    """Those whose undo failed. One that fails does not keep the others from being undone."""
    left = []
    for step in reversed(begun):
        if step.undo is None:
            continue
        try:
            await _tried(step.undo, pause)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told loudly, and the others are still undone
            said = Said(step=step.name, state="left", words=str(error) or type(error).__name__)
            left.append(said)
        else:
            said = Said(step=step.name, state="undone")
        say(said)
    return tuple(left)


async def _tried(work: Callable[[], Awaitable[None]], pause: Pause) -> None:
    for _ in range(UNDO_TRIES - 1):
        try:
            return await work()
        except Unavailable:
            await pause(UNDO_PAUSE_S)
    return await work()


async def to_its_end(work: Coroutine[Any, Any, T], *, is_final: bool = False) -> T:
    """The result of `work`, which goes on while this task is cancelled; that is raised once it has ended, unless
    `is_final`."""
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            interruption = error
    result = task.result()
    if interruption and not is_final:
        raise interruption
    return result
