"""The registry as a gateway knows it, while its database comes and goes. Nothing here waits for a clock."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.errors import Conflict, RegistryUnavailable, SchemaMismatch
from serve_app.registry.changes import disable, weigh
from serve_app.registry.disk_copy import DiskCopy
from serve_app.registry.entry import ModelEntry
from serve_app.registry.live import LONGEST_PAUSE_S, LiveCopy
from serve_app.registry.snapshot import Change, Decide, Snapshot
from serve_app.rollout import changes as rollouts
from tests.builders import registered

PATIENCE_S = 20
"""Longer than any machine needs; a test that waits this long has failed."""

DECLARED = Snapshot(entries=(registered(source="config"),))


def put(*entries: ModelEntry) -> Decide:
    return lambda _: Change(action="register", who="ann", put=entries)


def start(id: str = "r1") -> Decide:
    return rollouts.start(
        id=id,
        model="llama",
        environment="development",
        to_version="2",
        steps=(10, 100),
        hold_s=60,
        who="ann",
        now=1.0,
    )


def back(id: str = "r1") -> Decide:
    return rollouts.rollback_by_verdict(id, who="watch", why="errors", now=2.0, figures={"errors": 1.0})


def weights(snapshot: Snapshot) -> dict[str, int]:
    return {one.version: one.weight for one in snapshot.entries if one.is_enabled}


@dataclass
class Pauses:
    """Between tries: each lasts until the test lets it end."""

    asked: list[float] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.begun.set()
        await self.over.wait()
        self.over.clear()

    async def next(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.begun.wait()
        self.begun.clear()

    async def tried_again(self) -> None:
        """Another try has failed."""
        self.over.set()
        await self.next()


@dataclass
class Watched:
    copy: LiveCopy
    pauses: Pauses

    @property
    def weights(self) -> dict[str, int]:
        return weights(self.copy.snapshot)

    async def until(self, holds: Callable[[LiveCopy], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds(self.copy):  # noqa: ASYNC110 - what it waits for is seen from outside alone
                await asyncio.sleep(0.002)


@asynccontextmanager
async def running(store: Any, path: Path, **settings: Any) -> AsyncIterator[Watched]:
    pauses = Pauses()
    settings = {"declared": DECLARED, "cache_s": PATIENCE_S * 2, "pause": pauses, **settings}
    copy = LiveCopy(store=store, path=path, environment="development", **settings)
    task = asyncio.create_task(copy.run())
    try:
        yield Watched(copy, pauses)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "registry.json"


@pytest.fixture
def store() -> MemoryRegistryStore:
    return MemoryRegistryStore()


@pytest.fixture(params=["memory", "sqlite"])
async def each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    store = MemoryRegistryStore() if request.param == "memory" else DatabaseRegistryStore(f"sqlite:///{tmp_path}/r.db")
    yield store
    await store.close()


async def test_the_configs_models_are_shown_before_anything_else_and_put_in(each: Any, path: Path) -> None:
    async with running(each, path) as watched:
        assert watched.weights == {"1": 100}
        assert (watched.copy.is_stale, watched.copy.age_s) == (True, None)
        await watched.until(lambda copy: not copy.is_stale)
        assert watched.copy.snapshot == replace(DECLARED, revision=1)
    assert [(row.who, row.action) for row in await each.history()] == [("gateway", "adopt")]


async def test_a_change_made_elsewhere_is_shown(each: Any, path: Path) -> None:
    async with running(each, path) as watched:
        await watched.until(lambda copy: not copy.is_stale)
        await each.change(put(registered("2", weight=0)))
        await watched.until(lambda copy: len(copy.snapshot.entries) == 2)
        await each.change(weigh(("llama", "2", "development"), 50, who="ann"))
        await watched.until(lambda copy: copy.snapshot.revision == 3)
        assert watched.weights == {"1": 100, "2": 50}


async def test_replicas_that_start_at_once_put_the_models_in_once(each: Any, path: Path) -> None:
    async with running(each, path) as one, running(each, path) as two, running(each, path) as three:
        for replica in (one, two, three):
            await replica.until(lambda copy: not copy.is_stale)
    assert len(await each.history()) == 1


async def test_a_change_is_told_once(store: MemoryRegistryStore, path: Path) -> None:
    told: list[int] = []
    async with running(store, path, on_change=[lambda snapshot: told.append(snapshot.revision)]) as watched:
        await watched.until(lambda copy: copy.snapshot.revision == 1)
        await store.change(put(registered("2", weight=0)))
        await watched.until(lambda copy: copy.snapshot.revision == 2)
    assert told == [1, 2]


async def test_an_old_gateway_goes_on_with_its_own_config_beside_a_new_one(
    store: MemoryRegistryStore, tmp_path: Path
) -> None:
    moved = registered(source="config", endpoint="serve://llama-new")
    renamed = registered("2", source="config", endpoint="serve://llama-2")
    async with running(store, tmp_path / "old.json") as old:
        await old.until(lambda copy: not copy.is_stale)
        await store.change(weigh(("llama", "1", "development"), 60, who="ann"))
        for config in (moved, renamed):
            async with running(store, tmp_path / f"{config.version}.json", declared=Snapshot(entries=(config,))) as new:
                await new.until(lambda copy: not copy.is_stale)
                assert [one for one in new.copy.snapshot.entries if one.is_enabled] == [replace(config, weight=60)]
                revision = (await store.snapshot()).revision
                await old.until(lambda copy, revision=revision: copy.snapshot.revision == revision)  # type: ignore[misc]
                assert [one for one in old.copy.snapshot.entries if one.is_enabled] == [
                    registered(source="config", weight=60)
                ]
        await store.change(put(registered("3", weight=40)))
        await old.until(lambda copy: weights(copy.snapshot) == {"1": 60, "3": 40})


async def test_without_a_store_the_configs_models_are_all(path: Path) -> None:
    DiskCopy(path).write(Snapshot(entries=(registered("9"),)), 1.0)
    copy = LiveCopy(store=None, declared=DECLARED, path=path, cache_s=1, environment="development")
    await copy.run()
    assert (copy.snapshot, copy.is_stale, copy.age_s) == (DECLARED, False, None)


class TestOutage:
    async def test_a_gateway_begins_with_its_last_copy(self, store: MemoryRegistryStore, path: Path) -> None:
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            await store.change(put(registered("2", weight=30)))
            await watched.until(lambda copy: path.exists() and len(DiskCopy(path).read()[0].entries) == 2)  # type: ignore[index]
        store.fail = True
        async with running(store, path) as again:
            assert again.weights == {"1": 100, "2": 30}
            await again.pauses.next()
            assert again.weights == {"1": 100, "2": 30}
            assert again.copy.is_stale

    async def test_models_that_are_new_in_the_config_are_served_from_the_last_copy_too(
        self, store: MemoryRegistryStore, path: Path
    ) -> None:
        DiskCopy(path).write(Snapshot(revision=7, entries=(registered("x", weight=5),)), 1.0)
        store.fail = True
        config = Snapshot(entries=(registered("1", model="qwen", source="config"),))
        async with running(store, path, declared=config) as watched:
            assert [one.name for one in watched.copy.snapshot.entries] == ["llama@x", "qwen@1"]
            assert watched.copy.snapshot.revision == 7

    async def test_the_age_of_the_copy_counts_from_its_last_reading(
        self, store: MemoryRegistryStore, path: Path
    ) -> None:
        DiskCopy(path).write(DECLARED, 100.0)
        store.fail = True
        async with running(store, path, now=lambda: 160.0) as watched:
            assert watched.copy.age_s == 60.0
            await watched.pauses.next()
            store.fail = False
            watched.pauses.over.set()
            await watched.until(lambda copy: not copy.is_stale)
            assert watched.copy.age_s == 0.0

    async def test_it_is_logged_once_when_it_begins_and_once_when_it_ends(
        self, store: MemoryRegistryStore, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "manta"):
            async with running(store, path) as watched:
                await watched.until(lambda copy: not copy.is_stale)
                store.fail = True
                await watched.pauses.next()
                for _ in range(5):
                    await watched.pauses.tried_again()
                store.fail = False
                watched.pauses.over.set()
                await watched.until(lambda copy: not copy.is_stale)
        lost, found = (record.getMessage() for record in caplog.records)
        assert "cannot be used (told to fail); serving revision 1, read 0 s ago" in lost
        assert found == "registry: its database can be read again"

    async def test_changes_made_meanwhile_are_seen_after_it(self, store: MemoryRegistryStore, path: Path) -> None:
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            store.fail = True
            await watched.pauses.next()
            store.fail = False
            await store.change(put(registered("2", weight=50)))
            assert watched.weights == {"1": 100}
            watched.pauses.over.set()
            await watched.until(lambda copy: weights(copy.snapshot) == {"1": 100, "2": 50})

    async def test_pauses_between_tries_grow_to_a_second(self, store: MemoryRegistryStore, path: Path) -> None:
        store.fail = True
        async with running(store, path) as watched:
            await watched.pauses.next()
            for _ in range(8):
                await watched.pauses.tried_again()
            assert watched.pauses.asked == sorted(watched.pauses.asked)
            assert watched.pauses.asked[0] <= 0.1
            assert watched.pauses.asked[-1] == LONGEST_PAUSE_S == 1.0

    async def test_the_configs_models_are_put_in_when_it_ends(self, store: MemoryRegistryStore, path: Path) -> None:
        store.fail = True
        async with running(store, path) as watched:
            await watched.pauses.next()
            store.fail = False
            watched.pauses.over.set()
            await watched.until(lambda copy: not copy.is_stale)
        assert (await store.snapshot()).entries == DECLARED.entries

    async def test_a_listener_that_falls_silent_is_made_up_for(self, store: MemoryRegistryStore, path: Path) -> None:
        @dataclass
        class Deaf:
            """Announces nothing after the first."""

            inner: MemoryRegistryStore

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

            async def revisions(self) -> AsyncIterator[int]:
                yield 0
                await asyncio.Event().wait()

        async with running(Deaf(store), path, cache_s=0.01) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            await store.change(put(registered("2", weight=0)))
            await watched.until(lambda copy: len(copy.snapshot.entries) == 2)

    async def test_a_database_of_another_version_is_named_and_the_copy_served(
        self, store: MemoryRegistryStore, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        @dataclass
        class Older:
            async def revisions(self) -> AsyncIterator[int]:
                raise SchemaMismatch("the registry's database is older: run `manta registry upgrade`")
                yield 0

        with caplog.at_level(logging.WARNING, "manta"):
            async with running(Older(), path) as watched:
                await watched.pauses.next()
                await watched.pauses.tried_again()
                assert watched.weights == {"1": 100}
        [said] = (record.getMessage() for record in caplog.records)
        assert "run `manta registry upgrade`; serving revision 0, never read" in said

    async def test_models_that_are_refused_are_named_and_the_rest_is_served(
        self, store: MemoryRegistryStore, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        @dataclass
        class Refusing(MemoryRegistryStore):
            async def change(self, decide: Decide) -> Change:
                raise Conflict("the name is taken")

        with caplog.at_level(logging.WARNING, "manta"):
            async with running(Refusing(), path) as watched:
                await watched.until(lambda copy: not copy.is_stale)
        assert [record.getMessage() for record in caplog.records] == [
            "registry: the config's models cannot be put in: the name is taken"
        ]


class TestAssuming:
    @pytest.fixture
    async def store(self, store: MemoryRegistryStore) -> MemoryRegistryStore:
        await store.change(put(registered("1", source="config"), registered("2", weight=0)))
        await store.change(start())
        return store

    async def test_a_rollback_is_shown_at_once_and_told(self, store: MemoryRegistryStore, path: Path) -> None:
        told: list[dict[str, int]] = []
        async with running(store, path, on_change=[lambda snapshot: told.append(weights(snapshot))]) as watched:
            await watched.until(lambda copy: weights(copy.snapshot) == {"1": 90, "2": 10})
            watched.copy.assume(back()(watched.copy.snapshot))
            assert watched.weights == {"1": 100}
            assert watched.copy.snapshot.rollouts == ()
            assert told[-1] == {"1": 100}

    async def test_it_stands_over_what_is_read_until_it_is_written(
        self, store: MemoryRegistryStore, path: Path
    ) -> None:
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            watched.copy.assume(back()(watched.copy.snapshot))
            await store.change(put(registered("3", model="qwen")))
            await watched.until(lambda copy: len(copy.snapshot.entries) == 3)
            assert watched.weights == {"1": 100, "3": 100}
            await store.change(back())
            revision = (await store.snapshot()).revision
            await watched.until(lambda copy: copy.snapshot.revision == revision)
            assert watched.copy.snapshot == await store.snapshot()

    async def test_another_rollout_afterwards_is_not_touched_by_it(
        self, store: MemoryRegistryStore, path: Path
    ) -> None:
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            watched.copy.assume(back()(watched.copy.snapshot))
            await store.change(back())
            await store.change(put(registered("2", weight=0)))
            await store.change(start("r2"))
            await watched.until(lambda copy: [one.id for one in copy.snapshot.rollouts] == ["r2"])
            assert watched.weights == {"1": 90, "2": 10}

    async def test_it_holds_over_an_outage_and_a_restart(self, store: MemoryRegistryStore, path: Path) -> None:
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            store.fail = True
            await watched.pauses.next()
            watched.copy.assume(back()(watched.copy.snapshot))
            await watched.pauses.tried_again()
        async with running(store, path) as again:
            assert again.weights == {"1": 100}
            await again.pauses.next()
            assert again.weights == {"1": 100}

    async def test_a_change_without_a_rollout_is_shown_until_the_next_reading(
        self, store: MemoryRegistryStore, path: Path
    ) -> None:
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            change = Change(action="disable", who="ann", put=(registered("2", status="disabled"),))
            watched.copy.assume(change)
            assert watched.weights == {"1": 90}
            await store.change(put(registered("3", model="qwen")))
            await watched.until(lambda copy: len(copy.snapshot.entries) == 3)
            assert watched.weights == {"1": 90, "2": 10, "3": 100}


class TestTheCopyOnDisk:
    def test_it_is_read_as_it_was_written(self, path: Path) -> None:
        snapshot = Snapshot(revision=3, entries=(registered(capabilities=frozenset({"tools", "json"})),))
        DiskCopy(path).write(snapshot, 12.5)
        assert DiskCopy(path).read() == (snapshot, 12.5)
        assert [file.name for file in path.parent.iterdir()] == ["registry.json"]

    def test_where_there_is_none_there_is_nothing(self, path: Path) -> None:
        assert DiskCopy(path).read() is None

    @pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"[]\n{}", b'{"sha256":"x","at":1}\n{}', b'{"at":1}\n'])
    def test_what_is_no_copy_is_set_aside(self, path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
        path.parent.mkdir()
        path.write_bytes(damage)
        assert DiskCopy(path).read() is None
        assert path.with_name("registry.json.damaged").read_bytes() == damage
        assert "is damaged; set aside as registry.json.damaged" in caplog.text

    @pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
    def test_a_single_changed_byte_or_a_missing_end_is_seen(self, path: Path, at: float) -> None:
        DiskCopy(path).write(Snapshot(entries=(registered(),)), 1.0)
        whole = path.read_bytes()
        place = int(len(whole) * at)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert DiskCopy(path).read() is None
        path.write_bytes(whole[:place])
        assert DiskCopy(path).read() is None

    async def test_a_folder_that_cannot_be_written_is_said_once_and_the_registry_served(
        self, store: MemoryRegistryStore, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path.parent.write_text("a file where the folder should be")
        async with running(store, path) as watched:
            await watched.until(lambda copy: not copy.is_stale)
            await store.change(disable(("llama", "1", "development"), who="ann"))
            await watched.until(lambda copy: weights(copy.snapshot) == {})
            await store.change(put(registered("2")))
            await watched.until(lambda copy: weights(copy.snapshot) == {"2": 100})
            assert caplog.text.count("no copy can be kept at") == 1


async def test_every_call_of_a_store_that_is_away_is_survived(path: Path) -> None:
    """Whichever call finds out first."""

    @dataclass
    class Failing(MemoryRegistryStore):
        fails: str = ""

        async def snapshot(self) -> Snapshot:
            return await (self._refuse() if self.fails == "snapshot" else super().snapshot())

        async def change(self, decide: Decide) -> Change:
            return await (self._refuse() if self.fails == "change" else super().change(decide))

        async def _refuse(self) -> Any:
            raise RegistryUnavailable("away")

    for call in ("change", "snapshot"):
        store = Failing(fails=call)
        async with running(store, path.with_name(f"{call}.json")) as watched:
            await watched.pauses.next()
            assert watched.weights == {"1": 100}
            store.fails = ""
            watched.pauses.over.set()
            await watched.until(lambda copy: not copy.is_stale)
