"""Only whole files are found, and of a changed file one version: at any moment, and after a crash at any moment."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.memory import MemoryIndex
from serve_app.documents.folder import Folder
from serve_app.documents.records import AttachedFile, Paging, Wish
from serve_app.errors import NotFound, RetrieverUnavailable
from serve_app.ingestion import INDEXED_AT_ONCE
from serve_app.library import Library
from serve_app.ports import Chunk, Query
from serve_app.settings import RetrieverSettings
from serve_app.shelf import Shelf
from serve_app.turn import Caller, Passage
from serve_app.visibility import Visibility
from tests.unit.documents import kept_in, opened

TENANT = "ann"
OLD = b"# Guide\n\nThe sky is blue.\n\n## Night\n\nAt night it is black."
NEW = b"# Guide\n\nThe sky is grey.\n\n## Night\n\nAt night it is dark."
LARGE = b"\n".join(b'{"path": "p%d.md", "text": "Sky number %d."}' % (n, n) for n in range(INDEXED_AT_ONCE + 9))


@dataclass
class Gate:
    """Where somebody arrives, and waits to be let through."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def passed(self) -> None:
        self.arrived.set()
        await self.opened.wait()


@dataclass(frozen=True)
class GatedIndex(MemoryIndex):
    """Waits before an upsert, a search or a deletion for whose turn there is a gate, counted from 0."""

    upserts: dict[int, Gate] = field(default_factory=dict)
    searches: dict[int, Gate] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    away: list[bool] = field(default_factory=list)
    """Not empty: nobody reaches it."""
    deleted: asyncio.Event = field(default_factory=asyncio.Event)

    async def upsert(self, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        await self._turn("upsert", self.upserts)
        await super().upsert(chunks, embeddings)

    async def search(self, query: Query) -> tuple[Passage, ...]:
        await self._turn("search", self.searches)
        return await super().search(query)

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        await self._turn("delete", {})
        await super().delete(tenant, store, file_id)
        self.deleted.set()

    async def _turn(self, call: str, gates: dict[int, Gate]) -> None:
        turn = self.calls.count(call)
        self.calls.append(call)
        if self.away:
            raise RetrieverUnavailable("the index is away")
        if turn in gates:
            await gates[turn].passed()

    @property
    def chunks(self) -> int:
        return len(self._rows)


@pytest.fixture
def settings(tmp_path: Path) -> RetrieverSettings:
    return kept_in(tmp_path)


async def add(library: Library, store_id: str, name: str, content: bytes, **attributes: str) -> AttachedFile:
    file = await library.create_file(TENANT, name, content, "assistants")
    return await library.attach(TENANT, store_id, file.id, Wish(attributes=attributes))


async def found(library: Library, *stores: str) -> set[str]:
    query = Query.of(Caller(TENANT, "k"), text="the sky at night", embedding=None, stores=stores, top_k=50)
    return {passage.text for passage in (await library.search(query)).passages}


async def test_a_file_is_found_when_it_is_whole_and_not_before(settings: RetrieverSettings) -> None:
    index = GatedIndex(upserts={1: (second := Gate())})
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        await add(library, store.id, "set.jsonl", LARGE)
        await second.arrived.wait()
        assert index.chunks == INDEXED_AT_ONCE
        assert await found(library, store.id) == await found(library) == set()
        second.opened.set()
        await library.drained()
        assert len(await found(library, store.id)) == 50


async def test_a_file_cut_off_by_a_crash_is_not_found_by_the_next_process_before_it_is_whole(
    settings: RetrieverSettings,
) -> None:
    index = GatedIndex(upserts={1: (second := Gate()), 2: (third := Gate())})
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        await add(library, store.id, "set.jsonl", LARGE)
        await second.arrived.wait()
    async with opened(settings, index) as library:
        assert await found(library, store.id) == set()
        await third.arrived.wait()
        assert await found(library, store.id) == set()
        third.opened.set()
        await library.drained()
        assert len(await found(library, store.id)) == 50
    assert index.chunks == INDEXED_AT_ONCE + 9


async def test_the_old_version_answers_until_the_new_one_is_whole(settings: RetrieverSettings) -> None:
    index = GatedIndex(upserts={1: (gate := Gate())})
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        await add(library, store.id, "guide.md", OLD)
        await library.drained()
        await add(library, store.id, "guide.md", NEW)
        await gate.arrived.wait()
        assert await found(library, store.id) == {"The sky is blue.", "At night it is black."}
        gate.opened.set()
        await library.drained()
        assert await found(library, store.id) == {"The sky is grey.", "At night it is dark."}
    assert index.chunks == 2


async def test_a_search_under_way_keeps_the_version_it_began_with(settings: RetrieverSettings) -> None:
    index = GatedIndex(upserts={1: (writing := Gate())}, searches={0: (first := Gate()), 1: (second := Gate())})
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        await add(library, store.id, "guide.md", OLD)
        await library.drained()
        before_it_is_begun = asyncio.create_task(found(library, store.id))
        await first.arrived.wait()
        new = await add(library, store.id, "guide.md", NEW)
        first.opened.set()
        await writing.arrived.wait()
        before_it_is_whole = asyncio.create_task(found(library, store.id))
        await second.arrived.wait()
        writing.opened.set()
        while (await library.get_attached(TENANT, store.id, new.file_id)).status == "in_progress":
            pass
        assert await found(library, store.id) == {"The sky is grey.", "At night it is dark."}
        second.opened.set()
        old = {"The sky is blue.", "At night it is black."}
        assert await before_it_is_begun == await before_it_is_whole == old
        await library.drained()
    assert index.chunks == 2


async def test_an_old_version_that_could_not_be_removed_stays_hidden_over_a_restart(
    settings: RetrieverSettings,
) -> None:
    index = GatedIndex()
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        await add(library, store.id, "guide.md", OLD)
        await library.drained()
        index.upserts[1] = (gate := Gate())
        await add(library, store.id, "guide.md", NEW)
        await gate.arrived.wait()
        index.away.append(True)
        gate.opened.set()
        await library.drained()
        index.away.clear()
        assert await found(library, store.id) == {"The sky is grey.", "At night it is dark."}
        assert index.chunks == 4
    async with opened(settings, index) as library:
        assert await found(library, store.id) == {"The sky is grey.", "At night it is dark."}
        await index.deleted.wait()
    assert index.chunks == 2


async def test_a_file_whose_attributes_change_is_not_found_under_the_old_ones(settings: RetrieverSettings) -> None:
    index = GatedIndex(upserts={1: (gate := Gate())})
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        guide = await add(library, store.id, "guide.md", OLD)
        await library.drained()
        await library.attach(TENANT, store.id, guide.file_id, Wish(attributes={"access": "legal"}))
        assert await found(library, store.id) == set()
        await gate.arrived.wait()
        gate.opened.set()
        await library.drained()
        assert await found(library, store.id) == set()
    assert index.chunks == 2


async def test_attributes_that_change_while_a_file_is_indexed_are_those_of_its_chunks(
    settings: RetrieverSettings,
) -> None:
    index = GatedIndex(upserts={0: (gate := Gate())})
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        guide = await add(library, store.id, "guide.md", OLD)
        await gate.arrived.wait()
        await library.attach(TENANT, store.id, guide.file_id, Wish(attributes={"access": "legal"}))
        await library.attach(TENANT, store.id, guide.file_id, Wish(attributes={"access": "finance"}))
        gate.opened.set()
        await library.drained()
        assert await found(library, store.id) == set()
        query = Query.of(
            Caller(TENANT, "k", groups=frozenset({"finance"})), text="sky", embedding=None, stores=(store.id,), top_k=9
        )
        assert [passage.text for passage in (await library.search(query)).passages] == ["The sky is blue."]
        assert (await library.get_attached(TENANT, store.id, guide.file_id)).status == "completed"


async def test_what_is_taken_out_while_the_index_is_away_is_found_no_more(settings: RetrieverSettings) -> None:
    index = GatedIndex()
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        guide = await add(library, store.id, "guide.md", OLD)
        await library.drained()
        index.away.append(True)
        await library.detach(TENANT, store.id, guide.file_id)
        index.away.clear()
        assert (await found(library, store.id), index.chunks) == (set(), 2)
        again = await library.attach(TENANT, store.id, guide.file_id)
        await library.drained()
        assert again.status == "in_progress"
        assert await found(library, store.id) == {"The sky is blue.", "At night it is black."}


async def test_a_store_deleted_while_the_index_is_away_is_found_no_more_even_when_it_is_made_again(
    settings: RetrieverSettings,
) -> None:
    index = GatedIndex()
    async with opened(settings, index) as library:
        store = await library.ensure_default_store(TENANT)
        other = await library.create_store(TENANT, "other")
        await add(library, store.id, "guide.md", OLD)
        await add(library, other.id, "other.md", b"# O\n\nNo night.")
        await library.drained()
        index.away.append(True)
        await library.delete_store(TENANT, store.id)
        index.away.clear()
        assert await found(library, store.id) == set()
        assert await found(library) == {"No night."}
        with pytest.raises(NotFound):
            await library.get_store(TENANT, store.id)
        await library.ensure_default_store(TENANT)
        await add(library, store.id, "guide.md", NEW)
        await library.drained()
        assert await found(library) == {"No night.", "The sky is grey.", "At night it is dark."}
    assert index.chunks == 3


async def test_the_same_file_at_once_from_several_clients_is_one_file_indexed_once(
    settings: RetrieverSettings,
) -> None:
    index = GatedIndex()
    async with opened(settings, index) as library:
        store = await library.create_store(TENANT, "s")
        attached = await asyncio.gather(*(add(library, store.id, "guide.md", OLD) for _ in range(8)))
        await library.drained()
        assert (
            len({file.file_id for file in attached}) == len((await library.list_files(TENANT, Paging())).records) == 1
        )
    assert (index.calls.count("upsert"), index.chunks) == (1, 2)


async def test_bytes_of_files_that_are_not_known_are_gone_after_a_restart(settings: RetrieverSettings) -> None:
    folder, catalog = Folder(Path(settings.files_path)), Catalog(settings.catalog_url)
    async with opened(settings, MemoryIndex()) as library:
        kept = await library.create_file(TENANT, "kept.md", OLD, "assistants")
    await catalog.open()
    await catalog.files.expect("file-arriving")
    await folder.put("file-arriving", OLD)
    folder.path(".file-arriving").write_bytes(OLD[:9])
    await folder.put("file-leaving", OLD)
    await catalog.files.remove(TENANT, "file-leaving")
    await catalog.close()
    async with opened(settings, MemoryIndex()):
        assert [path.name for path in folder.root.iterdir()] == [kept.id]


async def test_a_batch_is_attached_whole_or_not_at_all(settings: RetrieverSettings) -> None:
    async with opened(settings, MemoryIndex()) as library:
        store = await library.create_store(TENANT, "s")
        file = await library.create_file(TENANT, "a.md", OLD, "assistants")
        with pytest.raises(NotFound, match="no file 'file-none'"):
            await library.attach_batch(TENANT, store.id, {file.id: Wish(), "file-none": Wish()})
        assert (await library.list_attached(TENANT, store.id, Paging())).records == ()


async def test_ingestion_leaves_the_cores_to_a_search_but_not_for_long() -> None:
    visibility = Visibility()
    shelf = Shelf(Catalog("sqlite+aiosqlite://"), MemoryIndex(), visibility)
    await shelf.quiet(60)
    async with visibility.searching():
        await shelf.quiet(0.0)
        waiting = asyncio.create_task(shelf.quiet(60))
        await asyncio.wait([waiting], timeout=0.01)
        assert not waiting.done()
    await waiting
