"""Who is asked after whom, for how long, and what is raised when nobody answers."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    MantaError,
    RateLimited,
    ScreenerUnavailable,
)
from serve_app.events import Delta, Event, Events, Finished
from serve_app.registry.entry import ModelEntry
from serve_app.routing.attempts import QUICK_MS, Attempts, Begun
from serve_app.routing.budget import BURST
from serve_app.routing.circuit import FAILURES, FIRST_WAIT_S, Circuits
from serve_app.routing.route import Attempt, Route
from tests.upstream import Clock, entry

WORDS: tuple[Event, ...] = (
    Delta({"content": "a"}),
    Delta({"content": "b"}),
    Finished(prompt_tokens=1, output_tokens=2),
)
ONE, TWO, THREE = (entry(f"http://{name}", version=name) for name in ("one", "two", "three"))


def busy() -> MantaError:
    error = RateLimited("later")
    error.elsewhere = True
    return error


@dataclass
class Engine:
    """Fails as often as it is told to, hangs, or breaks off; knows whether it was closed."""

    failures: list[MantaError] = field(default_factory=list)
    hangs: bool = False
    breaks: bool = False
    takes: Callable[[], None] = lambda: None
    asked: int = 0
    open: int = 0
    ended: int = 0

    async def generate(self) -> Events:
        self.asked += 1
        self.open += 1
        try:
            self.takes()
            if self.failures:
                raise self.failures.pop(0)
            if self.hangs:
                await asyncio.Event().wait()
            for event in WORDS:
                yield event
                if self.breaks:
                    raise EngineFailed("broke off")
            self.ended += 1
        finally:
            self.open -= 1


@dataclass
class World:
    """Attempts over engines by entry."""

    engines: dict[str, Engine] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    made: list[Attempt] = field(default_factory=list)
    retry_share: float = 0.2
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = Attempts(self.retry_share, circuits=Circuits(self.clock))

    def ask(self, asked: ModelEntry) -> Events:
        return self.engines.setdefault(asked.version, Engine()).generate()

    async def begin(self, *candidates: ModelEntry, left_s: float = 60.0) -> Begun:
        self.made = []
        route = Route(candidates=candidates, reason="test")
        return await self.attempts.begin(route, time.time() + left_s, self.ask, self.made)

    async def answer(self, *candidates: ModelEntry, **options: Any) -> list[Event]:
        begun = await self.begin(*candidates, **options)
        return [begun.first, *[event async for event in begun.rest]]

    async def opened(self, closed: ModelEntry) -> None:
        """The entry's circuit is open afterwards."""
        for _ in range(FAILURES):
            self.attempts.circuits.of(closed).failed()

    @property
    def outcomes(self) -> list[tuple[str, str, bool]]:
        return [(attempt.entry.version, attempt.outcome, attempt.failed) for attempt in self.made]


async def test_the_first_candidate_answers() -> None:
    world = World()
    assert await world.answer(ONE, TWO) == [*WORDS]
    assert world.outcomes == [("one", "answered", False)]
    assert "two" not in world.engines


@pytest.mark.parametrize("failure", [EngineFailed("gone"), busy()])
async def test_what_is_the_endpoints_fault_is_tried_elsewhere(failure: MantaError) -> None:
    world = World({"one": Engine([failure])})
    assert (await world.begin(ONE, TWO)).entry == TWO
    assert world.outcomes == [("one", failure.code, True), ("two", "answered", False)]


@pytest.mark.parametrize(
    "failure", [InvalidRequest("no"), ContextLengthExceeded("no"), RateLimited("ours"), ScreenerUnavailable("gone")]
)
async def test_what_is_not_the_endpoints_fault_is_raised_at_once(failure: MantaError) -> None:
    world = World({"one": Engine([failure])})
    with pytest.raises(type(failure)) as raised:
        await world.begin(ONE, TWO)
    assert raised.value is failure
    assert world.outcomes == [("one", failure.code, False)]
    assert world.attempts.circuits.states()[0].state == "closed"


async def test_an_engine_that_ends_without_an_event_has_failed() -> None:
    async def silent(asked: ModelEntry) -> Events:
        for event in ():
            yield event

    with pytest.raises(EngineFailed, match="without an answer"):
        await Attempts().begin(Route(candidates=(ONE, TWO), reason="test"), time.time() + 60, silent, [])


async def test_after_the_first_event_nobody_takes_over() -> None:
    world = World({"one": Engine(breaks=True)})
    begun = await world.begin(ONE, TWO)
    with pytest.raises(EngineFailed, match="broke off"):
        _ = [event async for event in begun.rest]
    assert "two" not in world.engines


