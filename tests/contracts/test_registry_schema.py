"""Databases of other versions, and migrations that do not get to their end."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from serve_app.adapters.receipts_database import DatabaseReceipts
from serve_app.adapters.registry_backend import backend
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.adapters.registry_schema import SHIPPED, Standing, state, upgrade
from serve_app.adapters.registry_tables import SCHEMA
from serve_app.errors import RegistryUnavailable, SchemaMismatch
from serve_app.registry.store import RegistryStore
from tests.contracts.registry_operators import (
    entry,
    on,
    registering,
    started,
    upgrade_registry,
    write_versions,
)

COLUMN = "op.execute('alter table models add column region text')"
TABLE = "op.execute('create table regions (name text)')"
CALLS: dict[str, Callable[[RegistryStore], object]] = {
    "snapshot": lambda store: store.snapshot(),
    "change": lambda store: store.change(registering(entry())),
    "history": lambda store: store.history(),
    "rollouts": lambda store: store.rollouts(),
    "revisions": lambda store: anext(store.revisions()),
    "receipt": lambda store: DatabaseReceipts(store.url, 10).find("r"),  # type: ignore[attr-defined]
}


def following(folder: Path, *scripts: str) -> Path:
    """The migrations of a Manta to come, with one more version for each script."""
    return write_versions(folder / "versions", SHIPPED, scripts)


async def run_sql(url: str, *statements: str) -> None:
    await on(url, lambda connection: [connection.execute(text(statement)) for statement in statements])


async def tables(url: str) -> set[str]:
    def found(connection: Connection) -> set[str]:
        return set(connection.dialect.get_table_names(connection))

    return await on(url, found)  # type: ignore[return-value]


async def test_the_migrations_make_the_tables_that_the_code_reads(registry_url: str) -> None:
    assert await upgrade(registry_url) == Standing("empty", "", "1")

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": "registry_version"})
        return list(compare_metadata(context, SCHEMA))

    assert await on(registry_url, differences) == []


async def test_asking_how_a_database_stands_makes_nothing_in_it(registry_url: str) -> None:
    assert await state(registry_url) == "empty"
    assert await tables(registry_url) == set()


async def test_an_upgrade_of_what_is_current_changes_nothing(registry_url: str) -> None:
    store = DatabaseRegistryStore(registry_url)
    await store.change(registering(entry()))
    assert await upgrade(registry_url) == Standing("current", "1", "1")
    assert (await store.snapshot()).entries == (entry(),)


@pytest.mark.parametrize("call", ["snapshot", "change", "history", "rollouts", "revisions"])
async def test_a_database_of_an_older_version_is_refused_with_the_command(
    registry_url: str, tmp_path: Path, call: str
) -> None:
    await upgrade(registry_url)
    later = following(tmp_path, COLUMN, TABLE)
    assert await state(registry_url, later) == "older"
    said = r"of an older version \(1, this Manta has 3\): run `manta registry upgrade`"
    with pytest.raises(SchemaMismatch, match=said):
        await CALLS[call](DatabaseRegistryStore(registry_url, later))  # type: ignore[misc]


@pytest.mark.parametrize("call", CALLS)
async def test_a_database_of_a_newer_version_is_refused(registry_url: str, tmp_path: Path, call: str) -> None:
    await upgrade(registry_url, following(tmp_path, COLUMN))
    assert await state(registry_url) == "newer"
    said = r"of a newer version \(2, this Manta has 1\): upgrade Manta, or restore a backup"
    with pytest.raises(SchemaMismatch, match=said):
        await CALLS[call](DatabaseRegistryStore(registry_url))  # type: ignore[misc]
    with pytest.raises(SchemaMismatch, match=said):
        await upgrade(registry_url)


async def test_what_was_registered_is_there_after_an_upgrade(registry_url: str, tmp_path: Path) -> None:
    await DatabaseRegistryStore(registry_url).change(registering(entry()))
    later = following(tmp_path, COLUMN, TABLE)
    assert await upgrade(registry_url, later) == Standing("older", "1", "3")
    upgraded = DatabaseRegistryStore(registry_url, later)
    await upgraded.change(registering(entry(version="2")))
    assert (await upgraded.snapshot()).entries == (entry(), entry(version="2"))


async def test_a_store_at_work_notices_that_its_database_was_upgraded(registry_url: str, tmp_path: Path) -> None:
    store = DatabaseRegistryStore(registry_url)
    await store.snapshot()
    listening = store.revisions()
    await anext(listening)
    await upgrade(registry_url, following(tmp_path, COLUMN))
    for call in (store.snapshot(), anext(listening)):
        with pytest.raises(SchemaMismatch, match="newer version"):
            await asyncio.wait_for(call, 5)


async def test_a_migration_that_fails_changes_nothing(registry_url: str, tmp_path: Path) -> None:
    await upgrade(registry_url)
    with pytest.raises(RegistryUnavailable, match="cannot be used: .*nothing"):
        await upgrade(registry_url, following(tmp_path, TABLE, "op.execute('drop table nothing')"))
    assert await state(registry_url) == "current"
    assert "regions" not in await tables(registry_url)


async def test_a_migration_that_is_killed_changes_nothing_and_can_be_made_again(
    registry_url: str, tmp_path: Path
) -> None:
    store = DatabaseRegistryStore(registry_url)
    await store.change(registering(entry()))
    later = following(tmp_path, TABLE, f"{COLUMN}\n    os.kill(os.getpid(), signal.SIGKILL)")
    process = started(upgrade_registry, registry_url, later)
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == -signal.SIGKILL
    assert await state(registry_url) == "current"
    assert "regions" not in await tables(registry_url)
    assert (await store.snapshot()).entries == (entry(),)
    shutil.rmtree(later)
    repaired = following(tmp_path, TABLE, COLUMN)
    assert await upgrade(registry_url, repaired) == Standing("older", "1", "3")
    assert (await DatabaseRegistryStore(registry_url, repaired).snapshot()).entries == (entry(),)


async def test_tables_of_something_else_are_left_alone(registry_url: str) -> None:
    backend(registry_url).prepare()
    await run_sql(registry_url, "create table models (name text)", "insert into models values ('theirs')")
    said = r"not a whole registry \(no version, this Manta has 1\): give it a database of its own"
    for call in (DatabaseRegistryStore(registry_url).snapshot(), upgrade(registry_url)):
        with pytest.raises(SchemaMismatch, match=said):
            await call
    assert (await state(registry_url), await tables(registry_url)) == ("half", {"models"})


async def test_a_registry_that_lost_a_table_is_not_begun_anew(registry_url: str) -> None:
    await upgrade(registry_url)
    await run_sql(registry_url, "drop table audit")
    assert await state(registry_url) == "half"
    with pytest.raises(SchemaMismatch, match="restore a backup"):
        await DatabaseRegistryStore(registry_url).snapshot()


async def test_a_registry_whose_tables_go_while_it_is_used_is_not_begun_anew(registry_url: str) -> None:
    """Gateways go on with their copy of it; an empty one would take their models away."""
    store = DatabaseRegistryStore(registry_url)
    await store.change(registering(entry()))
    await run_sql(registry_url, *(f"drop table {name}" for name in await tables(registry_url)))
    with pytest.raises(RegistryUnavailable, match="cannot be used: .*registry"):
        await store.snapshot()
    assert await tables(registry_url) == set()


def test_migrations_are_found_from_any_folder(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from serve_app.adapters.registry_schema import upgrade;"
        "print(asyncio.run(upgrade('sqlite:///there/registry.db')).head)"
    )
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    with sqlite3.connect(tmp_path / "there" / "registry.db") as made:
        assert made.execute("select revision from registry").fetchall() == [(0,)]
