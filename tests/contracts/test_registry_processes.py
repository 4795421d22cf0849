"""The registry under several processes at once, some of which die."""

import asyncio
import signal
import sqlite3
from collections.abc import Callable

import pytest

from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.adapters.registry_schema import state
from serve_app.registry.snapshot import Snapshot
from tests.contracts.registry_operators import (
    PROCESSES,
    entry,
    open_registry,
    register_many,
    registering,
    started,
    stop_inside_a_change,
    together,
)

OPERATORS, REGISTRATIONS = 10, 20


async def test_five_processes_may_open_an_empty_database_at_once(registry_url: str) -> None:
    assert together(5, open_registry, registry_url) == [0] * 5
    assert await state(registry_url) == "current"


async def test_no_update_of_ten_operators_is_lost(registry_url: str) -> None:
    store = DatabaseRegistryStore(registry_url)
    await store.change(registering(entry("shared", context_tokens=0)))
    assert together(OPERATORS, register_many, registry_url, REGISTRATIONS) == [0] * OPERATORS
    snapshot = await store.snapshot()
    changes = OPERATORS * REGISTRATIONS
    shared = snapshot.find(("shared", "1", "production"))
    assert shared is not None and shared.context_tokens == changes
    assert (snapshot.revision, len(snapshot.entries)) == (1 + changes, 1 + changes)
    audit = await store.history(limit=10_000)
    assert [row.id for row in audit] == list(range(1 + 2 * changes, 0, -1))
    operators = {f"operator-{number}": 2 * REGISTRATIONS for number in range(OPERATORS)}
    assert {who: sum(row.who == who for row in audit) for who in operators} == operators


async def test_a_process_that_is_killed_in_a_change_leaves_nothing_of_it(registry_url: str) -> None:
    store = DatabaseRegistryStore(registry_url)
    await store.snapshot()
    reached = PROCESSES.Event()
    operator = started(stop_inside_a_change, reached, registry_url, signal.SIGKILL)
    await asyncio.to_thread(operator.join, 60)
    assert (reached.is_set(), operator.exitcode) == (True, -signal.SIGKILL)
    assert (await store.snapshot(), await store.history()) == (Snapshot(), ())
    await store.change(registering(entry("after")))
    assert [(row.id, row.model) for row in await store.history()] == [(1, "after")]


@pytest.mark.postgres
async def test_a_process_that_stands_still_in_a_change_does_not_stop_the_others(
    registry_at: Callable[[str], str],
) -> None:
    """The server ends its transaction before those who wait for it give up."""
    url = registry_at("postgresql")
    store = DatabaseRegistryStore(url)
    await store.snapshot()
    reached = PROCESSES.Event()
    operator = started(stop_inside_a_change, reached, url, signal.SIGSTOP)
    try:
        assert await asyncio.to_thread(reached.wait, 60)
        await store.change(registering(entry("after")))
        assert [e.model for e in (await store.snapshot()).entries] == ["after"]
    finally:
        operator.kill()
        operator.join(60)


async def test_readers_do_not_wait_for_a_writer_who_takes_long(registry_at: Callable[[str], str]) -> None:
    url = registry_at("sqlite")
    store = DatabaseRegistryStore(url)
    await store.change(registering(entry()))
    writer = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE models SET weight = 50")
    assert (await asyncio.wait_for(store.snapshot(), 1)).entries[0].weight == 0
    writer.execute("COMMIT")
    writer.close()
    assert (await store.snapshot()).entries[0].weight == 50