async def test_the_last_error_is_raised_when_all_fail() -> None:
    world = World({"one": Engine([EngineFailed("1")]), "two": Engine([EngineFailed("2")])})
    with pytest.raises(EngineFailed, match="2"):
        await world.begin(ONE, TWO)


async def test_an_error_that_tells_the_caller_something_is_raised_before_one_that_does_not() -> None:
    world = World({"one": Engine([busy()]), "two": Engine([EngineFailed("2")])})
    with pytest.raises(RateLimited):
        await world.begin(ONE, TWO)


async def test_a_lone_endpoint_that_fails_quickly_is_asked_once_more() -> None:
    """Another replica may take it."""
    world = World({"one": Engine([EngineFailed("gone")])})
    assert await world.answer(ONE) == [*WORDS]
    assert world.outcomes == [("one", "engine_failed", True), ("one", "answered", False)]


async def test_a_lone_endpoint_is_asked_no_third_time() -> None:
    world = World({"one": Engine([EngineFailed("gone")] * 3)})
    with pytest.raises(EngineFailed):
        await world.begin(ONE)
    assert world.engines["one"].asked == 2


async def test_a_lone_endpoint_that_was_slow_to_fail_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)

    def take() -> None:
        clock.now += QUICK_MS / 1000

    world = World({"one": Engine([EngineFailed("gone")], takes=take)})
    with pytest.raises(EngineFailed):
        await world.begin(ONE)
    assert world.engines["one"].asked == 1


async def test_asking_a_lone_endpoint_once_more_is_paid_for_too() -> None:
    lone = [entry(f"http://lone{number}", version=f"lone{number}") for number in range(int(BURST) + 1)]
    world = World({each.version: Engine([EngineFailed("gone")]) for each in lone}, retry_share=0.0)
    for each in lone[:-1]:
        await world.answer(each)
    with pytest.raises(EngineFailed):
        await world.begin(lone[-1])
    assert world.engines[lone[-1].version].asked == 1


async def test_a_lone_endpoint_that_is_busy_is_not_asked_again() -> None:
    world = World({"one": Engine([busy()])})
    with pytest.raises(RateLimited):
        await world.begin(ONE)
    assert world.engines["one"].asked == 1


async def test_the_one_endpoint_that_is_left_is_asked_once_more() -> None:
    world = World({"two": Engine([EngineFailed("gone")])})
    await world.opened(ONE)
    assert (await world.begin(ONE, TWO)).entry == TWO
    assert world.engines["two"].asked == 2


async def test_an_endpoint_whose_circuit_is_open_is_left_out_and_said_so() -> None:
    world = World()
    await world.opened(ONE)
    assert (await world.begin(ONE, TWO)).entry == TWO
    assert world.outcomes == [("one", "circuit_open", True), ("two", "answered", False)]
    assert "one" not in world.engines


async def test_where_all_circuits_are_open_the_first_is_asked_all_the_same_and_once() -> None:
    world = World({"one": Engine([EngineFailed("gone")] * 2)})
    await world.opened(ONE)
    await world.opened(TWO)
    with pytest.raises(EngineFailed):
        await world.begin(ONE, TWO)
    assert world.outcomes == [("one", "engine_failed", True)]


async def test_failures_open_the_circuit_of_their_endpoint_and_an_answer_closes_it() -> None:
    world = World({"one": Engine([EngineFailed("gone")] * FAILURES)})
    for _ in range(FAILURES):
        await world.answer(ONE, TWO)
    await world.answer(ONE, TWO)
    assert world.engines["one"].asked == FAILURES
    world.clock.now += FIRST_WAIT_S
    assert (await world.begin(ONE, TWO)).entry == ONE
    assert (await world.begin(ONE, TWO)).entry == ONE


async def test_answers_that_break_off_open_the_circuit_too() -> None:
    world = World({"one": Engine(breaks=True)})
    for _ in range(FAILURES):
        with pytest.raises(EngineFailed):
            await world.answer(ONE, TWO)
    assert (await world.begin(ONE, TWO)).entry == TWO


async def test_a_whole_answer_between_those_that_break_off_keeps_it_closed() -> None:
    world = World({"one": Engine()})
    for _ in range(3):
        world.engines["one"].breaks = True
        for _ in range(FAILURES - 1):
            with pytest.raises(EngineFailed):
                await world.answer(ONE, TWO)
        world.engines["one"].breaks = False
        await world.answer(ONE, TWO)
    assert "two" not in world.engines


