import asyncio
import logging
from collections.abc import Iterable
from itertools import count

from serve_app.adapters.catalog import Catalog
from serve_app.documents.records import AttachedFile
from serve_app.errors import Unavailable
from serve_app.ingestion import Ingestion
from serve_app.shelf import Shelf

AT_ONCE = 2
"""While one file is encoded, the other is parsed or written. Both are held in memory, parsed."""

logger = logging.getLogger(__name__)


class Backlog:
    """Files waiting to be ingested: a tenant's in the order they were attached, the tenants by turns.

    A file's round is the one after its tenant's last, or the one under way: who attaches one file while another has
    ten thousand waiting is next.
    """

    def __init__(self, ingestion: Ingestion, catalog: Catalog, shelf: Shelf) -> None:
        self._ingestion = ingestion
        self._catalog = catalog
        self._shelf = shelf
        self._waiting: asyncio.PriorityQueue[tuple[int, int, AttachedFile]] = asyncio.PriorityQueue()
        self._round = 0
        self._last_round: dict[str, int] = {}
        self._numbers = count()
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what an earlier process left unfinished, then whatever is added."""
        self.add(await self._catalog.places.unfinished())
        self._workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]

    def add(self, works: Iterable[AttachedFile]) -> None:
        for work in works:
            self._shelf.expect(work)
            turn = max(self._round, self._last_round.get(work.tenant, 0) + 1)
            self._last_round[work.tenant] = turn
            self._waiting.put_nowait((turn, next(self._numbers), work))

    async def drained(self) -> None:
        """Returns when nothing is waiting or being ingested."""
        await self._waiting.join()

    async def close(self) -> None:
        """Stop; what is unfinished stays `in_progress` in the catalog."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            self._round, _, work = await self._waiting.get()
            try:
                await self._ingestion.ingest(work)
            except Unavailable as exc:
                logger.warning("the end of ingesting %s could not be noted: %s", work.file_id, exc)
            except Exception:  # the files behind it still have to be ingested
                logger.exception("the end of ingesting %s could not be noted", work.file_id)
            finally:
                self._waiting.task_done()
