"""Receipts of the last requests in memory, and all of them on their way to a database."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.errors import RegistryUnavailable, Rejected
from serve_app.routing.receipt import Receipt

logger = logging.getLogger("manta")

LATEST = 10_000
MOST_WAITING = 20_000
"""Receipts that wait for a database, about 40 MiB: of a longer outage the newest so many are written."""
BATCH = 500
GATHERED_S = 0.5
"""One transaction, some 5 ms of a core, takes what came in so long; another replica knows a receipt so much later."""
AWAY_S = (1.0, 2.0, 5.0, 10.0)
"""Between attempts while the database is away; the last for as long as it takes."""
LAST_S = 2.0
"""For what still waits when the gateway stops."""


class ReceiptStore(Protocol):
    """All ingress replicas'. Raises RegistryUnavailable, within seconds."""

    async def write(self, receipts: Sequence[Receipt]) -> None:
        """All of them or none; writing one again changes nothing."""
        ...

    async def find(self, request_id: str, *, tenant: str | None = None) -> Receipt | None: ...


@dataclass
class MemoryReceipts:
    """Implements `Receipts` for one process: the latest are kept."""

    _kept: OrderedDict[tuple[str, str], Receipt] = field(default_factory=OrderedDict)
    """By id and tenant: callers may choose the id, and two tenants the same."""

    def keep(self, receipt: Receipt) -> None:
        self._kept[receipt.id, receipt.tenant] = receipt
        self._kept.move_to_end((receipt.id, receipt.tenant))
        while len(self._kept) > LATEST:
            self._kept.popitem(last=False)

    async def find(self, request_id: str, *, tenant: str | None = None) -> Receipt | None:
        if tenant is not None:
            return self._kept.get((request_id, tenant))
        return next((receipt for receipt in reversed(self._kept.values()) if receipt.id == request_id), None)


@dataclass
class ReceiptLog:
    """Implements `Receipts` for one of several ingress replicas; `run` writes behind the requests' back."""

    store: ReceiptStore
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    lost: int = 0
    """Receipts that no database will ever see."""
    _latest: MemoryReceipts = field(default_factory=MemoryReceipts)
    _waiting: deque[Receipt] = field(default_factory=deque)
    _batch: list[Receipt] = field(default_factory=list)
    """Under way; still here when that failed."""
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, receipt: Receipt) -> None:
        self._latest.keep(receipt)
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
            if self.lost == 1 or self.lost % BATCH == 0:
                logger.warning("receipts: %d were lost, the database has been away for too long", self.lost)
        self._waiting.append(receipt)
        self._came.set()

    async def find(self, request_id: str, *, tenant: str | None = None) -> Receipt | None:
        found = await self._latest.find(request_id, tenant=tenant)
        return found or await self.store.find(request_id, tenant=tenant)

    async def run(self) -> None:
        """Until it is cancelled, which still writes what waits if that is quickly done."""
        failures = 0
        try:
            while True:
                await self._came.wait()
                await self.pause(GATHERED_S)
                try:
                    await self.flush()
                    failures = 0
                except RegistryUnavailable as away:
                    if not failures:
                        logger.warning("receipts wait in memory: %s", away)
                    await self.pause(AWAY_S[min(failures, len(AWAY_S) - 1)])
                    failures += 1
        finally:
            with suppress(TimeoutError, RegistryUnavailable):
                async with asyncio.timeout(LAST_S):
                    await self.flush()

    async def flush(self) -> None:
        """Writes all that waits. Raises RegistryUnavailable; what was not written waits on."""
        while self._batch or self._waiting:
            while self._waiting and len(self._batch) < BATCH:
                self._batch.append(self._waiting.popleft())
            try:
                await self.store.write(self._batch)
            except Rejected as refused:
                self.lost += len(self._batch)
                logger.warning("receipts: %d cannot be kept: %s", len(self._batch), refused)
            self._batch = []
        self._came.clear()
