"""Passages in Milvus: one adapter for Milvus Lite (a path in this process) and for a server (a URI).

Facts of Milvus Lite 3.2 that shaped this file: the COSINE metric normalises the whole collection at every search
(8.4 ms against 5.0 at 5,000 chunks), so normalised vectors are compared by IP; a filter on a JSON field is evaluated
row by row (132 ms against 11), so attributes live in the dynamic field; the posting list of a common word costs
more than all others, so stop words are left out; unflushed rows are slow, so every write ends with a flush.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from milvus_lite.server_manager import server_manager_instance as lite_servers
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient, MilvusClient, MilvusException
from pymilvus.exceptions import ConnectionConfigException

from serve_app import filters
from serve_app.adapters.milvus_expression import encodable, expression, visible
from serve_app.adapters.milvus_rows import OUTPUT, key, passage, row, schema
from serve_app.errors import RetrieverUnavailable
from serve_app.ports import Chunk, Query
from serve_app.relevance import Candidate, rank, words
from serve_app.settings import MilvusSettings, asset
from serve_app.turn import Passage

BATCH = 500
CONNECT_S = 5.0
CREATE_S = 30.0
SEARCH_S = 10.0
WRITE_S = 120.0


class MilvusIndex:
    """An Index in one collection: dense vectors beside a BM25 function on title, headings and text.

    It opens itself at the first call and again after an outage, so a service can start before its Milvus does.
    """

    def __init__(self, settings: MilvusSettings, dimension: int, token: str | None = None) -> None:
        self._settings = settings
        self._dimension = dimension
        self._token = token or ""
        self._client: AsyncMilvusClient | None = None
        self._opening = asyncio.Lock()
        self._is_lite = settings.uri.endswith(".db")

    async def open(self) -> None:
        """Connects and creates the collection where it is missing.

        Raises RetrieverUnavailable when Milvus cannot be reached, ValueError when the collection holds vectors of
        another dimension or was laid out by another version.
        """
        async with self._reaching("open", SEARCH_S) as client:
            await client.get_server_version()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        if self._is_lite:
            await asyncio.to_thread(lite_servers.release_server, str(asset(self._settings.uri)))

    async def upsert(self, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        if embeddings.shape != (len(chunks), self._dimension):
            raise ValueError(
                f"embeddings: shape {embeddings.shape} for {len(chunks)} chunks; "
                f"the index takes ({len(chunks)}, {self._dimension})"
            )
        # A batch with one key twice is refused or stored twice, depending on the server: the last one wins here.
        rows = {key(chunk): row(chunk, vector) for chunk, vector in zip(chunks, embeddings, strict=True)}
        async with self._reaching("upsert", WRITE_S) as client:
            for batch in _batches(list(rows.values())):
                await client.upsert(self._collection, batch, retry_times=0)
            await self._settle(client)

    async def search(self, query: Query) -> tuple[Passage, ...]:
        where = visible(query, filters.parse(query.filters))
        async with self._reaching("search", SEARCH_S) as client:
            limit = max(16, 2 * query.top_k)
            searches: list[Awaitable[_Hits]] = []
            if query.embedding is not None:
                searches.append(self._near(client, query.embedding, where, limit))
            if words(query.text):
                searches.append(self._worded(client, query.text, where, limit))
            found = [hit for hits in await _together(searches) for hit in hits]
        return rank(query, _candidates(found))

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        where = expression(tenant, (store,), file_id=file_id)
        async with self._reaching("delete", WRITE_S) as client:
            await client.delete(self._collection, filter=where, retry_times=0)
            await self._settle(client)

    async def purge(self, tenant: str, subject: str) -> int:
        async with self._reaching("purge", WRITE_S) as client:
            gone = await client.delete(self._collection, filter=expression(tenant, subject=subject), retry_times=0)
            await self._settle(client)
        return len(gone) if isinstance(gone, list) else int(gone["delete_count"])  # Lite tells the keys

    async def ping(self) -> None:
        async with self._reaching("ping", CONNECT_S) as client:
            await client.get_server_version()

    @property
    def _collection(self) -> str:
        return self._settings.collection

    @asynccontextmanager
    async def _reaching(self, task: str, seconds: float) -> AsyncIterator[AsyncMilvusClient]:
        """The client, for one task. What the vendor raises ends here, and nothing waits longer than `seconds`."""
        address = self._settings.uri
        client = None
        try:
            async with asyncio.timeout(seconds):
                client = await self._connected()
                yield client
        except TimeoutError as exc:
            raise RetrieverUnavailable(f"{task}: Milvus at {address} took more than {seconds:g} s") from exc
        except (MilvusException, grpc.RpcError, OSError) as exc:
            await self._forget(client)
            raise RetrieverUnavailable(f"{task}: Milvus at {address} answers: {_reason(exc)}") from exc
        except asyncio.CancelledError as exc:
            # gRPC cancels what is under way on a channel that another task's failure closed: nobody cancelled us.
            if (current := asyncio.current_task()) is None or current.cancelling():
                raise
            raise RetrieverUnavailable(f"{task}: the connection to Milvus at {address} was closed") from exc

    async def _forget(self, client: AsyncMilvusClient | None) -> None:
        """Makes the next call start afresh.

        A channel that failed pauses before it tries again, and a server that comes back may have to load or create
        the collection.
        """
        if client is self._client:
            self._client = None
            if client is not None:
                await client.close()

    async def _connected(self) -> AsyncMilvusClient:
        if self._client is None:
            async with self._opening:
                self._client = self._client or await self._connect()
        return self._client

    async def _connect(self) -> AsyncMilvusClient:
        client = await asyncio.to_thread(_connection, self._settings, self._token)
        try:
            if not await client.has_collection(self._collection, retry_times=0):
                await asyncio.to_thread(self._create)
            self._check(await client.describe_collection(self._collection, retry_times=0))
            await client.load_collection(self._collection, retry_times=0)
        except BaseException:
            await client.close()
            raise
        return client

    def _create(self) -> None:
        """Blocking: the asynchronous client waits for an index by a call that Milvus Lite does not know."""
        client = MilvusClient(timeout=CONNECT_S, dedicated=True, **_address(self._settings, self._token))
        indexes = MilvusClient.prepare_index_params()
        indexes.add_index("dense", index_type="FLAT" if self._is_lite else "AUTOINDEX", metric_type="IP")
        indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        try:
            client.create_collection(self._collection, schema=schema(self._dimension), timeout=CREATE_S)
            # Loading waits for the indexes; waiting here as well costs half a second for each.
            client.create_index(self._collection, indexes, timeout=CREATE_S, sync=False)
        finally:
            client.close()

    def _check(self, described: Mapping[str, Any]) -> None:
        """Raises ValueError for a collection this adapter cannot use."""
        name = f"collection {self._collection!r} at {self._settings.uri}"
        way_out = "ingest into another collection (`retriever.milvus.collection`), or drop this one and ingest again"
        present = {field["name"] for field in described["fields"]}
        if different := sorted(present ^ {field.name for field in schema(self._dimension).fields}):
            raise ValueError(f"{name} is another version's: its fields differ in {', '.join(different)}; {way_out}")
        dimension = next(field["params"]["dim"] for field in described["fields"] if field["name"] == "dense")
        if int(dimension) != self._dimension:
            raise ValueError(
                f"{name} holds vectors of {dimension} numbers, the encoder makes {self._dimension}; {way_out}"
            )

    async def _near(self, client: AsyncMilvusClient, embedding: NDArray[np.float32], where: str, limit: int) -> "_Hits":
        hits = await client.search(
            self._collection,
            data=[embedding],
            anns_field="dense",
            search_params={"metric_type": "IP"},
            filter=where,
            limit=limit,
            output_fields=OUTPUT,
            retry_times=0,
        )
        return [(True, hit) for hit in hits[0]]

    async def _worded(self, client: AsyncMilvusClient, text: str, where: str, limit: int) -> "_Hits":
        hits = await client.search(
            self._collection,
            data=[encodable(text)],
            anns_field="sparse",
            search_params={"metric_type": "BM25"},
            filter=where,
            limit=limit,
            output_fields=OUTPUT,
            retry_times=0,
        )
        return [(False, hit) for hit in hits[0]]

    async def _settle(self, client: AsyncMilvusClient) -> None:
        """Makes what was written searchable for everybody, at full speed."""
        version = await client.get_server_version(retry_times=0)
        if "lite" in version:
            await client.flush(self._collection, retry_times=0)
            return
        # A server limits flushes to one in ten seconds and searches growing segments well; but a search sees a write
        # for certain only once the query nodes have reached it, which a strongly consistent query waits for.
        await client.query(
            self._collection, filter='pk == ""', output_fields=["pk"], consistency_level="Strong", retry_times=0
        )


_Hits = list[tuple[bool, Mapping[str, Any]]]
"""Whether found by meaning, and Milvus' hit."""


