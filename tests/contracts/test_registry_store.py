"""What operators and gateways rely on, whichever store keeps the registry."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.adapters.registry_tables import AUDIT, MODELS, ROLLOUTS
from serve_app.errors import Conflict, InvalidRequest, RegistryUnavailable
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Audit, Change, Snapshot
from serve_app.registry.store import RegistryStore
from serve_app.rollout.rollout import Rollout
from tests.contracts.registry_operators import entry, on, registering

SEEN_S = 10
"""A quarter of a second on a machine that has nothing else to do."""


@dataclass(frozen=True)
class Place:
    """Where a registry is kept: `store` is ours, `other` another process's in the same place."""

    store: RegistryStore
    other: RegistryStore


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def place(request: pytest.FixtureRequest, registry_at: Callable[[str], str]) -> AsyncIterator[Place]:
    if request.param == "memory":
        store = MemoryRegistryStore()
        yield Place(store, store)
        return
    url = registry_at(request.param)
    stores = DatabaseRegistryStore(url), DatabaseRegistryStore(url)
    yield Place(*stores)
    for opened in stores:
        await opened.close()


@pytest.fixture
def store(place: Place) -> RegistryStore:
    return place.store


@pytest.fixture
async def database(registry_url: str) -> AsyncIterator[DatabaseRegistryStore]:
    store = DatabaseRegistryStore(registry_url)
    yield store
    await store.close()


def rollout(number: int = 1, **fields: object) -> Rollout:
    begun = Rollout(id=f"r{number}", model="chat", environment="production", to_version="2", before={"1": 100, "2": 0})
    return replace(begun, **fields)  # type: ignore[arg-type]


def rolling(*rollouts: Rollout) -> Change:
    return Change(action="rollout-start", who="ann", rollouts=rollouts)


async def test_a_registry_begins_empty(store: RegistryStore) -> None:
    assert await store.snapshot() == Snapshot()


async def test_what_is_registered_is_read_by_others(place: Place) -> None:
    written = entry(
        status="enabled",
        weight=90,
        served_name="meta/llama",
        capabilities=frozenset({"tools", "json"}),
        prompt_price=0.15,
        output_price=0.6,
        licence="Apache-2.0",
        digest="sha256:" + "0f" * 32,
        signature="verified",
        owner="Zoë",
        egress="redacted",
        key_env="UPSTREAM_API_KEY",
        first_event_deadline_s=2.5,
        screener_down="pass",
        source="config",
    )
    await place.store.change(registering(written))
    assert await place.other.snapshot() == Snapshot(revision=1, entries=(written,))


async def test_entries_are_ordered_by_key_and_not_by_an_alphabet(store: RegistryStore) -> None:
    await store.change(registering(entry("b"), entry("B"), entry("a", "10"), entry("a", "9"), entry("ä")))
    found = (await store.snapshot()).entries
    assert [(e.model, e.version) for e in found] == [("B", "1"), ("a", "10"), ("a", "9"), ("b", "1"), ("ä", "1")]


async def test_a_version_is_an_entry_in_each_environment(store: RegistryStore) -> None:
    await store.change(registering(entry(weight=1), entry(environment="staging", weight=2)))
    await store.change(registering(entry(weight=3)))
    assert [(e.environment, e.weight) for e in (await store.snapshot()).entries] == [("production", 3), ("staging", 2)]


async def test_an_entry_keeps_the_time_of_its_first_registration(store: RegistryStore) -> None:
    first = (await store.change(registering(entry()))).put[0]
    again = (await store.change(registering(entry(weight=5)))).put[0]
    assert first.created_at == again.created_at == first.updated_at
    assert again.updated_at > first.updated_at
    read = (await store.snapshot()).entries[0]
    assert (read.created_at, read.updated_at) == (again.created_at, again.updated_at)


async def test_what_is_removed_is_gone_but_for_its_history(store: RegistryStore) -> None:
    await store.change(registering(entry(), entry(version="2")))
    await store.change(lambda _: Change(action="deregister", who="bob", removed=(entry().key, entry("other").key)))
    assert [e.version for e in (await store.snapshot()).entries] == ["2"]
    last = (await store.history())[0]
    assert (last.action, last.version, last.after) == ("deregister", "1", None)
    assert last.before is not None and last.before["endpoint"] == "serve://chat"


async def test_what_is_named_twice_is_written_once(store: RegistryStore) -> None:
    await store.change(registering(entry()))
    twice = (entry(weight=1), entry(weight=2))
    gone = (entry().key, entry().key)
    change = await store.change(lambda _: Change(action="register", who="ann", put=twice, removed=gone))
    assert (change.put, change.removed) == ((entry(weight=2),), ())
    assert (await store.snapshot()).entries == (entry(weight=2),)
    assert [row.id for row in await store.history()] == [2, 1]


