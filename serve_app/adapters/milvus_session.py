"""The connection to Milvus: made when it is first needed, in doubt when nobody answers, made anew after a failure."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from pymilvus import AsyncMilvusClient, MilvusException

from serve_app.adapters.milvus_collection import Unfit, check, establish
from serve_app.adapters.milvus_connection import connect, connect_blocking, reason, release
from serve_app.adapters.milvus_lite import LiteReader, reader_of
from serve_app.errors import RetrieverUnavailable
from serve_app.milvus_settings import MilvusSettings

PROBE_S = 0.2
"""How long a connection on which somebody waited in vain has to prove that it is alive."""

logger = logging.getLogger(__name__)


class Session:
    def __init__(self, settings: MilvusSettings, token: str) -> None:
        self._settings = settings
        self._token = token
        self._client: AsyncMilvusClient | None = None
        self._connecting: asyncio.Task[AsyncMilvusClient] | None = None
        self._is_doubtful = False
        self.collection = settings.collection
        """Its own name, once connected: a migration that moves the alias does not change it under our feet."""
        self.is_lite = settings.is_lite
        """Whether Milvus Lite answers, be it as a server."""
        self.reader: LiteReader | None = None
        """Milvus Lite's data in this process, once connected."""

    async def close(self) -> None:
        client, self._client = self._client, None
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if client is not None:
            await client.close()
        await asyncio.to_thread(release, self._settings)

    @asynccontextmanager
    async def reaching(self, task: str, seconds: float) -> AsyncIterator[AsyncMilvusClient]:
        """The client, for one task. What the vendor raises ends here, and nothing waits longer than `seconds`."""
        address = self._settings.uri
        client = None
        try:
            async with asyncio.timeout(seconds):
                client = await self._connected()
                yield client
        except TimeoutError as exc:
            await self._forget(client)
            raise RetrieverUnavailable(f"{task}: Milvus at {address} took more than {seconds:g} s") from exc
        except (MilvusException, grpc.RpcError, OSError) as exc:
            await self._forget(client)
            raise RetrieverUnavailable(f"{task}: Milvus at {address} answers: {reason(exc)}") from exc
        except Unfit as exc:
            if task == "open":
                raise
            raise RetrieverUnavailable(f"{task}: {exc}") from exc
        except asyncio.CancelledError as exc:
            # gRPC cancels what is under way on a channel that another task's failure closed: nobody cancelled us.
            if (current := asyncio.current_task()) is None or current.cancelling():
                self._is_doubtful = not self._settings.is_lite
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
        """The client; connecting goes on when the caller that began it has given up.

        Nothing tells that a peer has vanished but that it does not answer: a connection on which a caller waited in
        vain is tried before it is used again.
        """
        if self._is_doubtful and (doubted := self._client):
            try:
                async with asyncio.timeout(PROBE_S):
                    await doubted.get_server_version(retry_times=0)
            except (TimeoutError, MilvusException, grpc.RpcError):
                await self._forget(doubted)
        self._is_doubtful = False
        if (client := self._client) is not None:
            return client
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_seen)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> AsyncMilvusClient:
        settings = self._settings
        client = await asyncio.to_thread(connect, settings, self._token)
        try:
            if not await client.has_collection(settings.collection, retry_times=0):
                await asyncio.to_thread(self._establish)
            described = await client.describe_collection(settings.collection, retry_times=0)
            check(described, settings)
            self.collection = described["collection_name"]
            replicas = {} if settings.replicas == 1 else {"replica_number": settings.replicas}
            await client.load_collection(self.collection, timeout=settings.write_deadline_s, retry_times=0, **replicas)
            self.is_lite = "lite" in await client.get_server_version(retry_times=0)
            if settings.is_lite:
                self.reader = await asyncio.to_thread(reader_of, settings.uri, self.collection)
        except BaseException:
            await client.close()
            raise
        self._client = client
        return client

    def _establish(self) -> None:
        client = connect_blocking(self._settings, self._token)
        try:
            establish(client, self._settings)
        finally:
            client.close()


def _seen(task: "asyncio.Task[Any]") -> None:
    """Whoever waits for the task hears of its failure; when nobody does any more, the next call will."""
    if not task.cancelled() and (failure := task.exception()):
        logger.debug("in the background: %s", failure)
