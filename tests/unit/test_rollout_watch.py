"""Rollouts that go on and go back by themselves: over replicas, outages and restarts, with time under control."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.adapters.memory_tally import MemoryTally
from serve_app.registry.entry import ModelEntry
from serve_app.registry.live import LiveCopy
from serve_app.registry.snapshot import Change, Snapshot
from serve_app.rollout.changes import pause, promote, start
from serve_app.rollout.gate_settings import GateSettings
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.watch import RolloutWatch
from serve_app.telemetry import Telemetry

BEGAN = 1_000.0
HOLD_S = 60.0


def entry(version: str, weight: int) -> ModelEntry:
    return ModelEntry(
        model="m",
        version=version,
        environment="staging",
        endpoint=f"serve://m{version}",
        engine="vllm",
        status="enabled",
        weight=weight,
    )


@dataclass
class Replica:
    """One ingress replica, which sees of the others only what they write into the store and the tally."""

    store: MemoryRegistryStore
    live: LiveCopy
    tally: MemoryTally
    watch: RolloutWatch
    telemetry: Telemetry = field(default_factory=Telemetry)

    def served(self, version: str, requests: int, **seen: Any) -> None:
        for _ in range(requests):
            self.tally.record(Outcome(key=("m", version, "staging"), **seen))

    def weights(self) -> dict[str, int]:
        return {e.version: e.weight for e in self.live.snapshot.entries if e.is_enabled}

    async def current(self) -> None:
        """Once its copy shows what the store has."""
        wanted = (await self.store.snapshot()).revision
        await self.shows(lambda snapshot: snapshot.revision >= wanted)

    async def shows(self, wanted: Callable[[Snapshot], object]) -> None:
        changed = asyncio.Event()
        self.live.on_change.append(lambda _: changed.set())
        async with asyncio.timeout(30):
            while not wanted(self.live.snapshot):
                changed.clear()
                await changed.wait()

    def rollbacks(self, gate: str = "errors") -> float:
        return self.telemetry.registry.get_sample_value("manta_rollbacks_total", {"model": "m", "gate": gate}) or 0


class Clock:
    now = BEGAN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store() -> MemoryRegistryStore:
    store = MemoryRegistryStore()
    await store.change(lambda _: Change(action="register", who="olga", put=(entry("1", 100), entry("2", 0))))
    await store.change(starting())
    return store


def starting(**plan: Any) -> Callable[[Snapshot], Change]:
    usual = {"id": "r1", "model": "m", "environment": "staging", "to_version": "2", "steps": (10, 50, 100)}
    return start(**{**usual, "hold_s": HOLD_S, "who": "olga", "now": BEGAN, **plan})


@asynccontextmanager
async def running(store: MemoryRegistryStore, clock: Clock, folder: Path, tally: MemoryTally | None = None) -> Any:
    """A replica whose copy follows the store."""
    live = LiveCopy(store, Snapshot(), folder / "copy.json", 120, "staging")
    tally = tally or MemoryTally(lambda model, environment: live.snapshot.rollout(model, environment))
    telemetry = Telemetry()
    watch = RolloutWatch(store, live, tally, GateSettings(), "staging", telemetry, now=clock)
    following = asyncio.create_task(live.run())
    replica = Replica(store, live, tally, watch, telemetry)
    await replica.current()
    yield replica
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def replica(store: MemoryRegistryStore, clock: Clock, tmp_path: Path) -> AsyncIterator[Replica]:
    async with running(store, clock, tmp_path) as replica:
        yield replica


async def test_a_version_that_fails_goes_back_at_once_with_its_figures_on_record(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    with caplog.at_level(logging.WARNING, "manta"):
        await replica.watch.look()
    assert replica.weights() == {"1": 100}
    await replica.current()
    assert [(e.status, e.weight) for e in replica.live.snapshot.entries] == [("enabled", 100), ("failed", 0)]
    row = next(row for row in await replica.store.history() if row.version == "2")
    assert (row.who, row.action, row.figures["gate"]) == ("gates", "rollout-rollback", "errors")
    assert row.figures["gates"]["errors"]["canary"] == 1.0 and "errors 100.0% against 0.0%" in row.why
    assert json.loads(json.dumps(row.figures)) == row.figures
    (rollout,) = await replica.store.rollouts()
    assert rollout.state == "rolled_back" and rollout.figures == row.figures
    assert replica.rollbacks() == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "m to version 2 in staging goes back to the weights before: errors 100.0% against 0.0%" in line


async def test_a_good_version_takes_each_step_after_its_hold_and_is_promoted(replica: Replica, clock: Clock) -> None:
    for percent in (10, 50):
        assert replica.weights() == {"1": 100 - percent, "2": percent}
        replica.served("1", 100)
        replica.served("2", 60)
        await replica.watch.look()
        await replica.current()
        assert replica.weights() == {"1": 100 - percent, "2": percent}
        clock.now += HOLD_S
        await replica.watch.look()
        await replica.current()
    assert replica.weights() == {"1": 0, "2": 100}
    (rollout,) = await replica.store.rollouts()
    assert rollout.state == "promoted" and rollout.figures["verdict"] == "fine"
    actions = [row.action for row in await replica.store.history() if row.who == "gates"]
    assert actions[0] == "rollout-promote" and "rollout-step" in actions


async def test_nothing_is_promoted_on_too_few_requests_however_long_it_is_held(replica: Replica, clock: Clock) -> None:
    replica.served("1", 1_000)
    replica.served("2", 49)
    clock.now += 100 * HOLD_S
    await replica.watch.look()
    await replica.current()
    assert replica.weights() == {"1": 90, "2": 10}
    report = await replica.watch.judge(replica.live.snapshot.rollouts[0])
    assert report["waits_for"] == "requests: 49 canary and 1000 stable, of 50 each"
    replica.served("2", 1)
    await replica.watch.look()
    await replica.current()
    assert replica.weights() == {"1": 50, "2": 50}


async def test_nothing_is_promoted_on_what_one_session_was_answered(replica: Replica, clock: Clock) -> None:
    replica.served("1", 200)
    replica.served("2", 200, who="busy")
    clock.now += HOLD_S
    await replica.watch.look()
    await replica.current()
    assert replica.weights() == {"1": 90, "2": 10}
    report = await replica.watch.judge(replica.live.snapshot.rollouts[0])
    assert report["waits_for"].startswith("answers to more sessions: 20 of each arm")


async def test_a_version_that_fails_one_session_alone_goes_back(replica: Replica) -> None:
    replica.served("1", 200)
    replica.served("2", 20, who="busy", failed=True)
    await replica.watch.look()
    assert replica.weights() == {"1": 100}


async def test_a_paused_rollout_stays_and_still_goes_back(replica: Replica, clock: Clock) -> None:
    await replica.store.change(pause("m", "staging", who="olga", now=BEGAN))
    await replica.current()
    replica.served("1", 100)
    replica.served("2", 60)
    clock.now += HOLD_S
    await replica.watch.look()
    await replica.current()
    assert replica.weights() == {"1": 90, "2": 10}
    replica.served("2", 60, failed=True)
    await replica.watch.look()
    assert replica.weights() == {"1": 100}


async def test_another_environments_rollouts_are_left_alone(replica: Replica, clock: Clock) -> None:
    replica.watch.environment = "production"
    replica.served("1", 100)
    replica.served("2", 60, failed=True)
    clock.now += HOLD_S
    await replica.watch.look()
    assert replica.weights() == {"1": 90, "2": 10}


async def test_a_rollback_has_its_effect_while_the_database_is_away_and_is_written_later(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    replica.store.fail = True
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    with caplog.at_level(logging.WARNING, "manta"):
        for _ in range(3):
            await replica.watch.look()
            assert replica.weights() == {"1": 100}
    assert sum("until it is written" in record.getMessage() for record in caplog.records) == 1
    assert replica.rollbacks() == 0
    replica.store.fail = False
    await replica.watch.look()
    assert [row.who for row in await replica.store.history()][0] == "gates"
    assert (await replica.store.snapshot()).rollouts == () and replica.rollbacks() == 1
    await replica.watch.look()
    assert replica.rollbacks() == 1


async def test_a_step_waits_for_the_database(replica: Replica, clock: Clock) -> None:
    replica.served("1", 100)
    replica.served("2", 60)
    clock.now += HOLD_S
    replica.store.fail = True
    await replica.watch.look()
    assert replica.weights() == {"1": 90, "2": 10}
    replica.store.fail = False
    await replica.watch.look()
    await replica.current()
    assert replica.weights() == {"1": 50, "2": 50}


async def test_three_replicas_that_judge_at_once_make_one_change(
    store: MemoryRegistryStore, clock: Clock, tmp_path: Path
) -> None:
    known = [*(await store.snapshot()).rollouts]
    shared = MemoryTally(lambda *_: known[-1])
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(running(store, clock, tmp_path / str(n), shared)) for n in range(3)]
        replicas[0].served("1", 100)
        replicas[1].served("2", 60)
        clock.now += HOLD_S
        await asyncio.gather(*(replica.watch.look() for replica in replicas))
        for replica in replicas:
            await replica.current()
            assert replica.weights() == {"1": 50, "2": 50}
        known += (await store.snapshot()).rollouts
        replicas[1].served("1", 100)
        replicas[2].served("2", 60, failed=True)
        await asyncio.gather(*(replica.watch.look() for replica in replicas))
        for replica in replicas:
            assert replica.weights() == {"1": 100}
        assert sum(replica.rollbacks() for replica in replicas) == 1
        # of two versions and the rollout each
        assert Counter(row.action for row in await store.history() if row.who == "gates") == {
            "rollout-step": 3,
            "rollout-rollback": 3,
        }


async def test_what_was_counted_before_a_restart_counts_after_it(
    store: MemoryRegistryStore, clock: Clock, tmp_path: Path
) -> None:
    rollout = (await store.snapshot()).rollouts[0]
    async with running(store, clock, tmp_path, MemoryTally(lambda *_: rollout, tmp_path / "counts.json")) as before:
        before.served("1", 180)
        before.served("2", 19, failed=True)
        await before.watch.look()
        assert before.weights() == {"1": 90, "2": 10}
        await before.tally.close()
    async with running(store, clock, tmp_path, MemoryTally(lambda *_: rollout, tmp_path / "counts.json")) as after:
        after.served("2", 1, failed=True)
        await after.watch.look()
        assert after.weights() == {"1": 100}


async def test_a_restart_while_the_database_is_away_forgets_no_rollback(
    store: MemoryRegistryStore, clock: Clock, tmp_path: Path
) -> None:
    rollout = (await store.snapshot()).rollouts[0]
    async with running(store, clock, tmp_path, MemoryTally(lambda *_: rollout, tmp_path / "counts.json")) as before:
        store.fail = True
        before.served("1", 180)
        before.served("2", 20, failed=True)
        await before.watch.look()
        await before.tally.close()
    store.fail = False
    async with running(store, clock, tmp_path, MemoryTally(lambda *_: rollout, tmp_path / "counts.json")) as after:
        # What was assumed is not in the store: once that is read, the version is judged again.
        await after.shows(lambda snapshot: snapshot.rollouts)
        await after.watch.look()
        assert after.weights() == {"1": 100}
        assert (await store.snapshot()).rollouts == ()


async def test_an_operator_who_was_first_has_the_last_word(replica: Replica) -> None:
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    await replica.store.change(promote("m", "staging", who="olga", now=BEGAN))
    await replica.watch.look()
    await replica.current()
    assert replica.weights() == {"1": 0, "2": 100} and replica.rollbacks() == 0


async def test_a_version_with_nothing_to_go_back_to_stays_and_the_log_says_so_once(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Change(action="disable", who="olga", put=(replace(entry("1", 90), status="disabled"),))
    await replica.store.change(lambda _: gone)
    await replica.current()
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    with caplog.at_level(logging.WARNING, "manta"):
        await replica.watch.look()
        await replica.watch.look()
    assert replica.weights() == {"2": 10}
    assert sum("cannot go back" in record.getMessage() for record in caplog.records) == 1


async def test_a_database_that_hangs_holds_up_nothing_for_long(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.rollout.watch.WRITE_S", 0.01)

    async def hangs(_: Any) -> Change:
        await asyncio.Event().wait()
        raise AssertionError

    writes, replica.store.change = replica.store.change, hangs  # type: ignore[method-assign]
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    async with asyncio.timeout(10):
        await replica.watch.look()
    assert replica.weights() == {"1": 100}
    replica.store.change = writes  # type: ignore[method-assign]
    await replica.watch.look()
    assert (await replica.store.snapshot()).rollouts == ()


async def test_shadow_traffic_alone_is_judged_and_waits_for_an_operator(
    store: MemoryRegistryStore, clock: Clock, tmp_path: Path
) -> None:
    await store.change(promote("m", "staging", who="olga", now=BEGAN))
    back = Change(action="register", who="olga", put=(entry("1", 100), entry("2", 0)))
    await store.change(lambda _: back)
    await store.change(starting(id="r2", steps=(), shadow_percent=20))
    async with running(store, clock, tmp_path) as replica:
        replica.served("1", 100)
        replica.served("2", 60, shadow=True, agreement=0.5)
        clock.now += HOLD_S
        await replica.watch.look()
        await replica.current()
        (rollout,) = replica.live.snapshot.rollouts
        report = await replica.watch.judge(rollout)
        assert report["requests"] == {"canary": 0, "stable": 100, "shadow": 60} and report["agreement"] == 0.5
        assert report["waits_for"].startswith("an operator: `manta rollout promote m`")
        replica.served("2", 60, shadow=True, failed=True)
        await replica.watch.look()
        assert [e.status for e in replica.live.snapshot.entries] == ["enabled", "failed"]


@pytest.mark.parametrize(
    ("changed", "counted", "words"),
    [
        ({}, 0, "requests: 0 canary and 60 stable, of 50 each"),
        ({}, 60, "the rest of its hold, 60 s"),
        ({"hold_s": 0.0}, 60, "the next look"),
        ({"state": "paused"}, 60, "an operator: `manta rollout resume m`"),
        ({"steps": (10,)}, 60, "an operator: `manta rollout promote m`, or rollback"),
    ],
)
async def test_a_report_says_what_a_rollout_waits_for(
    replica: Replica, changed: dict[str, Any], counted: int, words: str
) -> None:
    replica.served("1", 60)
    replica.served("2", counted)
    report = await replica.watch.judge(replace(replica.live.snapshot.rollouts[0], **changed))
    assert report["waits_for"] == words
    assert set(report["gates"]) >= {"errors", "first_token", "cost"} and json.dumps(report)


async def test_a_breach_that_is_not_written_yet_is_what_a_rollout_waits_for(replica: Replica) -> None:
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    (rollout,) = replica.live.snapshot.rollouts
    assert (await replica.watch.judge(rollout))["waits_for"] == "its rollback"


async def test_it_looks_twice_a_second_until_it_is_stopped(replica: Replica) -> None:
    pauses: list[float] = []

    async def pause_once(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    replica.watch.pause = pause_once
    replica.served("1", 180)
    replica.served("2", 20, failed=True)
    with pytest.raises(asyncio.CancelledError):
        await replica.watch.run()
    assert pauses == [0.5, 0.5] and replica.weights() == {"1": 100}


def test_a_rollout_is_a_value() -> None:
    """The copy on disk and the audit rows hold it as JSON."""
    rollout = Rollout(id="r", model="m", environment="staging", to_version="2", before={"1": 100})
    assert (rollout.percent, rollout.is_at_its_last, rollout.is_under_way) == (5, False, True)
