"""Models, rollouts, their audit, and receipts."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Integer,
    Text,
    UniqueConstraint,
    column,
    table,
    text,
)

revision = "1"
down_revision = None

SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _registry()
    _models()
    _rollouts()
    _audit()
    _receipts()


def _registry() -> None:
    op.create_table(
        "registry",
        Column("id", Integer, CheckConstraint("id = 1", name="one_registry"), primary_key=True, autoincrement=False),
        Column("revision", BigInteger, nullable=False),
    )
    op.bulk_insert(table("registry", column("id"), column("revision")), [{"id": 1, "revision": 0}])


def _models() -> None:
    op.create_table(
        "models",
        Column("model", Text, primary_key=True),
        Column("version", Text, primary_key=True),
        Column("environment", Text, primary_key=True),
        Column("endpoint", Text, nullable=False),
        Column("engine", Text, nullable=False),
        Column("served_name", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column(
            "weight", Integer, CheckConstraint("weight between 0 and 100", name="weight_is_a_percent"), nullable=False
        ),
        Column("context_tokens", Integer, nullable=False),
        Column("capabilities", JSON, nullable=False),
        Column("prompt_price", Double, nullable=False),
        Column("output_price", Double, nullable=False),
        Column("licence", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Column("signature", Text, nullable=False),
        Column("owner", Text, nullable=False),
        Column("egress", Text, nullable=False),
        Column("key_env", Text, nullable=False),
        Column("first_event_deadline_s", Double, nullable=False),
        Column("screener_down", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("updated_at", Double, nullable=False),
    )


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
        Column("id", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("environment", Text, nullable=False),
        Column("to_version", Text, nullable=False),
        Column("before", JSON, nullable=False),
        Column("steps", JSON, nullable=False),
        Column("step", Integer, nullable=False),
        Column("hold_s", Double, nullable=False),
        Column("shadow_percent", Integer, nullable=False),
        Column("state", Text, nullable=False),
        Column("started_at", Double, nullable=False),
        Column("step_started_at", Double, nullable=False),
        Column("ended_at", Double),
        Column("started_by", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("figures", JSON, nullable=False),
        UniqueConstraint("id", name="rollouts_by_id"),
    )
    under_way = text("state in ('running', 'paused')")
    op.create_index(
        "one_rollout_under_way",
        "rollouts",
        ["model", "environment"],
        unique=True,
        sqlite_where=under_way,
        postgresql_where=under_way,
    )


def _audit() -> None:
    op.create_table(
        "audit",
        Column("id", SEQUENCE, primary_key=True, autoincrement=False),
        Column("at", Double, nullable=False),
        Column("who", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("environment", Text, nullable=False),
        Column("before", JSON),
        Column("after", JSON),
        Column("why", Text, nullable=False),
        Column("figures", JSON, nullable=False),
    )
    op.create_index("audit_of_a_model", "audit", ["model", "environment", "id"])


def _receipts() -> None:
    op.create_table(
        "receipts",
        Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
        Column("id", Text, nullable=False),
        Column("tenant", Text, nullable=False),
        Column("at", Double, nullable=False),
        Column("body", JSON, nullable=False),
        UniqueConstraint("id", "tenant", "at", name="receipts_by_id"),
    )
