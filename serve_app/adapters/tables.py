"""Tables of the catalog, and how their rows are read."""

from typing import Any

from sqlalchemy import (
    JSON,
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
    select,
)

from serve_app.documents.records import AttachedFile, StoredFile

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
)
BATCHES = _owned(
    "vector_store_file_batches",
    Column("store_id", String(64), nullable=False),
    Column("file_ids", JSON, nullable=False),
)
Index("vector_store_files_of_a_store", ATTACHED.c.tenant, ATTACHED.c.store_id)


def owned_by(tenant: str, table: Table) -> Select[Any]:
    return select(table).where(table.c.tenant == tenant)


def joined() -> Select[Any]:
    """Files in stores, with what the file itself knows. Of all tenants: narrow it with `attached`."""
    mine = (ATTACHED.c.file_id == FILES.c.id) & (ATTACHED.c.tenant == FILES.c.tenant)
    return select(ATTACHED, FILES.c.name, FILES.c.size_bytes).join_from(ATTACHED, FILES, mine)


def attached(tenant: str) -> Select[Any]:
    return joined().where(ATTACHED.c.tenant == tenant)


def place_of(tenant: str, store_id: str, file_id: str | None) -> tuple[ColumnElement[bool], ...]:
    """One file in a store; every file of the store for None."""
    store = (ATTACHED.c.tenant == tenant, ATTACHED.c.store_id == store_id)
    return store if file_id is None else (*store, ATTACHED.c.file_id == file_id)


def stored_file(row: RowMapping) -> StoredFile:
    names = ("id", "tenant", "name", "purpose", "size_bytes", "sha256", "created_at")
    return StoredFile(**{name: row[name] for name in names})


def attached_file(row: RowMapping) -> AttachedFile:
    return AttachedFile(**{name: value for name, value in row.items() if name != "id"})
