"""What a gateway knows of the registry, and how soon, on real databases."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.registry.changes import weigh
from serve_app.registry.live import LiveCopy
from serve_app.registry.registration import Registration
from serve_app.registry.registry import Registry
from serve_app.registry.snapshot import Snapshot
from tests.contracts.postgres import Postgres, postgres

LIVE_S, BACK_S = 2.0, 5.0
"""What is promised: a change is live by then; so is one that is made after the database is back."""
PATIENCE_S = 30
CHANGES = 20


def registration(version: str = "1", **said: object) -> Registration:
    asked = {"model": "llama", "version": version, "endpoint": "serve://llama", "engine": "vllm", **said}
    return Registration.model_validate(asked)


@asynccontextmanager
async def gateway(url: str, path: Path) -> AsyncIterator[LiveCopy]:
    """A replica with connections of its own, which knows the database."""
    store = DatabaseRegistryStore(url)
    copy = LiveCopy(store, Snapshot(), path, 120.0, "development")
    task = asyncio.create_task(copy.run())
    try:
        await seen(copy, lambda: not copy.is_stale)
        yield copy
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def seen(copy: LiveCopy, holds: Callable[[], bool]) -> float:
    """Seconds until it holds."""
    begun = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what it waits for is seen from outside alone
            await asyncio.sleep(0.002)
    return time.monotonic() - begun


@pytest.fixture
async def operator(registry_url: str) -> AsyncIterator[Registry]:
    """Another process, as far as the database knows."""
    store = DatabaseRegistryStore(registry_url)
    yield Registry(store)
    await store.close()


async def enabled(operator: Registry, version: str, weight: int) -> None:
    asked = registration(version)
    await operator.register(asked, check=False, who="ann", why="")
    await operator.enable(asked.key, weight=weight, check=False, who="ann", why="")


async def test_a_change_is_live_on_every_replica_in_time(registry_url: str, operator: Registry, tmp_path: Path) -> None:
    await enabled(operator, "1", 100)
    key, took = registration("1").key, list[float]()
    async with gateway(registry_url, tmp_path / "a.json") as one, gateway(registry_url, tmp_path / "b.json") as two:
        for weight in range(1, CHANGES + 1):
            await operator.weigh(key, weight, who="ann", why="")
            begun = time.monotonic()
            for copy in (one, two):
                await seen(copy, lambda copy=copy, weight=weight: copy.snapshot.entries[0].weight == weight)  # type: ignore[misc]
            took.append(time.monotonic() - begun)
    assert max(took) <= LIVE_S


async def test_operators_who_say_different_things_at_once_all_keep_theirs(
    registry_url: str, operator: Registry
) -> None:
    said: list[dict[str, object]] = [
        {"owner": "team-a"},
        {"licence": "MIT"},
        {"context_tokens": 4_096},
        {"prompt_price": 0.5},
        {"output_price": 1.5},
        {"capabilities": ["vision"]},
        {"served_name": "there"},
        {"digest": f"sha256:{'0' * 64}"},
        {"weight": 7},
        {"screener_down": "pass"},
    ]
    await enabled(operator, "1", 100)
    operators = [Registry(DatabaseRegistryStore(registry_url)) for _ in said]
    await asyncio.gather(
        *(
            one.register(registration(**fields), check=False, who=f"operator {number}", why="")
            for number, (one, fields) in enumerate(zip(operators, said, strict=True))
        )
    )
    [entry] = await operator.entries()
    kept = Registration.of(entry).model_dump(mode="json")
    for fields in said:
        assert kept.items() >= fields.items()
    rows = await operator.history()
    assert len({row.who for row in rows}) == len(said) + 1
    for one in operators:
        await one.store.close()


async def test_of_versions_that_are_enabled_at_once_the_first_takes_all(registry_url: str, operator: Registry) -> None:
    versions = [str(number) for number in range(10)]
    await asyncio.gather(
        *(operator.register(registration(version), check=False, who="ann", why="") for version in versions)
    )
    keys = [registration(version).key for version in versions]
    await asyncio.gather(*(operator.enable(key, weight=None, check=False, who="ann", why="") for key in keys))
    entries = await operator.entries()
    assert sorted(entry.weight for entry in entries if entry.is_enabled) == [0] * 9 + [100]
    assert [row.id for row in await operator.history()] == list(range(20, 0, -1))


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.mark.postgres
async def test_a_gateway_serves_on_while_its_database_is_killed_and_sees_what_came_after(
    own_server: Postgres, tmp_path: Path
) -> None:
    url = own_server.new_database()
    store = DatabaseRegistryStore(url)
    operator = Registry(store)
    await enabled(operator, "1", 100)
    async with gateway(url, tmp_path / "registry.json") as copy:
        before = copy.snapshot
        await asyncio.to_thread(own_server.kill)
        await seen(copy, lambda: copy.is_stale)
        assert copy.snapshot == before
        again = LiveCopy(DatabaseRegistryStore(url), Snapshot(), tmp_path / "registry.json", 120.0, "development")
        assert (again.snapshot.entries, again.is_stale) == (before.entries, True)
        await asyncio.to_thread(own_server.start)
        await store.change(weigh(registration("1").key, 50, who="ann"))
        took = await seen(copy, lambda: copy.snapshot.entries[0].weight == 50)
        assert took <= BACK_S
        assert not copy.is_stale
    await store.close()
