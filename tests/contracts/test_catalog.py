"""What the library relies on, against a real database."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.adapters.catalog import Catalog
from serve_app.documents.records import AttachedFile, Paging, Place, Settled, StoredFile, Wish
from serve_app.errors import NotFound, RetrieverUnavailable


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    catalog = Catalog(f"sqlite+aiosqlite:///{tmp_path}/deep/catalog.db")
    await catalog.open()
    yield catalog
    await catalog.close()


async def add_file(catalog: Catalog, file_id: str, name: str = "a.md", tenant: str = "ann") -> StoredFile:
    return await catalog.files.add(
        tenant=tenant, file_id=file_id, name=name, purpose="assistants", size=10, sha256=file_id[-1] * 64
    )


async def attach(catalog: Catalog, store_id: str, file_id: str, name: str = "a.md") -> AttachedFile:
    await add_file(catalog, file_id, name)
    return await wish(catalog, store_id, file_id)


async def wish(catalog: Catalog, store_id: str, file_id: str, **attributes: str) -> AttachedFile:
    await catalog.places.attach("ann", store_id, {file_id: Wish(attributes=attributes)})
    return await catalog.places.get("ann", store_id, file_id)


async def test_what_one_tenant_keeps_is_not_found_by_another(catalog: Catalog) -> None:
    await add_file(catalog, "file-1")
    store = await catalog.stores.add("ann", "s", {})
    with pytest.raises(NotFound, match="no file 'file-1'"):
        await catalog.files.get("bob", "file-1")
    with pytest.raises(NotFound, match="no vector store"):
        await catalog.stores.get("bob", store.id)
    assert (await catalog.files.list("bob", Paging())).records == ()


async def test_anothers_file_cannot_be_attached(catalog: Catalog) -> None:
    await add_file(catalog, "file-1", tenant="bob")
    store = await catalog.stores.add("ann", "s", {})
    with pytest.raises(NotFound):
        await wish(catalog, store.id, "file-1")


async def test_an_id_of_another_tenant_is_not_taken_over(catalog: Catalog) -> None:
    await catalog.stores.add("ann", "s", {}, id="vs_1")
    with pytest.raises(NotFound):
        await catalog.stores.add("bob", "s", {}, id="vs_1")


async def test_a_file_is_found_by_name_and_content(catalog: Catalog) -> None:
    kept = await add_file(catalog, "file-1")
    same = {"tenant": "ann", "name": "a.md", "purpose": "assistants"}
    assert await catalog.files.find(**same, sha256="1" * 64) == kept
    assert await catalog.files.find(**same, sha256="2" * 64) is None


async def test_pages_follow_each_other_without_gap_or_overlap(catalog: Catalog) -> None:
    for number in range(5):
        await add_file(catalog, f"file-{number}")
    first = await catalog.files.list("ann", Paging(limit=2, order="asc"))
    rest = await catalog.files.list("ann", Paging(limit=3, order="asc", after="file-1"))
    back = await catalog.files.list("ann", Paging(limit=2, order="desc", before="file-2"))
    assert [file.id for file in (*first.records, *rest.records)] == [f"file-{number}" for number in range(5)]
    assert (first.has_more, rest.has_more) == (True, False)
    assert [file.id for file in back.records] == ["file-4", "file-3"]


async def test_a_store_counts_its_files_by_status(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    done = await attach(catalog, store.id, "file-1")
    await attach(catalog, store.id, "file-2")
    await catalog.places.complete(done, Settled(chunk_count=3))
    seen = await catalog.stores.get("ann", store.id)
    assert (seen.counts.completed, seen.counts.in_progress, seen.counts.total, seen.size_bytes) == (1, 1, 2, 20)


async def test_work_is_settled_once(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    assert await catalog.places.complete(work, Settled(chunk_count=3)) == ()
    await catalog.places.fail(work, Settled(error_code="server_error", error_message="late"))
    assert (await catalog.places.get("ann", store.id, "file-1")).status == "completed"


async def test_cancelled_work_cannot_complete(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    await catalog.places.cancel("ann", store.id, ["file-1"])
    assert await catalog.places.complete(work, Settled(chunk_count=3)) is None


async def test_work_that_is_wanted_otherwise_meanwhile_cannot_complete(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    again = await wish(catalog, store.id, "file-1", access="legal")
    assert await catalog.places.complete(work, Settled(chunk_count=3)) is None
    assert await catalog.places.complete(again, Settled(chunk_count=3)) == ()


async def test_what_is_begun_is_hidden_until_it_completes(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    assert await catalog.places.hidden() == ()
    await catalog.places.begin(work.place)
    assert await catalog.places.hidden() == (work.place,)
    await catalog.places.complete(work, Settled())
    assert await catalog.places.hidden() == ()


async def test_a_file_with_other_attributes_is_hidden_at_once(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    await catalog.places.complete(work, Settled())
    begun = await catalog.places.attach("ann", store.id, {"file-1": Wish(attributes={"access": "legal"})})
    assert begun.hidden == await catalog.places.hidden() == (work.place,)


async def test_a_removed_file_is_hidden_until_it_is_cleared(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    assert await catalog.files.remove("ann", "file-1") == await catalog.places.hidden() == (work.place,)
    assert await catalog.files.loose() == ("file-1",)
    await catalog.places.cleared(work.place)
    await catalog.files.forget("file-1")
    assert (await catalog.places.hidden(), await catalog.files.loose()) == ((), ())


async def test_bytes_are_loose_until_their_file_is_known(catalog: Catalog) -> None:
    await catalog.files.expect("file-1")
    assert await catalog.files.loose() == ("file-1",)
    await add_file(catalog, "file-1")
    assert await catalog.files.loose() == ()


async def test_unfinished_work_comes_in_the_order_it_was_attached(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    for file_id in ("file-3", "file-1", "file-2"):
        await attach(catalog, store.id, file_id)
    assert [work.file_id for work in await catalog.places.unfinished()] == ["file-3", "file-1", "file-2"]


async def test_only_older_files_of_the_same_name_are_superseded(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    await attach(catalog, store.id, "file-1")
    await attach(catalog, store.id, "file-2", name="b.md")
    newer = await attach(catalog, store.id, "file-3")
    await attach(catalog, store.id, "file-4")
    assert await catalog.places.complete(newer, Settled()) == (Place("ann", store.id, "file-1"),)
    listed = await catalog.places.list("ann", store.id, Paging(order="asc"))
    assert [file.file_id for file in listed.records] == ["file-2", "file-3", "file-4"]
    assert await catalog.places.hidden() == (Place("ann", store.id, "file-1"),)


async def test_a_deleted_store_takes_its_rows_along(catalog: Catalog) -> None:
    store = await catalog.stores.add("ann", "s", {})
    await attach(catalog, store.id, "file-1")
    assert await catalog.stores.remove("ann", store.id) == Place("ann", store.id)
    assert await catalog.places.unfinished() == ()
    assert await catalog.places.hidden() == (Place("ann", store.id),)


async def test_many_writers_at_once_all_succeed(catalog: Catalog) -> None:
    await asyncio.gather(*(add_file(catalog, f"file-{number}") for number in range(30)))
    assert len((await catalog.files.list("ann", Paging(limit=100))).records) == 30


async def test_sqlite_readers_do_not_wait_for_the_writer(catalog: Catalog, tmp_path: Path) -> None:
    await add_file(catalog, "file-1")
    with sqlite3.connect(tmp_path / "deep" / "catalog.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_database_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(os.urandom(8192))
    catalog = Catalog(f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    with pytest.raises(RetrieverUnavailable, match="the catalog of files cannot be used"):
        await catalog.open()
    await catalog.close()


FIRST_VERSION = """
CREATE TABLE files (
    sequence INTEGER NOT NULL PRIMARY KEY, id VARCHAR(80) NOT NULL UNIQUE, tenant VARCHAR(255) NOT NULL,
    created_at DOUBLE NOT NULL, name TEXT NOT NULL, purpose VARCHAR(64) NOT NULL, size_bytes INTEGER NOT NULL,
    sha256 VARCHAR(64) NOT NULL);
