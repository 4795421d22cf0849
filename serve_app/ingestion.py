import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.adapters.catalog import Catalog
from serve_app.documents.chunk import Excerpt
from serve_app.documents.document import Refusal, RefusalCode
from serve_app.documents.folder import Folder
from serve_app.documents.parser import Parsed, Parser
from serve_app.documents.records import AttachedFile
from serve_app.errors import InvalidRequest, NotFound, ScreenerUnavailable, Unavailable
from serve_app.ports import Chunk, Index
from serve_app.redaction import Redaction, treatment
from serve_app.sight import Terms

Encode = Callable[[tuple[str, ...]], Awaitable[NDArray[np.float32]]]
"""Texts -> rows of shape (len(texts), dimension), L2-normalised."""

Inspect = Callable[[tuple[str, ...]], Awaitable[tuple[float, ...]]]
"""Texts -> how likely an instruction stands in each that is not its own."""

ENCODED_AT_ONCE = 4
"""A question that comes during ingestion waits for one such batch at most: 45 ms on 2 cores, where 16 take 180.

On a CPU a larger batch gains nothing: 22 ms of one core for each text of 150 tokens, with 1, 4, 8 or 16 at once.
"""
INDEXED_AT_ONCE = 256

logger = logging.getLogger(__name__)


class Abandoned(Exception):
    """The file was taken out of its store while it was being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """Takes one attached file from its bytes to searchable chunks, and says in the catalog how that ended."""

    catalog: Catalog
    index: Index
    encode: Encode
    inspect: Inspect | None
    """None leaves it to the first search that finds the chunk."""
    redaction: Redaction | None = None
    """None: stores that want their documents without personal data take none."""
    parser: Parser
    folder: Folder
    retries_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    """Pauses before trying again when the index or the encoder was not there."""

    async def ingest(self, work: AttachedFile, *, again: bool = False) -> None:
        """`again`: chunks of this file may be in the store already."""
        if not await self._wanted(work):
            return
        try:
            parsed = await self.parser.parse(work.name, self.folder.path(work.file_id))
            await self._patiently(work, parsed, again)
        except Abandoned:
            await self._forget(work)
        except Refusal as refused:
            await self._fail(work, refused.code, str(refused))
        except InvalidRequest as exc:  # terms that cannot be read, in a row of the document itself
            await self._fail(work, "invalid_file", str(exc))
        except Unavailable as exc:
            await self._fail(work, "server_error", f"{exc}; attach the file again when the service is whole")
        except Exception as exc:  # a file that shows a fault of ours must not stop the files behind it
            logger.exception("ingestion of %s failed", work.file_id)
            await self._fail(work, "server_error", f"a fault of the service ({type(exc).__name__})")

    async def _patiently(self, work: AttachedFile, parsed: Parsed, again: bool) -> None:
        for pause_s in self.retries_s:
            try:
                await self._index(work, parsed, again)
                return
            except Unavailable:
                logger.warning("ingestion of %s waits %s s for a part of the service", work.file_id, pause_s)
                await asyncio.sleep(pause_s)
        await self._index(work, parsed, again)

    async def _index(self, work: AttachedFile, parsed: Parsed, again: bool) -> None:
        if again:
            await self.index.delete(work.tenant, work.store_id, work.file_id)
        wanted = [(at, one) for at, one in enumerate(await self._redacted(work, parsed.excerpts)) if one is not None]
        for start in range(0, len(wanted), INDEXED_AT_ONCE):
            batch = wanted[start : start + INDEXED_AT_ONCE]
            excerpts = [one for _, one in batch]
            embeddings = await self._embeddings(excerpts)
            suspicions = await self._suspicions(excerpts)
            await self._continue(work)
            chunks = [_chunk(work, at, one, judged) for (at, one), judged in zip(batch, suspicions, strict=True)]
            await self.index.upsert(chunks, embeddings)
        await self._continue(work)
        for older in await self.catalog.superseded(work):
            await remove(self.catalog, self.index, older)
        left_out = len(parsed.excerpts) - len(wanted)
        dropped = [f"{left_out} excerpts with personal data were left out"] if left_out else []
        partly = "; ".join([*parsed.skipped, *dropped])
        if not await self.catalog.settle(
            work,
            "completed",
            chunk_count=len(wanted),
            error_code="invalid_file" if partly else None,
            error_message=partly,
        ):
            raise Abandoned

    async def _redacted(self, work: AttachedFile, excerpts: Sequence[Excerpt]) -> Sequence[Excerpt | None]:
        """Raises Unavailable, and with it nothing is indexed: what could not be screened must not be found."""
        how = treatment((await self.catalog.get_store(work.tenant, work.store_id)).metadata)
        if how == "off":
            return excerpts
        if self.redaction is None:
            raise ScreenerUnavailable("there is no screener that could redact the document")
        return await self.redaction.of(work.tenant, excerpts, how)

    async def _embeddings(self, excerpts: Sequence[Excerpt]) -> NDArray[np.float32]:
        """Texts of a length are encoded together: a batch costs as much as its longest text in each row."""
        texts = [one.encoded for one in excerpts]
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        rows: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), ENCODED_AT_ONCE):
            batch = order[start : start + ENCODED_AT_ONCE]
            rows.update(zip(batch, await self.encode(tuple(texts[at] for at in batch)), strict=True))
        return np.stack([rows[at] for at in range(len(texts))])

    async def _suspicions(self, excerpts: Sequence[Excerpt]) -> Sequence[float | None]:
        """Judged here, once: while a question waits there is no time to read six passages sentence by sentence."""
        if self.inspect is None:
            return [None] * len(excerpts)
        found: list[float | None] = []
        for start in range(0, len(excerpts), ENCODED_AT_ONCE):
            found += await self.inspect(tuple(one.text for one in excerpts[start : start + ENCODED_AT_ONCE]))
        return found

    async def _wanted(self, work: AttachedFile) -> bool:
        try:
            now = await self.catalog.get_attached(work.tenant, work.store_id, work.file_id)
        except NotFound:
            return False
        return now.status == "in_progress"

    async def _continue(self, work: AttachedFile) -> None:
        if not await self._wanted(work):
            raise Abandoned

    async def _fail(self, work: AttachedFile, code: RefusalCode, message: str) -> None:
        await self.catalog.settle(work, "failed", chunk_count=0, error_code=code, error_message=message)
        await self._forget(work)

    async def _forget(self, work: AttachedFile) -> None:
        try:
            await self.index.delete(work.tenant, work.store_id, work.file_id)
        except Unavailable as exc:
            logger.warning("chunks of %s may remain in %s: %s", work.file_id, work.store_id, exc)


async def remove(catalog: Catalog, index: Index, attached: AttachedFile) -> None:
    """Take a file out of its store: work on it ends, its chunks go, then its row.

    In this order a crash leaves a row to try again, never chunks that nothing knows of.
    """
    await catalog.cancel(attached.tenant, attached.store_id, attached.file_id)
    await index.delete(attached.tenant, attached.store_id, attached.file_id)
    await catalog.detach(attached.tenant, attached.store_id, attached.file_id)


def chunk_id(store_id: str, file_id: str, ordinal: int) -> str:
    """The same for the same place in the same file, so that indexing it again replaces it."""
    return hashlib.sha256(f"{store_id}\n{file_id}\n{ordinal}".encode()).hexdigest()[:32]


def _chunk(work: AttachedFile, ordinal: int, excerpt: Excerpt, suspicion: float | None) -> Chunk:
    attributes = {**excerpt.attributes, **work.attributes}
    return Chunk(
        id=chunk_id(work.store_id, work.file_id, ordinal),
        tenant=work.tenant,
        store=work.store_id,
        file_id=work.file_id,
        ordinal=ordinal,
        text=excerpt.text,
        source=excerpt.source,
        title=excerpt.title,
        heading=excerpt.heading,
        page=excerpt.page,
        attributes=attributes,
        suspicion=suspicion,
        terms=Terms.of(attributes),
    )


class Backlog:
    """Files waiting to be ingested, one at a time, in the order they were attached."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion
        self._waiting: asyncio.Queue[tuple[AttachedFile, bool]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier process left unfinished, then whatever is added."""
        for work in await self._ingestion.catalog.unfinished():
            self.add(work, again=True)
        self._worker = asyncio.create_task(self._work())

    def add(self, work: AttachedFile, *, again: bool) -> None:
        self._waiting.put_nowait((work, again))

    async def drained(self) -> None:
        """Returns when nothing is waiting or being ingested."""
        await self._waiting.join()

    async def close(self) -> None:
        """Stop; what is unfinished stays `in_progress` in the catalog."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            work, again = await self._waiting.get()
            try:
                await self._ingestion.ingest(work, again=again)
            except Unavailable as exc:
                logger.warning("the end of ingesting %s could not be noted: %s", work.file_id, exc)
            finally:
                self._waiting.task_done()
