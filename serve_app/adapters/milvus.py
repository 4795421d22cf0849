"""Passages in Milvus: one adapter for Milvus Lite (a path in this process) and for a server (a URI).

Facts of Milvus Lite 3.2 that shaped this file: the COSINE metric normalises the whole collection at every search
(8.4 ms against 5.0 at 5,000 chunks), so normalised vectors are compared by IP; a filter on a JSON field is evaluated
row by row (132 ms against 11), so attributes live in the dynamic field; the posting list of a common word costs
more than all others, so stop words are left out; each unflushed row costs every search 0.07 ms, and a flush 30 ms.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient

from serve_app import filters
from serve_app.adapters.milvus_connection import tell_ignored
from serve_app.adapters.milvus_expression import encodable, expression, visible
from serve_app.adapters.milvus_rows import OUTPUT, key, passage, row
from serve_app.adapters.milvus_session import Session
from serve_app.errors import RetrieverUnavailable
from serve_app.milvus_settings import MilvusSettings
from serve_app.ports import Chunk, Query
from serve_app.relevance import Candidate, rank
from serve_app.turn import Embedding, Passage
from serve_app.wording import words

BATCH = 256
"""Rows in one call: of the longest texts it is half of what a server takes in a message (64 MiB)."""
LEAST = 32
"""Candidates of each search at least, else as many as are wanted. On half of PubMedQA 20, 32, 66 and 100 of them gave
an nDCG@10 of 0.9798, 0.9813, 0.9813 and 0.9826; reranked, 50 were as good as 100."""
UNFLUSHED = 64
"""Rows that Milvus Lite may hold unflushed; each costs every search some 0.07 ms."""
FLUSH_AFTER_S = 0.5
"""When the last of them are flushed, once nothing more is written. A process that dies before loses none of them: they
stand in Milvus Lite's log; a machine that dies may."""

Hits = Sequence[Mapping[str, Any]]

logger = logging.getLogger(__name__)


