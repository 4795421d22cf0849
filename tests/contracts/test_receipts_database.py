"""Receipts of all ingress replicas, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from serve_app.adapters.receipts_database import DatabaseReceipts
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.errors import RegistryUnavailable
from serve_app.routing.receipt import Receipt
from serve_app.routing.route import Attempt
from tests.contracts.registry_operators import entry, on, registering


@pytest.fixture
async def receipts(registry_url: str) -> AsyncIterator[DatabaseReceipts]:
    receipts = DatabaseReceipts(registry_url, keep=1_000)
    yield receipts
    await receipts.close()


def receipt(request_id: str = "r1", **fields: Any) -> Receipt:
    told = {"at": 5.5, "tenant": "ann", "key_id": "k", "asked": "chat", "operation": "chat", "outcome": "answered"}
    return Receipt(id=request_id, **{**told, **fields})


async def rows(receipts: DatabaseReceipts) -> object:
    return await on(receipts.url, lambda connection: connection.scalar(text("select count(*) from receipts")))


async def test_a_receipt_is_found_as_it_was_written_by_another_replica(receipts: DatabaseReceipts) -> None:
    chosen = entry(capabilities=frozenset({"tools"}), status="enabled", weight=90)
    written = receipt(
        model="chat",
        version="1",
        reason="rule: long",
        facts={"shares": {"1": 0.9, "2": 0.1}, "left_out": ["chat@3"], "threshold": None},
        attempts=(
            Attempt(entry=entry(version="2"), outcome="engine_failed", ms=3.25, failed=True),
            Attempt(entry=chosen, outcome="answered", ms=7.5),
        ),
        redacted={"PERSON": 2},
        passages=("file-1/3", "file-2/0"),
        timings_ms={"first_token": 12.5},
        prompt_tokens=7,
        cost=0.25,
    )
    await receipts.write([written, receipt("r2")])
    other = DatabaseReceipts(receipts.url, keep=1_000)
    assert await other.find("r1") == written
    assert await other.find("r3") is None


async def test_no_batch_is_no_work(receipts: DatabaseReceipts) -> None:
    await receipts.write([])
    assert await receipts.find("r1") is None


async def test_a_batch_that_is_written_again_changes_nothing(receipts: DatabaseReceipts) -> None:
    """Its writer may not have heard that the first time was enough."""
    batch = [receipt("r1"), receipt("r2")]
    await receipts.write(batch)
    await receipts.write([*batch, receipt("r3")])
    assert await rows(receipts) == 3


async def test_nobody_overwrites_a_receipt_by_asking_with_its_id(receipts: DatabaseReceipts) -> None:
    """Callers choose ids: those of two tenants may be the same, and one may use his own twice."""
    await receipts.write([receipt(outcome="first"), receipt(at=6.5, outcome="second")])
    await receipts.write([receipt(tenant="bob", outcome="bob's")])
    assert await rows(receipts) == 3
    newest, anns, nobodys = [await receipts.find("r1", tenant=tenant) for tenant in (None, "ann", "eve")]
    assert (newest and newest.outcome, anns and anns.outcome, nobodys) == ("bob's", "second", None)


async def test_the_newest_are_kept(registry_url: str) -> None:
    receipts = DatabaseReceipts(registry_url, keep=100)
    for first in range(0, 200, 10):
        await receipts.write([receipt(f"r{number}", at=float(number)) for number in range(first, first + 10)])
    assert await rows(receipts) in range(100, 106)
    assert await receipts.find("r99") is None
    assert await receipts.find("r100") is not None


async def test_receipts_are_no_changes_of_the_registry(receipts: DatabaseReceipts) -> None:
    """Written beside some, they come through as those do, and the revision is the changes' alone."""
    store = DatabaseRegistryStore(receipts.url)
    await asyncio.gather(
        *(store.change(registering(entry(f"m{number}"))) for number in range(5)),
        *(receipts.write([receipt(f"r{number}")]) for number in range(5)),
    )
    assert ((await store.snapshot()).revision, await rows(receipts)) == (5, 5)


async def test_receipts_of_a_database_that_is_away_are_not_written() -> None:
    receipts = DatabaseReceipts("postgresql://ann:secret@127.0.0.1:1/registry", keep=10)
    for call in (receipts.write([receipt()]), receipts.find("r1")):
        with pytest.raises(RegistryUnavailable, match="connection refused"):
            await call
