"""Stores that end when nobody uses them."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.memory import MemoryIndex
from serve_app.documents.records import DAY_S, Place, Store, Wish
from serve_app.errors import NotFound, Rejected
from serve_app.http.vector_store_wire import store_object
from serve_app.library import Library
from serve_app.lifetimes import Lifetimes
from serve_app.ports import Query
from serve_app.settings import RetrieverSettings
from serve_app.turn import Caller
from tests.unit.documents import kept_in, opened

TENANT = "ann"
AGED = Store(
    id="vs_1", tenant=TENANT, name="s", metadata={}, created_at=0.0, last_active_at=time.time(), expires_after_days=1
)
STALE = replace(AGED, last_active_at=time.time() - 2 * DAY_S)


def test_a_store_ends_so_many_days_after_its_last_use() -> None:
    lifetimes = Lifetimes()
    lifetimes.know(AGED)
    assert lifetimes.expired(TENANT) == frozenset()
    lifetimes.know(STALE)
    assert (lifetimes.expired(TENANT), lifetimes.expired("bob")) == ({"vs_1"}, frozenset())
    assert lifetimes.all_expired == (Place(TENANT, "vs_1"),)


def test_a_use_puts_the_end_off() -> None:
    lifetimes = Lifetimes()
    lifetimes.know(STALE)
    lifetimes.use(TENANT, ["vs_1"])
    assert lifetimes.expired(TENANT) == frozenset()
    assert lifetimes.of(STALE).last_active_at == pytest.approx(time.time(), abs=60)
    assert set(lifetimes.unsaved()) == {Place(TENANT, "vs_1")}
    assert lifetimes.unsaved() == {}


def test_a_store_without_an_end_has_none() -> None:
    lifetimes = Lifetimes()
    lifetimes.know(STALE)
    lifetimes.know(replace(STALE, expires_after_days=None))
    assert lifetimes.expired(TENANT) == frozenset()


@dataclass(frozen=True)
class TellingIndex(MemoryIndex):
    deleted: asyncio.Event = field(default_factory=asyncio.Event)

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        await super().delete(tenant, store, file_id)
        self.deleted.set()


@pytest.fixture
def settings(tmp_path: Path) -> RetrieverSettings:
    return kept_in(tmp_path)


async def found(library: Library, *stores: str) -> list[str]:
    query = Query.of(Caller(TENANT, "k"), text="sky", embedding=None, stores=stores, top_k=9)
    return [passage.text for passage in (await library.search(query)).passages]


async def filled(library: Library, name: str, days: int | None) -> Store:
    file = await library.create_file(TENANT, f"{name}.md", f"# T\n\nThe sky of {name}.".encode(), "assistants")
    store = await library.create_store(TENANT, name, file_ids=[file.id], expires_after_days=days)
    await library.drained()
    return store


async def unused_for(settings: RetrieverSettings, store: Store, days: float) -> None:
    catalog = Catalog(settings.catalog_url)
    await catalog.stores.touch({Place(TENANT, store.id): time.time() - days * DAY_S})
    await catalog.close()


async def test_a_store_that_has_expired_answers_nothing_and_is_removed(settings: RetrieverSettings) -> None:
    index = TellingIndex()
    async with opened(settings, index) as library:
        kept, ending = await filled(library, "kept", None), await filled(library, "ending", 7)
    await unused_for(settings, ending, 8)
    async with opened(settings, index) as library:
        assert (await found(library), await found(library, ending.id)) == (["The sky of kept."], [])
        with pytest.raises(Rejected):  # it has expired, or is gone already
            await library.attach(TENANT, ending.id, "file-1", Wish())
        await index.deleted.wait()
        with pytest.raises(NotFound):
            await library.get_store(TENANT, ending.id)
        assert await found(library) == ["The sky of kept."]
    assert kept.expires_at is None


def test_a_store_that_has_expired_says_so() -> None:
    assert (store_object(STALE)["status"], store_object(AGED)["status"]) == ("expired", "completed")


async def test_a_search_by_name_keeps_a_store_from_ending(settings: RetrieverSettings) -> None:
    index = MemoryIndex()
    async with opened(settings, index) as library:
        ending = await filled(library, "ending", 7)
    await unused_for(settings, ending, 6)
    async with opened(settings, index) as library:
        assert await found(library, ending.id) == ["The sky of ending."]
    async with opened(settings, index) as library:
        assert (await library.get_store(TENANT, ending.id)).last_active_at == pytest.approx(time.time(), abs=60)
