import asyncio
import logging
from collections.abc import Iterable

from serve_app.adapters.catalog import Catalog
from serve_app.documents.records import AttachedFile
from serve_app.errors import Unavailable
from serve_app.ingestion import Ingestion
from serve_app.shelf import Shelf

AT_ONCE = 2
"""While one file is encoded, the other is parsed or written. Both are held in memory, parsed."""

logger = logging.getLogger(__name__)


class Backlog:
    """Files waiting to be ingested, taken up in the order they were attached."""

    def __init__(self, ingestion: Ingestion, catalog: Catalog, shelf: Shelf) -> None:
        self._ingestion = ingestion
        self._catalog = catalog
        self._shelf = shelf
        self._waiting: asyncio.Queue[AttachedFile] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what an earlier process left unfinished, then whatever is added."""
        self.add(await self._catalog.places.unfinished())
        self._workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]

    def add(self, works: Iterable[AttachedFile]) -> None:
        for work in works:
            self._shelf.expect(work)
            self._waiting.put_nowait(work)

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
            work = await self._waiting.get()
            try:
                await self._ingestion.ingest(work)
            except Unavailable as exc:
                logger.warning("the end of ingesting %s could not be noted: %s", work.file_id, exc)
            except Exception:  # the files behind it still have to be ingested
                logger.exception("the end of ingesting %s could not be noted", work.file_id)
            finally:
                self._waiting.task_done()