class MilvusIndex:
    """An Index in one collection: dense vectors beside a BM25 function on title, headings and text.

    It opens itself at the first call and again after an outage, so a service can start before its Milvus does.
    """

    def __init__(self, settings: MilvusSettings, token: str | None = None) -> None:
        self._settings = settings
        self._session = Session(settings, token or "")
        self._one_writer = asyncio.Lock()
        self._unflushed = 0
        self._flushing: asyncio.Task[None] | None = None
        tell_ignored(settings)

    async def open(self) -> None:
        """Connects and creates the collection where it is missing.

        Raises RetrieverUnavailable when Milvus cannot be reached, ValueError when the collection holds vectors of
        another encoder or was laid out by another version.
        """
        async with self._session.reaching("open", self._settings.write_deadline_s) as client:
            await client.get_server_version()

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        await self._session.close()

    async def upsert(self, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        if embeddings.shape != (len(chunks), self._settings.dimension):
            raise ValueError(
                f"embeddings: shape {embeddings.shape} for {len(chunks)} chunks; "
                f"the index takes ({len(chunks)}, {self._settings.dimension})"
            )
        # A batch with one key twice is refused or stored twice, depending on the server: the last one wins here.
        rows = {key(chunk): row(chunk, vector) for chunk, vector in zip(chunks, embeddings, strict=True)}
        async with self._writing("upsert") as client:
            for batch in _batches(list(rows.values())):
                await self._write(client, batch)
            await self._settle(client, len(rows))

    async def search(self, query: Query) -> tuple[Passage, ...]:
        where = visible(query, filters.parse(query.filters))
        async with self._session.reaching("search", self._settings.search_deadline_s) as client:
            limit = max(LEAST, query.top_k)
            text, embedding = _asked(query)
            hits: tuple[Hits, Hits]
            if reader := self._session.reader:
                hits = await asyncio.to_thread(reader.search, text, embedding, where, limit)
            else:
                hits = await self._hits(client, text, embedding, where, limit)
        return rank(query, _candidates(*hits))

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        await self._remove("delete", expression(tenant, (store,), file_id=file_id))

    async def purge(self, tenant: str, subject: str) -> int:
        return await self._remove("purge", expression(tenant, subject=subject))

    async def ping(self) -> None:
        async with self._session.reaching("ping", self._settings.connect_deadline_s) as client:
            await client.get_server_version()

    async def _remove(self, task: str, where: str) -> int:
        async with self._writing(task) as client:
            gone = await client.delete(self._session.collection, filter=where, retry_times=0)
            count = len(gone) if isinstance(gone, list) else int(gone["delete_count"])  # Lite tells the keys
            await self._settle(client, count)
        return count

    @asynccontextmanager
    async def _writing(self, task: str) -> AsyncIterator[AsyncMilvusClient]:
        """One write at a time: Milvus Lite numbers its rows without a lock."""
        async with self._session.reaching(task, self._settings.write_deadline_s) as client, self._one_writer:
            yield client

    async def _hits(
        self, client: AsyncMilvusClient, text: str, embedding: Embedding | None, where: str, limit: int
    ) -> tuple[Hits, Hits]:
        """The nearest by meaning and the best by words; where one is not asked for, or the text is empty, none."""

        async def of(column: str, wanted: Any, metric: str, **more: Any) -> Hits:
            found = await client.search(
                self._session.collection,
                data=[wanted],
                anns_field=column,
                search_params={"metric_type": metric, **more},
                filter=where,
                limit=limit,
                output_fields=OUTPUT,
                consistency_level=self._settings.consistency_level,
                retry_times=0,
            )
            hits: Hits = found[0]
            return hits

        params = dict(self._settings.search_params)
        return await _both(
            of("dense", embedding, "IP", params=params) if embedding is not None else _none(),
            of("sparse", text, "BM25") if text else _none(),
        )

    async def _write(self, client: AsyncMilvusClient, rows: list[dict[str, Any]]) -> None:
        name = self._session.collection
        if self._session.is_lite:
            # Its upsert would keep the attributes that a chunk had before and has no more.
            keys = [row["pk"] for row in rows]
            known = await client.query(name, ids=keys, output_fields=["pk"], retry_times=0)
            if known:
                await client.delete(name, ids=[row["pk"] for row in known], retry_times=0)
        await client.upsert(name, rows, retry_times=0)

    async def _settle(self, client: AsyncMilvusClient, rows: int) -> None:
        """Makes what was written searchable for everybody, and soon at full speed."""
        if not self._session.is_lite:
            # A server limits flushes to one in ten seconds and searches growing segments well; but a search sees a
            # write for certain only once the query nodes have reached it, which a strongly consistent query waits for.
            await client.query(
                self._session.collection,
                filter='pk == ""',
                output_fields=["pk"],
                consistency_level="Strong",
                retry_times=0,
            )
            return
        if self._flushing is not None:
            self._flushing.cancel()
        self._unflushed += rows
        if self._unflushed >= UNFLUSHED:
            await self._flush(client)
        elif self._unflushed:
            self._flushing = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(FLUSH_AFTER_S)
        try:
            async with self._writing("flush") as client:
                await self._flush(client)
        except RetrieverUnavailable as exc:
            logger.warning("%s; the next write flushes", exc)

    async def _flush(self, client: AsyncMilvusClient) -> None:
        await client.flush(self._session.collection, retry_times=0)
        self._unflushed = 0


def _batches(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def _asked(query: Query) -> tuple[str, Embedding | None]:
    """What is searched for by words, and what by meaning: nothing in an empty text, nor in none."""
    if query.ranking.meaning == 1 and query.embedding is not None:
        return "", query.embedding
    text = encodable(query.text) if words(query.text) else ""
    return text, None if query.ranking.meaning == 0 else query.embedding


async def _none() -> Hits:
    return ()


async def _both(near: Awaitable[Hits], worded: Awaitable[Hits]) -> tuple[Hits, Hits]:
    """Both results, or the first failure with the other search stopped."""
    tasks = [asyncio.ensure_future(near), asyncio.ensure_future(worded)]
    try:
        first, second = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return first, second


def _candidates(near: Hits, worded: Hits) -> list[Candidate]:
    """One candidate for each chunk, with both its scores where both searches found it."""
    cosines = {hit["pk"]: float(hit["distance"]) for hit in near}
    # A server gives BM25 as a score, Milvus Lite 3.2 over gRPC as its negative (smaller is better).
    bm25s = {hit["pk"]: abs(float(hit["distance"])) for hit in worded}
    entities = {hit["pk"]: hit["entity"] for hit in (*near, *worded)}
    return [
        Candidate(passage(entity), cosine=cosines.get(pk), bm25=bm25s.get(pk, 0.0)) for pk, entity in entities.items()
    ]
