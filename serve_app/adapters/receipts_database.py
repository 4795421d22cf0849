"""Receipts in the registry's database, for all ingress replicas."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import TypeAdapter
from sqlalchemy import delete, func, select

from serve_app.adapters.registry_connection import Database
from serve_app.adapters.registry_tables import RECEIPTS, put
from serve_app.routing.receipt import Receipt

AS_JSON = TypeAdapter(Receipt)
TRIMMED_SHARE = 20
"""One in so many of those kept may be there beyond them."""


@dataclass
class DatabaseReceipts:
    """Raises RegistryUnavailable. Two requests that came with the same id have a receipt each."""

    url: str = field(repr=False)
    keep: int
    """The newest so many stay, over all ingress replicas."""
    _database: Database = field(init=False)
    _untrimmed: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidRequest for a URL of something else; connects at the first call."""
        self._database = Database(self.url)

    async def write(self, receipts: Sequence[Receipt]) -> None:
        """All of them or none; those that are there already, from a call whose answer was lost, stay as they are."""
        rows = [_row(receipt) for receipt in receipts]
        async with self._database.writing() as connection:
            await self._database.revision(connection)
            await put(connection, RECEIPTS, rows, "id", "tenant", "at")
            self._untrimmed += len(rows)
            if self._untrimmed * TRIMMED_SHARE >= self.keep:
                newest = select(func.max(RECEIPTS.c.sequence)).scalar_subquery()
                await connection.execute(delete(RECEIPTS).where(RECEIPTS.c.sequence <= newest - self.keep))
                self._untrimmed = 0

    async def find(self, request_id: str, *, tenant: str | None = None) -> Receipt | None:
        """The newest with that id; a tenant's alone where one is named."""
        wanted = select(RECEIPTS.c.body).where(RECEIPTS.c.id == request_id)
        if tenant is not None:
            wanted = wanted.where(RECEIPTS.c.tenant == tenant)
        async with self._database.reading() as connection:
            await self._database.revision(connection)
            body = await connection.scalar(wanted.order_by(RECEIPTS.c.sequence.desc()).limit(1))
            return None if body is None else AS_JSON.validate_python(body)

    async def close(self) -> None:
        await self._database.close()


def _row(receipt: Receipt) -> dict[str, Any]:
    body = orjson.Fragment(AS_JSON.dump_json(receipt))
    return {"id": receipt.id, "tenant": receipt.tenant, "at": receipt.at, "body": body}
