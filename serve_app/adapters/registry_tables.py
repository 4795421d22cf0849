"""Tables of the registry, and how their rows are read and written."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout

SCHEMA = MetaData()
SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts by itself in columns of this type alone."""


def _all(kind: Any, *names: str) -> list[Column[Any]]:
    return [Column(name, kind, nullable=False) for name in names]


REGISTRY = Table(
    "registry",
    SCHEMA,
    Column("id", Integer, CheckConstraint("id = 1", name="one_registry"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
VERSION = Table("registry_version", MetaData(), Column("version_num", Text, primary_key=True))
"""Alembic's own."""
MODELS = Table(
    "models",
    SCHEMA,
    *(Column(name, Text, primary_key=True) for name in ("model", "version", "environment")),
    *_all(Text, "endpoint", "engine", "served_name", "status"),
    Column("weight", Integer, CheckConstraint("weight between 0 and 100", name="weight_is_a_percent"), nullable=False),
    Column("context_tokens", Integer, nullable=False),
    Column("capabilities", JSON, nullable=False),
    *_all(Double, "prompt_price", "output_price"),
    *_all(Text, "licence", "digest", "signature", "owner", "egress", "key_env"),
    Column("first_event_deadline_s", Double, nullable=False),
    *_all(Text, "screener_down", "source"),
    *_all(Double, "created_at", "updated_at"),
)
ROLLOUTS = Table(
    "rollouts",
    SCHEMA,
    Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
    *_all(Text, "id", "model", "environment", "to_version"),
    *_all(JSON, "before", "steps"),
    Column("step", Integer, nullable=False),
    Column("hold_s", Double, nullable=False),
    Column("shadow_percent", Integer, nullable=False),
    Column("state", Text, nullable=False),
    *_all(Double, "started_at", "step_started_at"),
    Column("ended_at", Double),
    *_all(Text, "started_by", "reason"),
    Column("figures", JSON, nullable=False),
    UniqueConstraint("id", name="rollouts_by_id"),
)
UNDER_WAY = ROLLOUTS.c.state.in_(["running", "paused"])
Index(
    "one_rollout_under_way",
    ROLLOUTS.c.model,
    ROLLOUTS.c.environment,
    unique=True,
    sqlite_where=UNDER_WAY,
    postgresql_where=UNDER_WAY,
)
AUDIT = Table(
    "audit",
    SCHEMA,
    Column("id", SEQUENCE, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    *_all(Text, "who", "action", "model", "version", "environment"),
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Column("why", Text, nullable=False),
    Column("figures", JSON, nullable=False),
    Index("audit_of_a_model", "model", "environment", "id"),
)
RECEIPTS = Table(
    "receipts",
    SCHEMA,
    Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
    *_all(Text, "id", "tenant"),
    Column("at", Double, nullable=False),
    Column("body", JSON, nullable=False),
    UniqueConstraint("id", "tenant", "at", name="receipts_by_id"),
)


async def put(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], *key: str) -> None:
    """Inserts rows; those whose key is there already are updated, or left as they are when the key is all of it."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table)
    changed = {name: insert.excluded[name] for name in rows[0] if name not in key}
    await connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed), rows)


def entry(row: RowMapping) -> ModelEntry:
    return ModelEntry(**{**row, "capabilities": frozenset(row["capabilities"])})


def rollout(row: RowMapping) -> Rollout:
    fields = {name: value for name, value in row.items() if name != "sequence"}
    return Rollout(**{**fields, "steps": tuple(row["steps"])})


def audit(row: RowMapping) -> Audit:
    return Audit(**row)
