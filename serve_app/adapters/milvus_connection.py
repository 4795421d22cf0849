"""How Milvus is reached: Milvus Lite by a path, in this process; a server by its address."""

import logging
from typing import Any

from milvus_lite.server_manager import server_manager_instance as lite_servers
from pymilvus import AsyncMilvusClient, MilvusClient
from pymilvus.exceptions import ConnectionConfigException

from serve_app.milvus_settings import MilvusSettings
from serve_app.settings import asset

SERVER_ONLY = (
    "index",
    "index_params",
    "search_params",
    "replicas",
    "shards",
    "partitions",
    "consistency_level",
)
"""Settings that Milvus Lite has no use for."""

logger = logging.getLogger(__name__)

# pymilvus prints a traceback for each call that fails; every failure leaves our adapters as one sentence instead.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


def connect(settings: MilvusSettings, token: str) -> AsyncMilvusClient:
    """Blocking where it is Milvus Lite, which starts its server and reads the files.

    Dedicated: pymilvus shares connections by event loop id, and an id is used again when its loop is gone.
    """
    return AsyncMilvusClient(timeout=settings.connect_deadline_s, dedicated=True, **_address(settings, token))


def connect_blocking(settings: MilvusSettings, token: str) -> MilvusClient:
    """For what the asynchronous client cannot do: on Milvus Lite it waits for an index by a call that is not there."""
    return MilvusClient(timeout=settings.connect_deadline_s, dedicated=True, **_address(settings, token))


def release(settings: MilvusSettings) -> None:
    """Ends Milvus Lite's server in this process and gives its folder back. Blocking."""
    if settings.is_lite:
        lite_servers.release_server(str(asset(settings.uri)))


def tell_ignored(settings: MilvusSettings) -> None:
    plain = MilvusSettings()
    if settings.is_lite and (ignored := [n for n in SERVER_ONLY if getattr(settings, n) != getattr(plain, n)]):
        logger.warning("Milvus Lite at %s ignores %s: they are for a server", settings.uri, ", ".join(ignored))


def reason(exc: Exception) -> str:
    """What went wrong, as one sentence can repeat it."""
    if isinstance(exc, ConnectionConfigException):
        return f"{exc.message}; one process at a time can use a Milvus Lite path: is another service running on it?"
    return str(getattr(exc, "message", exc))[:300]


def _address(settings: MilvusSettings, token: str) -> dict[str, Any]:
    # Channels to one address share their subchannels and with them the pause after a failure, which grows to two
    # minutes: with a pool of its own, a new channel reaches a server that is back.
    options = {"grpc.use_local_subchannel_pool": 1}
    address: dict[str, Any] = {"grpc_options": options}
    if settings.is_lite:
        path = asset(settings.uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        # pymilvus asks an idle connection every ten seconds whether it lives; Lite's server closes it for that.
        options["grpc.keepalive_time_ms"] = 2**31 - 1
        return address | {"uri": str(path)}
    if settings.ca_pem_path:
        address["server_pem_path"] = str(asset(settings.ca_pem_path))
    if settings.server_name:
        address["server_name"] = settings.server_name
    if settings.database != "default":
        address["db_name"] = settings.database
    return address | {"uri": settings.uri, "token": token}
