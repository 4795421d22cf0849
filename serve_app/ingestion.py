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
from serve_app.documents.records import AttachedFile, Settled
from serve_app.errors import InvalidRequest, ScreenerUnavailable, Unavailable
from serve_app.playbook import filed
from serve_app.ports import Chunk
from serve_app.redaction import Redaction, Treatment, treatment
from serve_app.shelf import Abandoned, Shelf
from serve_app.sight import FIELDS, Terms

Encode = Callable[[tuple[str, ...]], Awaitable[NDArray[np.float32]]]
"""Texts -> rows of shape (len(texts), dimension), L2-normalised."""

Inspect = Callable[[tuple[str, ...]], Awaitable[tuple[float, ...]]]
"""Texts -> how likely an instruction stands in each that is not its own."""

ENCODED_AT_ONCE = 4
"""Texts of one call to the encoder. A search that begins meanwhile shares the cores with one such call at most: 45 ms
on 2 cores, where 16 take 180. A larger batch gains nothing on a CPU."""
PAUSE_S = 0.1
"""Longest wait for searches under way before each such call: where searches never cease, ingestion goes on at a third
of its speed."""
INDEXED_AT_ONCE = 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """Takes one attached file from its bytes to searchable chunks, and says in the catalog how that ended."""

    catalog: Catalog
    shelf: Shelf
    encode: Encode
    inspect: Inspect | None
    """None leaves it to the first search that finds the chunk."""
    redaction: Redaction | None = None
    """None: stores that want their documents without personal data take none."""
    parser: Parser
    folder: Folder
    retries_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    """Pauses before trying again when the index or the encoder was not there."""

    async def ingest(self, work: AttachedFile) -> None:
        try:
            await self._ingest(work)
        except Abandoned:
            logger.info("ingestion of %s was abandoned", work.file_id)
        finally:
            await self.shelf.end(work)

    async def _ingest(self, work: AttachedFile) -> None:
        self.shelf.check(work)
        try:
            await self._patiently(work, await self._parsed(work))
        except Refusal as refused:
            await self._fail(work, refused.code, str(refused))
        except InvalidRequest as exc:  # terms that cannot be read, in a row of the document itself
            await self._fail(work, "invalid_file", str(exc))
        except Unavailable as exc:
            await self._fail(work, "server_error", f"{exc}; attach the file again when the service is whole")
        except Abandoned:
            raise
        except Exception as exc:  # a file that shows a fault of ours must not stop the files behind it
            logger.exception("ingestion of %s failed", work.file_id)
            await self._fail(work, "server_error", f"a fault of the service ({type(exc).__name__})")

    async def _parsed(self, work: AttachedFile) -> Parsed:
        most_tokens = work.chunk_sizes.most_tokens if work.chunk_sizes else None
        return await self.parser.parse(work.name, self.folder.path(work.file_id), most_tokens)

    async def _patiently(self, work: AttachedFile, parsed: Parsed) -> None:
        for pause_s in self.retries_s:
            try:
                await self._index(work, parsed)
                return
            except Unavailable:
                logger.warning("ingestion of %s waits %s s for a part of the service", work.file_id, pause_s)
                await asyncio.sleep(pause_s)
        await self._index(work, parsed)

    async def excerpts(self, work: AttachedFile) -> Sequence[Excerpt]:
        """What is indexed of the file, in its order, read anew. Raises Refusal and Unavailable."""
        return [one for one in await self._filed(work, (await self._parsed(work)).excerpts) if one is not None]

    async def _index(self, work: AttachedFile, parsed: Parsed) -> None:
        wanted = [(at, one) for at, one in enumerate(await self._filed(work, parsed.excerpts)) if one is not None]
        await self.shelf.begin(work)
        for start in range(0, len(wanted), INDEXED_AT_ONCE):
            batch = wanted[start : start + INDEXED_AT_ONCE]
            excerpts = [one for _, one in batch]
            embeddings = await self._embeddings(excerpts)
            suspicions = await self._suspicions(excerpts)
            chunks = [_chunk(work, at, one, judged) for (at, one), judged in zip(batch, suspicions, strict=True)]
            await self.shelf.add(work, chunks, embeddings)
        left_out = len(parsed.excerpts) - len(wanted)
        dropped = [f"{left_out} excerpts with personal data were left out"] if left_out else []
        partly = "; ".join([*parsed.skipped, *dropped])
        code: RefusalCode | None = "invalid_file" if partly else None
        ended = Settled(
            chunk_count=len(wanted),
            error_code=code,
            error_message=partly,
            own_terms=any(set(FIELDS) & set(one.attributes) for _, one in wanted),
        )
        await self.shelf.complete(work, ended)

    async def _filed(self, work: AttachedFile, excerpts: Sequence[Excerpt]) -> Sequence[Excerpt | None]:
        """As the store takes them: redacted, named where it holds a playbook, and nothing about a subject purged."""
        metadata = await self.catalog.stores.metadata(work.tenant, work.store_id)
        treated = await self._redacted(work, excerpts, treatment(metadata))
        kept = [None if one is None or self._is_purged(work, one) else one for one in treated]
        return [one and filed(one, metadata, work.attributes) for one in kept]

    def _is_purged(self, work: AttachedFile, excerpt: Excerpt) -> bool:
        return self.shelf.has_purged(work, str(attributes_of(work, excerpt).get("consent_subject", "")))

    async def _redacted(
        self, work: AttachedFile, excerpts: Sequence[Excerpt], how: Treatment
    ) -> Sequence[Excerpt | None]:
        """Raises Unavailable, and with it nothing is indexed: what could not be screened must not be found."""
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
            await self.shelf.quiet(PAUSE_S)
            rows.update(zip(batch, await self.encode(tuple(texts[at] for at in batch)), strict=True))
        return np.stack([rows[at] for at in range(len(texts))])

    async def _suspicions(self, excerpts: Sequence[Excerpt]) -> Sequence[float | None]:
        """Judged here, once: while a question waits there is no time to read six passages sentence by sentence."""
        if self.inspect is None:
            return [None] * len(excerpts)
        found: list[float | None] = []
        for start in range(0, len(excerpts), ENCODED_AT_ONCE):
            await self.shelf.quiet(PAUSE_S)
            found += await self.inspect(tuple(one.text for one in excerpts[start : start + ENCODED_AT_ONCE]))
        return found

    async def _fail(self, work: AttachedFile, code: RefusalCode, message: str) -> None:
        await self.catalog.places.fail(work, Settled(error_code=code, error_message=message))


def chunk_id(store_id: str, file_id: str, ordinal: int) -> str:
    """The same for the same place in the same file, so that indexing it again replaces it."""
    return hashlib.sha256(f"{store_id}\n{file_id}\n{ordinal}".encode()).hexdigest()[:32]


def attributes_of(work: AttachedFile, excerpt: Excerpt) -> dict[str, str | float | bool]:
    """What the file says of this part of it, and what was said when it was attached, which counts more."""
    return {**excerpt.attributes, **work.attributes}


def _chunk(work: AttachedFile, ordinal: int, excerpt: Excerpt, suspicion: float | None) -> Chunk:
    attributes = attributes_of(work, excerpt)
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