CREATE TABLE vector_stores (
    sequence INTEGER NOT NULL PRIMARY KEY, id VARCHAR(80) NOT NULL UNIQUE, tenant VARCHAR(255) NOT NULL,
    created_at DOUBLE NOT NULL, name TEXT NOT NULL, metadata JSON NOT NULL);
CREATE TABLE vector_store_files (
    sequence INTEGER NOT NULL PRIMARY KEY, id VARCHAR(80) NOT NULL UNIQUE, tenant VARCHAR(255) NOT NULL,
    created_at DOUBLE NOT NULL, store_id VARCHAR(64) NOT NULL, file_id VARCHAR(64) NOT NULL,
    status VARCHAR(16) NOT NULL, attributes JSON NOT NULL, chunk_count INTEGER NOT NULL,
    error_code VARCHAR(32), error_message TEXT NOT NULL);
CREATE TABLE vector_store_file_batches (
    sequence INTEGER NOT NULL PRIMARY KEY, id VARCHAR(80) NOT NULL UNIQUE, tenant VARCHAR(255) NOT NULL,
    created_at DOUBLE NOT NULL, store_id VARCHAR(64) NOT NULL, file_ids JSON NOT NULL);
INSERT INTO files VALUES (1, 'file-1', 'ann', 5, 'a.md', 'assistants', 10, 'x'),
    (2, 'file-2', 'ann', 6, 'b.md', 'assistants', 20, 'y');
INSERT INTO vector_stores VALUES (1, 'vs_1', 'ann', 7, 's', '{"pii": "mask"}');
INSERT INTO vector_store_files VALUES (1, 'vs_1/file-1', 'ann', 8, 'vs_1', 'file-1', 'completed', '{}', 3, NULL, ''),
    (2, 'vs_1/file-2', 'ann', 9, 'vs_1', 'file-2', 'in_progress', '{"team": "red"}', 0, NULL, '');
"""


async def test_a_database_of_the_first_version_is_brought_up_to_this_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.executescript(FIRST_VERSION)
    for _ in range(2):  # the second time there is nothing to do
        catalog = Catalog(f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
        await catalog.open()
        store = await catalog.stores.get("ann", "vs_1")
        assert (store.counts.completed, store.last_active_at, store.expires_at, store.description) == (1, 7, None, "")
        assert (await catalog.places.get("ann", "vs_1", "file-1")).chunk_count == 3
        [unfinished] = await catalog.places.unfinished()
        # it may be half indexed: that version did not say
        assert await catalog.places.hidden() == (unfinished.place,) == (Place("ann", "vs_1", "file-2"),)
        await catalog.places.begin(unfinished.place)
        await catalog.close()
