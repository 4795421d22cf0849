"""Receipts on their way to a database that is slow, away, or back again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from serve_app.errors import InvalidRequest, RegistryUnavailable
from serve_app.routing import receipt_log
from serve_app.routing.receipt import Receipt
from serve_app.routing.receipt_log import MemoryReceipts, ReceiptLog


def receipt(number: int = 1, tenant: str = "acme") -> Receipt:
    asked = {"asked": "auto", "operation": "chat", "outcome": "answered"}
    return Receipt(id=f"r{number}", at=float(number), tenant=tenant, key_id="k1", **asked)


@dataclass
class Database:
    """Keeps what is written; away while `fail`."""

    fail: bool = False
    batches: list[list[Receipt]] = field(default_factory=list)
    tries: int = 0

    async def write(self, receipts: Sequence[Receipt]) -> None:
        self.tries += 1
        if self.fail:
            raise RegistryUnavailable("away")
        self.batches.append(list(receipts))

    async def find(self, request_id: str, *, tenant: str | None = None) -> Receipt | None:
        if self.fail:
            raise RegistryUnavailable("away")
        written = [one for batch in self.batches for one in batch]
        return next((one for one in written if one.id == request_id and tenant in (None, one.tenant)), None)

    @property
    def ids(self) -> list[str]:
        return [one.id for batch in self.batches for one in batch]


async def until(is_so: Callable[[], bool]) -> None:
    """Within so many turns of the event loop."""
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


async def test_receipts_are_written_behind_the_requests_back() -> None:
    database = Database()
    log = ReceiptLog(database, pause=no_pause)
    running = asyncio.create_task(log.run())
    for number in range(1_200):
        log.keep(receipt(number))
    await until(lambda: len(database.ids) == 1_200)
    running.cancel()
    assert [len(batch) for batch in database.batches] == [500, 500, 200]
    assert database.ids == [f"r{number}" for number in range(1_200)]


async def test_nothing_is_lost_while_the_database_is_away() -> None:
    database = Database(fail=True)
    log = ReceiptLog(database, pause=no_pause)
    running = asyncio.create_task(log.run())
    for number in range(700):
        log.keep(receipt(number))
        await asyncio.sleep(0)
    await until(lambda: database.tries > 3)
    database.fail = False
    await until(lambda: len(database.ids) == 700)
    running.cancel()
    assert sorted(database.ids, key=lambda one: int(one[1:])) == [f"r{number}" for number in range(700)]
    assert log.lost == 0


async def test_an_outage_that_is_too_long_costs_the_oldest_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_log, "MOST_WAITING", 10)
    database = Database()
    log = ReceiptLog(database)
    for number in range(25):
        log.keep(receipt(number))
    await log.flush()
    assert log.lost == 15
    assert database.ids == [f"r{number}" for number in range(15, 25)]


async def test_the_waits_grow_while_the_database_is_away() -> None:
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0)

    log = ReceiptLog(Database(fail=True), pause=pause)
    running = asyncio.create_task(log.run())
    log.keep(receipt())
    await until(lambda: len(waited) >= 12)
    running.cancel()
    assert [one for one in waited if one != receipt_log.GATHERED_S][:6] == [1.0, 2.0, 5.0, 10.0, 10.0, 10.0]


async def test_what_waits_is_written_when_the_gateway_stops() -> None:
    database = Database()
    log = ReceiptLog(database, pause=asyncio.sleep)
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    log.keep(receipt())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert database.ids == ["r1"]


async def test_a_batch_that_was_cut_off_is_written_again() -> None:
    """The gateway is stopped in the middle of a write: whether the database took it nobody knows."""
    begun = asyncio.Event()

    class Slow(Database):
        async def write(self, receipts: Sequence[Receipt]) -> None:
            if not begun.is_set():
                begun.set()
                await asyncio.Event().wait()
            await super().write(receipts)

    database = Slow()
    log = ReceiptLog(database, pause=no_pause)
    running = asyncio.create_task(log.run())
    log.keep(receipt())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert database.ids == ["r1"]


async def test_a_batch_that_no_database_can_hold_keeps_no_later_one_from_it() -> None:
    class Choosy(Database):
        async def write(self, receipts: Sequence[Receipt]) -> None:
            if any(one.id == "r1" for one in receipts):
                raise InvalidRequest("a text that cannot be stored")
            await super().write(receipts)

    database = Choosy()
    log = ReceiptLog(database)
    log.keep(receipt(1))
    await log.flush()
    log.keep(receipt(2))
    await log.flush()
    assert (database.ids, log.lost) == (["r2"], 1)


async def test_a_receipt_of_this_replica_is_found_without_the_database() -> None:
    log = ReceiptLog(Database(fail=True))
    log.keep(receipt())
    assert await log.find("r1") == receipt()
    with pytest.raises(RegistryUnavailable):
        await log.find("r2")


async def test_a_receipt_of_another_replica_is_found_in_the_database() -> None:
    database = Database()
    other = ReceiptLog(database)
    other.keep(receipt(2))
    await other.flush()
    assert await ReceiptLog(database).find("r2", tenant="acme") == receipt(2)
    assert await ReceiptLog(database).find("r2", tenant="umbrella") is None


async def test_a_tenant_that_takes_anothers_id_hides_nothing() -> None:
    kept = MemoryReceipts()
    kept.keep(receipt(tenant="acme"))
    kept.keep(receipt(tenant="umbrella"))
    assert await kept.find("r1", tenant="acme") == receipt(tenant="acme")
    assert await kept.find("r1") == receipt(tenant="umbrella")


async def test_only_the_latest_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_log, "LATEST", 3)
    kept = MemoryReceipts()
    for number in (1, 2, 3, 1, 4):
        kept.keep(replace(receipt(number), cost=float(number)))
    assert [bool(await kept.find(f"r{number}")) for number in (1, 2, 3, 4)] == [True, False, True, True]
