"""Which version the registry's tables are of, and how they become this one's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select

from serve_app.adapters.registry_backend import as_json, backend, reachable
from serve_app.adapters.registry_tables import SCHEMA, VERSION
from serve_app.errors import SchemaMismatch

State = Literal["empty", "current", "older", "newer", "half"]
"""half: some of the tables, without a version or without the rest; another application's, or what is left of ours."""
SHIPPED = Path(__file__).with_name("registry_migrations") / "versions"


@dataclass(frozen=True, slots=True)
class Standing:
    state: State
    found: str
    """The database's version; empty where it has none."""
    head: str
    """This Manta's."""

    @property
    def mismatch(self) -> SchemaMismatch:
        match self.state:
            case "older":
                what, way_out = f"of an older version ({self.found}", "run `manta registry upgrade`"
            case "newer":
                what, way_out = f"of a newer version ({self.found}", "upgrade Manta, or restore a backup"
            case _:
                what, way_out = (
                    f"not a whole registry ({self.found or 'no version'}",
                    "give it a database of its own, or restore a backup",
                )
        return SchemaMismatch(f"the registry's database is {what}, this Manta has {self.head}): {way_out}")


async def state(url: str, versions: Path = SHIPPED) -> State:
    """Of the database as it is; nothing is made but the folder of an SQLite file."""
    return (await _on(url, standing, versions)).state


async def upgrade(url: str, versions: Path = SHIPPED) -> Standing:
    """Makes the tables this version's, in one transaction, however long it takes; says how they stood before.

    Raises SchemaMismatch when that cannot be, RegistryUnavailable when the database cannot be used.
    """
    return await _on(url, migrate, versions)


async def _on(url: str, act: Callable[[Connection, Path], Standing], versions: Path) -> Standing:
    place = backend(url)
    engine = place.engine(as_json, statement_s=None).execution_options(**place.writing)
    with reachable(place):
        place.prepare()
        async with engine.begin() as connection:
            await place.lock_schema(connection)
            return await connection.run_sync(act, versions)


def judged(found: str, versions: Path) -> Standing:
    """Of a database whose tables are all there."""
    head, known = _revisions(versions)
    state: State = "current" if found == head else "older" if found in known else "newer"
    return Standing(state, found, head)


def standing(connection: Connection, versions: Path) -> Standing:
    tables = set(inspect(connection).get_table_names())
    found = connection.scalar(select(VERSION.c.version_num)) if VERSION.name in tables else None
    ours = tables & set(SCHEMA.tables)
    if found is None:
        return Standing("half" if ours else "empty", "", _revisions(versions)[0])
    seen = judged(found, versions)
    return Standing("half", found, seen.head) if seen.state == "current" and ours != set(SCHEMA.tables) else seen


def migrate(connection: Connection, versions: Path) -> Standing:
    """How it stood before. All of it happens in the connection's transaction, on SQLite too: a process that dies on
    the way leaves nothing behind."""
    before = standing(connection, versions)
    if before.state in ("newer", "half"):
        raise before.mismatch
    if before.state != "current":
        scripts = _scripts(versions)
        steps = {"fn": lambda revision, _: scripts._upgrade_revs("head", revision), "version_table": VERSION.name}
        context = MigrationContext.configure(connection, opts=steps)
        with Operations.context(context):
            context.run_migrations()
    return before


def _scripts(versions: Path) -> ScriptDirectory:
    return ScriptDirectory(str(SHIPPED.parent), version_locations=[str(versions)])


@cache
def _revisions(versions: Path) -> tuple[str, frozenset[str]]:
    """The newest, and all."""
    scripts = _scripts(versions)
    return str(scripts.get_current_head()), frozenset(script.revision for script in scripts.walk_revisions())
