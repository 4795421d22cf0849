"""Databases that go away, stand still or are something else: whoever calls hears of it in time, and in one sentence."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from serve_app.adapters.receipts_database import DatabaseReceipts
from serve_app.adapters.registry_backend import backend
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.adapters.registry_sqlite import SqliteFile
from serve_app.errors import InvalidRequest, RegistryUnavailable
from serve_app.registry.live import LiveCopy
from serve_app.registry.snapshot import Change, Snapshot
from tests.contracts.postgres import Postgres, postgres
from tests.contracts.registry_operators import entry, registering

SEEN_S = 5.0
"""A change made after the database is back is seen by then; so it is promised."""
LONGEST_CALL_S = 12.0
"""The store's own 5 s, 2 s for the end of the connection, and the rest for a busy machine."""


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def server(own_server: Postgres) -> Postgres:
    if not own_server.is_running:
        own_server.start()
    return own_server


@pytest.fixture
async def store(server: Postgres) -> AsyncIterator[DatabaseRegistryStore]:
    store = DatabaseRegistryStore(server.new_database())
    await store.change(registering(entry()))
    yield store
    await store.close()


async def next_revision(store: DatabaseRegistryStore, after: int) -> int:
    """As a gateway asks: anew, whenever the connection is lost."""
    while True:
        try:
            async for revision in store.revisions():
                if revision > after:
                    return revision
        except RegistryUnavailable:
            await asyncio.sleep(0.25)


@pytest.mark.postgres
async def test_a_change_is_seen_after_the_database_was_killed_and_is_back(
    server: Postgres, store: DatabaseRegistryStore
) -> None:
    listening = store.revisions()
    assert await anext(listening) == 1
    lost = asyncio.ensure_future(anext(listening))
    await asyncio.sleep(0)
    await asyncio.to_thread(server.kill)
    with pytest.raises(RegistryUnavailable):
        await asyncio.wait_for(lost, SEEN_S)
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:\d+/manta cannot be used"):
        await store.snapshot()
    waiting = asyncio.ensure_future(next_revision(store, after=1))
    await asyncio.to_thread(server.start)
    await store.change(registering(entry(version="2")))
    assert await asyncio.wait_for(waiting, SEEN_S) == 2
    assert [e.version for e in (await store.snapshot()).entries] == ["1", "2"]