async def test_callers_who_hang_up_do_not_open_it() -> None:
    world = World()
    for _ in range(3 * FAILURES):
        await (await world.begin(ONE)).rest.aclose()
    world.engines["one"].hangs = True
    for _ in range(3 * FAILURES):
        task = asyncio.create_task(world.begin(ONE))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert world.attempts.circuits.states()[0].state == "closed"
    assert world.engines["one"].open == 0


async def test_a_caller_who_hangs_up_on_a_probe_leaves_it_to_the_next() -> None:
    world = World({"one": Engine(hangs=True)})
    await world.opened(ONE)
    world.clock.now += FIRST_WAIT_S
    task = asyncio.create_task(world.begin(ONE, TWO))
    await asyncio.sleep(0)
    assert world.engines["one"].asked == 1
    assert (await world.begin(ONE, TWO)).entry == TWO
    task.cancel()
    await asyncio.wait([task])
    world.engines["one"].hangs = False
    assert (await world.begin(ONE, TWO)).entry == ONE


async def test_a_probe_that_the_budget_does_not_pay_for_is_left_to_another_request() -> None:
    dying = [entry(f"http://dying{number}", version=f"dying{number}") for number in range(int(BURST) + 1)]
    world = World({each.version: Engine([EngineFailed("gone")]) for each in dying}, retry_share=0.0)
    for each in dying[:-1]:
        assert (await world.begin(each, TWO)).entry == TWO
    await world.opened(TWO)
    world.clock.now += FIRST_WAIT_S
    with pytest.raises(EngineFailed):
        await world.begin(dying[-1], TWO)
    assert not world.attempts.circuits.of(TWO).refuses


async def test_an_answer_is_closed_by_whoever_closes_its_rest_even_if_it_never_read_it() -> None:
    world = World()
    begun = await world.begin(ONE)
    assert world.engines["one"].open == 1
    await begun.rest.aclose()
    assert (world.engines["one"].open, world.engines["one"].ended) == (0, 0)


async def test_a_candidate_that_hangs_is_closed_and_leaves_time_to_the_next() -> None:
    world = World({"one": Engine(hangs=True)})
    begun = time.monotonic()
    assert (await world.begin(ONE, TWO, left_s=3.0)).entry == TWO
    assert time.monotonic() - begun > 1.5
    assert world.engines["one"].open == 0
    assert world.outcomes[0] == ("one", "engine_failed", True)


async def test_an_endpoint_that_hangs_until_the_deadline_is_blamed_and_the_caller_told() -> None:
    world = World({"one": Engine(hangs=True)})
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await world.begin(ONE, left_s=1.5)
    assert time.monotonic() - begun > 1.3
    assert world.outcomes == [("one", "engine_failed", True)]


async def test_nobody_is_blamed_for_a_request_that_came_too_late() -> None:
    world = World({"one": Engine(hangs=True)})
    for _ in range(2 * FAILURES):
        with pytest.raises(DeadlineExceeded):
            await world.begin(ONE, TWO, left_s=0.06)
    assert world.outcomes == [("one", "deadline_exceeded", False)]
    assert world.attempts.circuits.states()[0].state == "closed"


async def test_how_soon_candidates_begin_is_known_afterwards() -> None:
    world = World()
    for _ in range(10):
        await world.answer(ONE)
    assert world.attempts.pace.p95_ms(ONE.key)
    assert world.attempts.pace.p95_ms(TWO.key) is None


@given(
    share=st.floats(0, 1),
    fates=st.lists(st.lists(st.sampled_from(["fine", "fails", "busy", "breaks"]), min_size=3, max_size=3), max_size=80),
    waits=st.lists(st.floats(0, 30), min_size=80, max_size=80),
)
def test_whatever_fails_retries_stay_within_the_budget_and_nothing_stays_open(
    share: float, fates: list[list[str]], waits: list[float]
) -> None:
    world = World(retry_share=share)
    entries = (ONE, TWO, THREE)

    async def go() -> tuple[int, int]:
        retries = 0
        for request, wait_s in zip(fates, waits, strict=False):
            world.clock.now += wait_s
            before = sum(engine.asked for engine in world.engines.values())
            for chosen, fate in zip(entries, request, strict=True):
                failures: list[MantaError] = {"fails": [EngineFailed("x")] * 2, "busy": [busy()]}.get(fate, [])
                engine = world.engines.setdefault(chosen.version, Engine())
                engine.failures, engine.breaks = failures, fate == "breaks"
            try:
                await world.answer(*entries)
            except MantaError as error:
                assert error.elsewhere
            retries += sum(engine.asked for engine in world.engines.values()) - before - 1
        return retries, len(fates)

    retries, requests = asyncio.run(go())
    assert retries <= share * requests + BURST + 1e-6
    assert all(engine.open == 0 for engine in world.engines.values())
