"""Tables of the catalog, and how their rows are read."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Select,
    String,
    Table,
    Text,
    insert,
    literal,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.documents.records import AttachedFile, ChunkSizes, Place, StoredFile

SCHEMA = MetaData()


def _owned(name: str, *columns: Column[Any]) -> Table:
    """A table with what all share: an id, its tenant, when it was made and in which order."""
    return Table(
        name,
        SCHEMA,
        Column("sequence", Integer, primary_key=True, autoincrement=True),
        Column("id", String(80), nullable=False, unique=True),
        Column("tenant", String(255), nullable=False, index=True),
        Column("created_at", Double, nullable=False),
        *columns,
    )


FILES = _owned(
    "files",
    Column("name", Text, nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
)
STORES = _owned(
    "vector_stores",
    Column("name", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("description", Text),
    Column("expires_after_days", Integer),
    Column("last_active_at", Double),
)
ATTACHED = _owned(
    "vector_store_files",  # its id is `store/file`: a file is in a store once
    Column("store_id", String(64), nullable=False, index=True),
    Column("file_id", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False, index=True),
    Column("attributes", JSON, nullable=False),
    Column("chunk_count", Integer, nullable=False, default=0),
    Column("error_code", String(32)),
    Column("error_message", Text, nullable=False, default=""),
    Column("chunk_sizes", JSON(none_as_null=True)),
    Column("own_terms", Boolean),
)
BATCHES = _owned(
    "vector_store_file_batches",
    Column("store_id", String(64), nullable=False),
    Column("file_ids", JSON, nullable=False),
)
HIDDEN = Table(
    "vector_store_hidden_files",  # chunks may be in the index, and must not be found; file "": all of the store
    SCHEMA,
    Column("tenant", String(255), primary_key=True),
    Column("store_id", String(64), primary_key=True),
    Column("file_id", String(64), primary_key=True),
)
LOOSE = Table(
    "loose_files",  # bytes of which may be in the folder, though no file is known: arriving or leaving
    SCHEMA,
    Column("file_id", String(64), primary_key=True),
)
PURGED = Table(
    "purged_subjects",  # by the SHA-256 of their names: who asked to be forgotten is not kept
    SCHEMA,
    Column("tenant", String(255), primary_key=True),
    Column("subject_sha256", String(64), primary_key=True),
    Column("purged_at", Double, nullable=False),
)
Index("vector_store_files_of_a_store", ATTACHED.c.tenant, ATTACHED.c.store_id)


def owned_by(tenant: str, table: Table) -> Select[Any]:
    return select(table).where(table.c.tenant == tenant)


def joined() -> Select[Any]:
    """Files in stores, with what the file itself knows. Of all tenants: narrow it with `attached`."""
    mine = (ATTACHED.c.file_id == FILES.c.id) & (ATTACHED.c.tenant == FILES.c.tenant)
    facts = (FILES.c.name, FILES.c.size_bytes, FILES.c.created_at.label("uploaded_at"))
    return select(ATTACHED, *facts).join_from(ATTACHED, FILES, mine)


def attached(tenant: str) -> Select[Any]:
    return joined().where(ATTACHED.c.tenant == tenant)


def at(place: Place, table: Table = ATTACHED) -> tuple[ColumnElement[bool], ...]:
    """Conditions for the rows of one file in a store; of every file of the store where the place names none."""
    store = (table.c.tenant == place.tenant, table.c.store_id == place.store_id)
    return (*store, table.c.file_id == place.file_id) if place.file_id else store


async def hide(connection: AsyncConnection, places: Iterable[Place]) -> None:
    """From the end of the transaction on nothing of them may be found; those hidden already stay so."""
    for place in places:
        known = select(HIDDEN.c.file_id).where(*at(place, HIDDEN), HIDDEN.c.file_id == place.file_id).exists()
        unknown = select(*(literal(value) for value in place)).where(~known)
        await connection.execute(insert(HIDDEN).from_select(place._fields, unknown))


def place_in(row: RowMapping) -> Place:
    return Place(row["tenant"], row["store_id"], row["file_id"])


def stored_file(row: RowMapping) -> StoredFile:
    names = ("id", "tenant", "name", "purpose", "size_bytes", "sha256", "created_at")
    return StoredFile(**{name: row[name] for name in names})


def attached_file(row: RowMapping) -> AttachedFile:
    values = {name: value for name, value in row.items() if name != "id"}
    sizes, own_terms = values.pop("chunk_sizes"), values.pop("own_terms")
    return AttachedFile(**values, chunk_sizes=ChunkSizes(**sizes) if sizes else None, own_terms=bool(own_terms))