@pytest.mark.postgres
async def test_a_gateway_serves_on_while_the_database_is_away_and_sees_what_comes_after(
    server: Postgres, store: DatabaseRegistryStore, tmp_path: Path
) -> None:
    live = LiveCopy(store, Snapshot(), tmp_path / "copy.json", cache_s=120, environment="production")
    seen = asyncio.Event()
    live.on_change.append(lambda snapshot: seen.set())
    running = asyncio.create_task(live.run())
    await asyncio.wait_for(seen.wait(), SEEN_S)
    await asyncio.to_thread(server.kill)
    seen.clear()
    assert live.snapshot.entries == (entry(),)
    await asyncio.to_thread(server.start)
    await store.change(registering(entry(version="2")))
    await asyncio.wait_for(seen.wait(), SEEN_S)
    assert [found.version for found in live.snapshot.entries] == ["1", "2"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.postgres
async def test_nothing_is_half_changed_when_the_database_is_killed_in_a_change(
    server: Postgres, store: DatabaseRegistryStore
) -> None:
    def kill(_: Snapshot) -> Change:
        server.kill()
        return Change(action="register", who="ann", put=(entry("lost"),))

    with pytest.raises(RegistryUnavailable):
        await store.change(kill)
    await asyncio.to_thread(server.start)
    assert ((await store.snapshot()).revision, len(await store.history())) == (1, 1)


@pytest.mark.postgres
async def test_no_call_waits_for_a_database_that_stands_still(server: Postgres, store: DatabaseRegistryStore) -> None:
    receipts = DatabaseReceipts(store.url, 10)
    with server.frozen():
        calls = (store.snapshot(), store.change(registering(entry())), store.history(), anext(store.revisions()))
        begun = time.monotonic()
        failures = await asyncio.gather(*calls, receipts.find("r"), return_exceptions=True)
        took = time.monotonic() - begun
    assert [type(failure) for failure in failures] == [RegistryUnavailable] * 5
    assert "does not answer" in str(failures[0])
    assert took < LONGEST_CALL_S
    assert (await store.snapshot()).revision == 1


@pytest.mark.postgres
async def test_a_change_does_not_wait_for_a_database_that_stops_in_the_middle(
    server: Postgres, store: DatabaseRegistryStore
) -> None:
    frozen = server.frozen()

    def freeze(_: Snapshot) -> Change:
        frozen.__enter__()
        return Change(action="register", who="ann", put=(entry("late"),))

    begun = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        await store.change(freeze)
    took = time.monotonic() - begun
    frozen.__exit__(None, None, None)
    assert took < LONGEST_CALL_S
    await store.change(registering(entry("after")))
    assert [e.model for e in (await store.snapshot()).entries] == ["after", "chat"]


@pytest.mark.postgres
async def test_a_listener_notices_that_the_database_stands_still(
    server: Postgres, store: DatabaseRegistryStore
) -> None:
    listening = store.revisions()
    await anext(listening)
    with server.frozen(), pytest.raises(RegistryUnavailable):
        await asyncio.wait_for(anext(listening), LONGEST_CALL_S)


@pytest.mark.postgres
async def test_changes_are_seen_where_notices_do_not_arrive(server: Postgres, store: DatabaseRegistryStore) -> None:
    """As behind PgBouncer: somebody changes the registry and nobody is told."""
    listening = store.revisions()
    await anext(listening)
    server.sql(store.url, "update registry set revision = 7")
    assert await asyncio.wait_for(anext(listening), SEEN_S) == 7
    await listening.aclose()


@pytest.mark.postgres
async def test_what_the_database_refuses_is_said_without_the_password(server: Postgres) -> None:
    nowhere = server.new_database().rsplit("/", 1)[0] + "/nowhere"
    with pytest.raises(RegistryUnavailable, match='database "nowhere" does not exist') as refused:
        await DatabaseRegistryStore(nowhere).snapshot()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ann:secret@127.0.0.1:1/registry", "127.0.0.1:1/registry cannot be used: .*refused"),
        ("postgresql://ann:secret@nowhere.invalid/registry", "nowhere.invalid/registry cannot be used: "),
        ("postgresql://ann:se/cret@127.0.0.1/registry", "its URL cannot be read: %-encode"),
        ("postgresql://ann:secret@127.0.0.1/registry?sslmode=perhaps", "sslmode"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_said_without_the_password(url: str, said: str) -> None:
    with pytest.raises(RegistryUnavailable, match=said) as refused:
        await DatabaseRegistryStore(url).snapshot()
    assert "se/cret" not in str(refused.value) and "secret" not in str(refused.value)


@pytest.mark.parametrize("kept_there", [DatabaseRegistryStore, partial(DatabaseReceipts, keep=10)])
def test_nothing_that_is_printed_holds_the_password(kept_there: Callable[[str], object]) -> None:
    assert "secret" not in repr(kept_there("postgresql://ann:secret@127.0.0.1/registry"))


@pytest.mark.parametrize("options", ["?sslmode=disable&connect_timeout=3&channel_binding=prefer", "?ssl=disable"])
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
@pytest.mark.postgres
async def test_postgresql_is_reached_by_every_url_that_people_write(
    postgres_server: Postgres, scheme: str, options: str
) -> None:
    rest = postgres_server.new_database().partition("://")[2]
    assert await DatabaseRegistryStore(f"{scheme}://{rest}{options}").snapshot() == Snapshot()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/registry.db", "var/registry.db"),
        ("sqlite+aiosqlite:////srv/manta/registry.db", "/srv/manta/registry.db"),
    ],
)
def test_sqlite_is_a_file_by_every_url_that_people_write(url: str, path: str) -> None:
    assert backend(url) == SqliteFile(path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://ann:secret@host/registry", "has 'mysql'"),
        ("ann:secret@host/registry", "has no scheme"),
        ("", "has no scheme"),
        ("sqlite://", "has 'sqlite'"),
        ("sqlite:///", "has 'sqlite'"),
        ("sqlite:///:memory:", "has 'sqlite'"),
    ],
)
def test_a_url_of_something_else_is_refused_at_once(url: str, said: str) -> None:
    with pytest.raises(
        InvalidRequest, match=f"the registry's database URL {said}; write it like sqlite:///"
    ) as refused:
        DatabaseRegistryStore(url)
    assert "secret" not in str(refused.value)


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_text("minutes of a meeting\n" * 100)
    with pytest.raises(RegistryUnavailable, match=f"{path} cannot be used: file is not a database"):
        await DatabaseRegistryStore(f"sqlite:///{path}").change(registering(entry()))
    assert path.read_text() == "minutes of a meeting\n" * 100


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(RegistryUnavailable, match=r"var/registry.db cannot be used: (File exists|Not a directory)"):
        await DatabaseRegistryStore(f"sqlite:///{tmp_path}/var/registry.db").snapshot()


async def test_a_change_does_not_wait_for_ever_for_another_one(tmp_path: Path) -> None:
    store = DatabaseRegistryStore(f"sqlite:///{tmp_path}/registry.db")
    await store.change(registering(entry()))
    other = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RegistryUnavailable, match="database is locked"):
        await asyncio.wait_for(store.change(registering(entry(weight=1))), LONGEST_CALL_S)
    other.close()
    await store.change(registering(entry(weight=2)))
    assert (await store.snapshot()).entries[0].weight == 2


async def test_a_backup_may_be_put_in_the_place_of_a_file_in_use(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    store = DatabaseRegistryStore(f"sqlite:///{path}")
    await store.change(registering(entry()))
    backup = sqlite3.connect(tmp_path / "backup.db")
    with sqlite3.connect(path) as source:
        source.backup(backup)
    backup.close()
    await store.change(registering(entry(weight=5)))
    listening = store.revisions()
    assert await anext(listening) == 2
    for beside in ("-wal", "-shm"):  # SQLite's own rule: they belong to the file that goes
        path.with_name(f"registry.db{beside}").unlink()
    (tmp_path / "backup.db").replace(path)
    with pytest.raises(RegistryUnavailable, match="another file has taken its place"):
        await asyncio.wait_for(anext(listening), SEEN_S)
    assert await anext(store.revisions()) == 1
    assert (await store.snapshot()).entries[0].weight == 0


async def test_a_file_that_is_gone_is_no_empty_registry(tmp_path: Path) -> None:
    """A gateway that took it for one would drop its models."""
    folder = tmp_path / "var"
    store = DatabaseRegistryStore(f"sqlite:///{folder}/registry.db")
    await store.change(registering(entry()))
    listening = store.revisions()
    await anext(listening)
    shutil.rmtree(folder)
    for call in (anext(listening), store.snapshot(), anext(store.revisions())):
        with pytest.raises(RegistryUnavailable):
            await asyncio.wait_for(call, SEEN_S)