async def test_every_entry_of_a_change_is_an_audit_row(store: RegistryStore) -> None:
    await store.change(registering(entry(), entry(version="2"), who="ann", why="first"))
    await store.change(
        lambda _: Change(
            action="weigh", who="bob", why="more", put=(entry(weight=7),), figures={"p": 0.01, "n": [1, 2]}
        )
    )
    third, second, first = await store.history()
    assert [row.id for row in (first, second, third)] == [1, 2, 3]
    assert (first.who, first.action, first.why, first.before) == ("ann", "register", "first", None)
    assert (third.who, third.action, third.figures) == ("bob", "weigh", {"p": 0.01, "n": [1, 2]})
    assert third.before is not None and third.after is not None
    assert (third.before["weight"], third.after["weight"], third.after["capabilities"]) == (0, 7, [])
    assert third.at > second.at == first.at


async def test_history_is_narrowed_and_cut(store: RegistryStore) -> None:
    await store.change(registering(entry(), entry(environment="staging"), entry("other"), entry(version="2")))
    assert [row.id for row in await store.history(limit=2)] == [4, 3]
    assert [row.id for row in await store.history(model="chat")] == [4, 2, 1]
    assert [row.id for row in await store.history(environment="staging")] == [2]
    assert [row.id for row in await store.history(model="chat", environment="production", limit=1)] == [4]
    assert await store.history(model="nobody") == ()


async def test_an_empty_change_writes_nothing(store: RegistryStore) -> None:
    assert (await store.change(lambda _: Change(action="adopt", who="manta"))).is_empty
    assert (await store.change(lambda _: Change(action="deregister", who="ann", removed=(entry().key,)))).is_empty
    assert (await store.snapshot(), await store.history()) == (Snapshot(), ())


async def test_a_change_that_is_refused_leaves_everything_as_it_was(store: RegistryStore) -> None:
    await store.change(registering(entry()))
    before = await store.snapshot()

    def refuse(_: Snapshot) -> Change:
        raise Conflict("weight: a sum of 0")

    with pytest.raises(Conflict, match="a sum of 0"):
        await store.change(refuse)
    assert (await store.snapshot(), len(await store.history())) == (before, 1)


async def test_a_change_is_decided_by_all_that_came_before(place: Place) -> None:
    """Half of them at each of two stores at once: a read before the lock would lose some."""
    await place.store.change(registering(entry(context_tokens=0)))

    def one_more(snapshot: Snapshot) -> Change:
        found = snapshot.entries[0]
        return Change(action="register", who="ann", put=(replace(found, context_tokens=found.context_tokens + 1),))

    changes = [store.change(one_more) for _ in range(10) for store in (place.store, place.other)]
    await asyncio.gather(*changes)
    snapshot = await place.store.snapshot()
    assert (snapshot.revision, snapshot.entries[0].context_tokens) == (21, 20)
    assert [row.id for row in await place.store.history()] == list(range(21, 0, -1))


async def test_a_rollout_is_seen_while_it_is_under_way_and_kept_afterwards(place: Place) -> None:
    running = rollout(hold_s=1.5, started_at=5.25, step_started_at=6.5, started_by="ann", shadow_percent=3)
    await place.store.change(lambda _: rolling(running))
    assert (await place.other.snapshot()).rollout("chat", "production") == running
    paused = replace(running, state="paused", step=2, reason="lunch")
    await place.store.change(lambda _: rolling(paused))
    assert (await place.other.snapshot()).rollouts == (paused,)
    ended = replace(paused, state="rolled_back", ended_at=9.5, figures={"errors": {"canary": [3, 20]}})
    await place.store.change(lambda _: rolling(ended))
    assert (await place.other.snapshot()).rollouts == ()
    assert await place.other.rollouts() == (ended,)
    states = [(row.version, row.before and row.before["state"], row.after and row.after["state"]) for row in
              await place.store.history()]  # fmt: skip
    assert states == [("2", "paused", "rolled_back"), ("2", "running", "paused"), ("2", None, "running")]


async def test_rollouts_are_listed_the_newest_first(store: RegistryStore) -> None:
    numbers = count(1)
    for model, environment in (("chat", "staging"), ("chat", "production"), ("other", "staging")):
        begun = rollout(next(numbers), model=model, environment=environment)
        await store.change(lambda _, begun=begun: rolling(begun))  # type: ignore[misc]
    await store.change(lambda _: rolling(rollout(1, environment="staging", state="promoted")))
    assert [found.id for found in await store.rollouts()] == ["r3", "r2", "r1"]
    assert [found.id for found in await store.rollouts(model="chat", limit=1)] == ["r2"]
    assert [found.id for found in await store.rollouts(environment="staging")] == ["r3", "r1"]


async def test_a_model_has_one_rollout_under_way(store: RegistryStore) -> None:
    await store.change(lambda _: rolling(rollout(1)))
    with pytest.raises(Conflict, match="'chat' has a rollout under way in production; promote it or roll it back"):
        await store.change(lambda _: rolling(rollout(2, state="paused")))
    assert ((await store.snapshot()).revision, len(await store.rollouts())) == (1, 1)


