"""What the library relies on, against a real database."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.adapters.catalog import Catalog
from serve_app.documents.records import AttachedFile, Paging, StoredFile
from serve_app.errors import NotFound, RetrieverUnavailable


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    catalog = Catalog(f"sqlite+aiosqlite:///{tmp_path}/deep/catalog.db")
    await catalog.open()
    yield catalog
    await catalog.close()


async def add_file(catalog: Catalog, file_id: str, name: str = "a.md", tenant: str = "ann") -> StoredFile:
    return await catalog.add_file(
        tenant=tenant, file_id=file_id, name=name, purpose="assistants", size=10, sha256=file_id[-1] * 64
    )


async def attach(catalog: Catalog, store_id: str, file_id: str, name: str = "a.md") -> AttachedFile:
    await add_file(catalog, file_id, name)
    return await catalog.attach("ann", store_id, file_id, {})


async def test_what_one_tenant_keeps_is_not_found_by_another(catalog: Catalog) -> None:
    await add_file(catalog, "file-1")
    store = await catalog.add_store("ann", "s", {})
    with pytest.raises(NotFound, match="no file 'file-1'"):
        await catalog.get_file("bob", "file-1")
    with pytest.raises(NotFound, match="no vector store"):
        await catalog.get_store("bob", store.id)
    assert (await catalog.list_files("bob", Paging())).records == ()


async def test_anothers_file_cannot_be_attached(catalog: Catalog) -> None:
    await add_file(catalog, "file-1", tenant="bob")
    store = await catalog.add_store("ann", "s", {})
    with pytest.raises(NotFound):
        await catalog.attach("ann", store.id, "file-1", {})


async def test_an_id_of_another_tenant_is_not_taken_over(catalog: Catalog) -> None:
    await catalog.add_store("ann", "s", {}, "vs_1")
    with pytest.raises(NotFound):
        await catalog.add_store("bob", "s", {}, "vs_1")


async def test_a_file_is_found_by_name_and_content(catalog: Catalog) -> None:
    kept = await add_file(catalog, "file-1")
    same = {"tenant": "ann", "name": "a.md", "purpose": "assistants"}
    assert await catalog.find_file(**same, sha256="1" * 64) == kept
    assert await catalog.find_file(**same, sha256="2" * 64) is None


async def test_pages_follow_each_other_without_gap_or_overlap(catalog: Catalog) -> None:
    for number in range(5):
        await add_file(catalog, f"file-{number}")
    first = await catalog.list_files("ann", Paging(limit=2, order="asc"))
    rest = await catalog.list_files("ann", Paging(limit=3, order="asc", after="file-1"))
    back = await catalog.list_files("ann", Paging(limit=2, order="desc", before="file-2"))
    assert [file.id for file in (*first.records, *rest.records)] == [f"file-{number}" for number in range(5)]
    assert (first.has_more, rest.has_more) == (True, False)
    assert [file.id for file in back.records] == ["file-4", "file-3"]


async def test_a_store_counts_its_files_by_status(catalog: Catalog) -> None:
    store = await catalog.add_store("ann", "s", {})
    done = await attach(catalog, store.id, "file-1")
    await attach(catalog, store.id, "file-2")
    await catalog.settle(done, "completed", chunk_count=3)
    seen = await catalog.get_store("ann", store.id)
    assert (seen.counts.completed, seen.counts.in_progress, seen.counts.total, seen.size_bytes) == (1, 1, 2, 20)


async def test_work_is_settled_once(catalog: Catalog) -> None:
    store = await catalog.add_store("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    assert await catalog.settle(work, "completed", chunk_count=3)
    assert not await catalog.settle(work, "failed", error_code="server_error", error_message="late")
    assert (await catalog.get_attached("ann", store.id, "file-1")).status == "completed"


async def test_cancelled_work_cannot_complete(catalog: Catalog) -> None:
    store = await catalog.add_store("ann", "s", {})
    work = await attach(catalog, store.id, "file-1")
    await catalog.cancel("ann", store.id, "file-1")
    assert not await catalog.settle(work, "completed", chunk_count=3)


async def test_unfinished_work_comes_in_the_order_it_was_attached(catalog: Catalog) -> None:
    store = await catalog.add_store("ann", "s", {})
    for file_id in ("file-3", "file-1", "file-2"):
        await attach(catalog, store.id, file_id)
    assert [work.file_id for work in await catalog.unfinished()] == ["file-3", "file-1", "file-2"]


async def test_only_older_files_of_the_same_name_are_superseded(catalog: Catalog) -> None:
    store = await catalog.add_store("ann", "s", {})
    await attach(catalog, store.id, "file-1")
    await attach(catalog, store.id, "file-2", name="b.md")
    newer = await attach(catalog, store.id, "file-3")
    await attach(catalog, store.id, "file-4")
    assert [older.file_id for older in await catalog.superseded(newer)] == ["file-1"]


async def test_a_deleted_store_takes_its_rows_along(catalog: Catalog) -> None:
    store = await catalog.add_store("ann", "s", {})
    await attach(catalog, store.id, "file-1")
    await catalog.delete_store("ann", store.id)
    assert await catalog.places("ann", "file-1") == ()


async def test_many_writers_at_once_all_succeed(catalog: Catalog) -> None:
    await asyncio.gather(*(add_file(catalog, f"file-{number}") for number in range(30)))
    assert len((await catalog.list_files("ann", Paging(limit=100))).records) == 30


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
