"""A conversation that is longer than its model's context: what it is about and what was said last stay."""

from collections.abc import Callable, Sequence

from serve_app.turn import Message

MOST_TURNS = 10
"""Questions, with what followed each, that stay at most where something has to go."""
STEP = 4
"""Turns that go at once. The next turns then find the prompt begin as it began before, and an engine's prefix cache
keeps it; what stays is so 7 to 10 turns."""
INSTRUCTING = ("system", "developer")


def trimmed(messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]) -> tuple[Message, ...]:
    """The messages as they are where they fit; else without their middle, whose place a note takes.

    What the operator wrote stays, so does the first question, which says what the conversation is for, and so do the
    last turns, each whole: a tool's result is never parted from its call. Where even the last turn does not fit, it
    alone is returned.
    """
    if fits(messages):
        return tuple(messages)
    said = [message for message in messages if message.role not in INSTRUCTING]
    starts = [n for n, message in enumerate(said) if message.role == "user"]
    if len(starts) < 2:
        return tuple(messages)
    pinned = [message for message in messages if message.role in INSTRUCTING]
    goal, end = said[: starts[0] + 1], starts[0] + 1
    first = STEP * max(1, -(-(len(starts) - MOST_TURNS) // STEP))
    for number in (*range(first, len(starts) - 1, STEP), len(starts) - 1):
        shorter = (*pinned, *goal, *_note(starts[number] - end), *said[starts[number] :])
        if fits(shorter):
            return shorter
    return (*pinned, *said[starts[-1] :])


def _note(left_out: int) -> tuple[Message, ...]:
    """In the place of the answers it stands for: many chat templates refuse two users in a row."""
    text = f"[{left_out} messages of this conversation are left out here.]"
    return (Message("assistant", text),) if left_out else ()