def _connection(settings: MilvusSettings, token: str) -> AsyncMilvusClient:
    """Blocking where it is Milvus Lite, which starts its server and reads the files.

    Dedicated: pymilvus shares connections by event loop id, and an id is used again when its loop is gone.
    """
    return AsyncMilvusClient(timeout=CONNECT_S, dedicated=True, **_address(settings, token))


def _address(settings: MilvusSettings, token: str) -> dict[str, Any]:
    # Channels to one address share their subchannels and with them the pause after a failure, which grows to two
    # minutes: with a pool of its own, a new channel reaches a server that is back.
    address: dict[str, Any] = {"grpc_options": {"grpc.use_local_subchannel_pool": 1}}
    if settings.uri.endswith(".db"):
        path = asset(settings.uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        return address | {"uri": str(path)}
    if settings.ca_pem_path:
        address["server_pem_path"] = str(asset(settings.ca_pem_path))
    if settings.server_name:
        address["server_name"] = settings.server_name
    if settings.database != "default":
        address["db_name"] = settings.database
    return address | {"uri": settings.uri, "token": token}


def _batches(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


async def _together(searches: Sequence[Awaitable[_Hits]]) -> list[_Hits]:
    """Both results, or the first failure with the other search stopped."""
    tasks = [asyncio.ensure_future(search) for search in searches]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _candidates(found: _Hits) -> list[Candidate]:
    """One candidate for each chunk, with both its scores where both searches found it."""
    cosines = {hit["pk"]: float(hit["distance"]) for near, hit in found if near}
    # A server gives BM25 as a score, Milvus Lite 3.2 as its negative (smaller is better).
    bm25s = {hit["pk"]: abs(float(hit["distance"])) for near, hit in found if not near}
    entities = {hit["pk"]: hit["entity"] for _, hit in found}
    return [
        Candidate(passage(entity), cosine=cosines.get(pk), bm25=bm25s.get(pk, 0.0)) for pk, entity in entities.items()
    ]


def _reason(exc: Exception) -> str:
    if isinstance(exc, ConnectionConfigException):
        return f"{exc.message}; one process at a time can use a Milvus Lite path: is another service running on it?"
    return str(exc.message if isinstance(exc, MilvusException) else exc)[:300]