async def test_a_rollout_may_begin_in_the_step_that_ends_another(store: RegistryStore) -> None:
    await store.change(lambda _: rolling(rollout(1)))
    await store.change(lambda _: rolling(rollout(2), rollout(1, state="rolled_back")))
    assert [found.id for found in (await store.snapshot()).rollouts] == ["r2"]


async def test_revisions_begin_with_the_one_now_and_go_on_with_those_of_others(place: Place) -> None:
    await place.store.change(registering(entry()))
    seen = place.store.revisions()
    assert await anext(seen) == 1
    for revision in (2, 3):
        waiting = asyncio.ensure_future(anext(seen))
        await asyncio.sleep(0)  # it listens
        await place.other.change(registering(entry(weight=revision)))
        assert await asyncio.wait_for(waiting, SEEN_S) == revision
    await seen.aclose()


async def test_a_change_made_while_nobody_waited_is_not_missed(place: Place) -> None:
    seen = place.store.revisions()
    assert await anext(seen) == 0
    await place.other.change(registering(entry()))
    await place.other.change(registering(entry(weight=1)))
    assert await asyncio.wait_for(anext(seen), SEEN_S) == 2
    await seen.aclose()


async def test_the_memory_store_can_be_told_to_be_away() -> None:
    store = MemoryRegistryStore()
    seen = store.revisions()
    await anext(seen)
    waiting = asyncio.ensure_future(anext(seen))
    await asyncio.sleep(0)
    store.fail = True
    for call in (waiting, store.snapshot(), store.change(registering(entry())), store.history(), store.rollouts()):
        with pytest.raises(RegistryUnavailable):
            await call
    store.fail = False
    assert await store.snapshot() == Snapshot()


async def test_figures_that_are_no_numbers_do_not_stop_a_change(database: DatabaseRegistryStore) -> None:
    """A verdict may divide by nothing; its rollback has to be made all the same."""
    figures: dict[Any, Any] = {
        "p95_ms": float("nan"),
        "ratio": float("inf"),
        "seen": frozenset({"b", "a"}),
        5: "percent",
    }
    await database.change(lambda _: Change(action="rollout-rollback", who="manta", put=(entry(),), figures=figures))
    assert (await database.history())[0].figures == {"p95_ms": None, "ratio": None, "seen": ["a", "b"], "5": "percent"}


@pytest.mark.parametrize("place", ["why", "figures"])
async def test_text_that_is_none_is_refused_as_such(database: DatabaseRegistryStore, place: str) -> None:
    """JSON may hold half a character, databases do not."""
    told = {"why": "half: \ud83d"} if place == "why" else {"figures": {"said": "half: \ud83d"}}
    with pytest.raises(InvalidRequest, match="the registry cannot keep a value of this change: .*surrogates"):
        await database.change(lambda _: Change(action="register", who="ann", put=(entry(),), **told))
    assert await database.snapshot() == Snapshot()


@pytest.mark.postgres
@pytest.mark.parametrize("wrong", [{"licence": "a\0b"}, {"context_tokens": 2**40}])
async def test_a_value_that_postgresql_does_not_know_is_refused_as_such(
    registry_at: Callable[[str], str], wrong: dict[str, Any]
) -> None:
    store = DatabaseRegistryStore(registry_at("postgresql"))
    with pytest.raises(InvalidRequest, match="the registry cannot keep a value of this change: "):
        await store.change(registering(entry(**wrong)))


async def test_the_database_itself_refuses_a_weight_that_is_no_percent(database: DatabaseRegistryStore) -> None:
    with pytest.raises(Conflict, match="weight_is_a_percent"):
        await database.change(registering(entry(weight=101)))
    assert await database.snapshot() == Snapshot()


async def test_the_database_itself_refuses_a_second_rollout_under_way(database: DatabaseRegistryStore) -> None:
    await database.change(lambda _: rolling(rollout(1)))
    rest = ", ".join(column.name for column in ROLLOUTS.c if column.name not in ("sequence", "id", "state"))

    def add(state: str) -> Callable[[Connection], object]:
        again = f"insert into rollouts (id, state, {rest}) select '{state}', '{state}', {rest} from rollouts"
        return lambda connection: connection.execute(text(again))

    with pytest.raises(IntegrityError):
        await on(database.url, add("paused"))
    await on(database.url, add("promoted"))
    assert [found.id for found in await database.rollouts()] == ["promoted", "r1"]


def test_the_tables_hold_every_field() -> None:
    assert [column.name for column in MODELS.c] == [field.name for field in fields(ModelEntry)]
    assert [column.name for column in ROLLOUTS.c] == ["sequence", *(field.name for field in fields(Rollout))]
    assert [column.name for column in AUDIT.c] == [field.name for field in fields(Audit)]
