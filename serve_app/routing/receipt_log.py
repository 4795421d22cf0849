"""Receipts of the last requests, in memory."""

from collections import OrderedDict
from dataclasses import dataclass, field

from serve_app.routing.receipt import Receipt

LATEST = 10_000


@dataclass
class MemoryReceipts:
    """Implements `Receipts` for one process: the latest are kept."""

    _kept: OrderedDict[str, Receipt] = field(default_factory=OrderedDict)

    def keep(self, receipt: Receipt) -> None:
        self._kept[receipt.id] = receipt
        while len(self._kept) > LATEST:
            self._kept.popitem(last=False)

    async def find(self, request_id: str) -> Receipt | None:
        return self._kept.get(request_id)
