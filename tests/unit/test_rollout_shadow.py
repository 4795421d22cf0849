"""Requests that a new version answers for nobody."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.adapters.memory_tally import MemoryTally
from serve_app.errors import ContextLengthExceeded, DeadlineExceeded, EngineFailed, MantaError
from serve_app.events import Delta, Events, Finished
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.counts import Counts
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.shadow import MOST_AT_ONCE, MOST_EVENTS, Shadows, sampled
from serve_app.turn import Caller, Message, Turn


def entry(version: str, **fields: Any) -> ModelEntry:
    known = {"endpoint": f"serve://m{version}", "engine": "vllm", "status": "enabled", "environment": "staging"}
    return ModelEntry(**{"model": "m", "version": version, "output_price": 1_000_000.0, **known, **fields})


OLD, NEW = entry("1", weight=100), entry("2")
ROLLOUT = Rollout(
    id="r1", model="m", environment="staging", to_version="2", before={"1": 100, "2": 0, "3": 0}, steps=(),
    shadow_percent=100,
)  # fmt: skip


def turn(id: str = "t1", tenant: str = "acme", **parameters: Any) -> Turn:
    caller, messages = Caller(tenant, "k"), (Message("user", "Why?"),)
    return Turn(id=id, caller=caller, messages=messages, model="m", parameters=parameters)


async def encode(texts: tuple[str, ...]) -> Any:
    """Two texts agree as far as they share words."""
    words = sorted({word for text in texts for word in text.split()})
    rows = np.array([[float(word in text.split()) for word in words] for text in texts], np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass
class Engine:
    """Answers when it is let; what became of its streams can be seen."""

    text: str = "because it is so"
    error: MantaError | None = None
    lets: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    closed: int = 0

    async def answer(self, _: ModelEntry) -> Events:
        self.asked += 1
        try:
            await self.lets.wait()
            for word in self.text.split():
                yield Delta({"content": f"{word} "})
            if self.error:
                raise self.error
            yield Finished(prompt_tokens=3, output_tokens=4)
        finally:
            self.closed += 1


@pytest.fixture
async def shadows() -> AsyncIterator[Shadows]:
    made = shadowing(ROLLOUT)
    yield made
    await made.close()


def shadowing(*rollouts: Rollout, entries: tuple[ModelEntry, ...] = (OLD, NEW)) -> Shadows:
    snapshot = Snapshot(entries=entries, rollouts=rollouts)
    tally = MemoryTally(snapshot.rollout)
    return Shadows(lambda: snapshot, "staging", frozenset({"secretive"}), tally, encode)


async def counted(shadows: Shadows) -> Counts:
    return (await shadows.tally.read(ROLLOUT)).shadow


async def compared(shadows: Shadows, engine: Engine, given: str = "because it is so") -> Counts:
    engine.lets.set()
    outcome = await shadows.compare(NEW, given, engine.answer(NEW))
    if outcome:
        shadows.tally.record(outcome)
    return await counted(shadows)


def test_a_sampled_turn_is_also_sent_to_the_new_version() -> None:
    assert shadowing(ROLLOUT).candidate(turn(), OLD) == NEW


def test_tools_are_no_reason_to_leave_a_turn_out() -> None:
    assert shadowing(ROLLOUT).candidate(turn(tools=[{"type": "function"}]), OLD) == NEW


@pytest.mark.parametrize(
    ("shadows", "asked", "answered"),
    [
        (shadowing(ROLLOUT), turn(tenant="secretive"), OLD),
        (shadowing(ROLLOUT), turn(), NEW),
        (shadowing(ROLLOUT), turn(), entry("3")),
        (shadowing(ROLLOUT), turn(), entry("1", model="n")),
        (shadowing(replace(ROLLOUT, shadow_percent=0)), turn(), OLD),
        (shadowing(), turn(), OLD),
        (shadowing(ROLLOUT, entries=(OLD, replace(NEW, status="failed"))), turn(), OLD),
        (shadowing(ROLLOUT, entries=(OLD,)), turn(), OLD),
        (shadowing(replace(ROLLOUT, environment="production")), turn(), OLD),
    ],
    ids=[
        "forbidden",
        "answered by it",
        "not compared",
        "other model",
        "no share",
        "none",
        "failed",
        "gone",
        "elsewhere",
    ],
)
def test_a_turn_is_not_sent_again(shadows: Shadows, asked: Turn, answered: ModelEntry) -> None:
    assert shadows.candidate(asked, answered) is None


@given(st.integers(1, 99))
def test_the_sample_is_the_share_that_was_asked_for_and_the_same_everywhere(percent: int) -> None:
    share = sum(sampled(f"turn-{n}", "r1", percent) for n in range(4_000)) / 4_000
    assert abs(share - percent / 100) < 0.04
    assert not sampled("t", "r1", 0) and sampled("t", "r1", 100)


async def test_an_answer_is_counted_as_shadow_with_how_far_it_agrees(shadows: Shadows) -> None:
    same = await compared(shadows, Engine())
    assert (same.requests, same.compared, same.agreement) == (1, 1, pytest.approx(1.0))
    assert (same.failures, same.spent, same.first_token.total) == (0, 4.0, 1)
    other = await compared(shadows, Engine("nobody knows"))
    assert (other.compared, other.agreement) == (2, pytest.approx(1.0))


async def test_an_answer_is_judged_like_any_other(shadows: Shadows) -> None:
    assert (await compared(shadows, Engine("I'm sorry, but I can't help with that."))).refused == 1


async def test_a_version_that_fails_has_failed_and_agrees_with_nothing(shadows: Shadows) -> None:
    found = await compared(shadows, Engine(error=EngineFailed("gone")))
    assert (found.requests, found.failures, found.compared, found.priced) == (1, 1, 0, 0)


@pytest.mark.parametrize("error", [ContextLengthExceeded("too long"), DeadlineExceeded("its time is over")])
async def test_a_request_that_does_not_suit_the_version_is_not_its_failure(shadows: Shadows, error: MantaError) -> None:
    assert await compared(shadows, Engine(error=error)) == Counts()


async def test_a_version_that_does_not_answer_in_time_has_failed(
    shadows: Shadows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.rollout.shadow.LONGEST_S", 0.01)
    engine = Engine()
    outcome = await shadows.compare(NEW, "because", engine.answer(NEW))
    assert outcome is not None and outcome.failed and engine.closed == 1


async def test_an_endless_answer_is_left(shadows: Shadows) -> None:
    engine = Engine("word " * 2 * MOST_EVENTS)
    found = await compared(shadows, engine)
    assert (found.requests, found.failures, found.priced, engine.closed) == (1, 0, 0, 1)


async def test_empty_answers_and_a_missing_encoder_compare_nothing(shadows: Shadows) -> None:
    assert (await compared(shadows, Engine(), given=" ")).compared == 0
    shadows.encode = None
    assert (await compared(shadows, Engine())).compared == 0


async def test_no_more_are_under_way_than_allowed_and_the_others_are_not_sent(shadows: Shadows) -> None:
    engine = Engine()
    sent = [shadows.send(NEW, "because", engine.answer) for _ in range(MOST_AT_ONCE + 3)]
    assert sent == [True] * MOST_AT_ONCE + [False] * 3
    engine.lets.set()
    await asyncio.gather(*shadows.under_way)
    assert engine.asked == MOST_AT_ONCE and (await counted(shadows)).requests == MOST_AT_ONCE
    assert shadows.send(NEW, "because", engine.answer)


async def test_closing_stops_the_engine(shadows: Shadows, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    shadows.send(NEW, "because", engine.answer)
    await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING):
        await shadows.close()
    assert (engine.asked, engine.closed, (await counted(shadows)).requests) == (1, 1, 0)
    assert caplog.records == []
