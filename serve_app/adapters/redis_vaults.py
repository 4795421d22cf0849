"""Placeholders of conversations in Redis, for several ingress replicas."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redis import RedisError
from redis.asyncio import Redis

from serve_app.errors import VaultsUnavailable
from serve_app.placeholders import Vault
from serve_app.turn import Caller

TIMEOUT_S = 0.5
"""A conversation can go on without its placeholders; it cannot wait for them."""


@dataclass
class RedisVaults:
    """Implements `Vaults`: one hash per session, which Redis forgets by itself after `ttl_s` seconds.

    The key is a digest: neither the tenant nor the session's name can be read from it. The values are personal
    data; use `rediss://` where the network is not trusted.
    """

    url: str
    ttl_s: int
    _redis: Redis = field(init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a URL that is none; connects at the first call."""
        self._redis = Redis.from_url(
            self.url, decode_responses=True, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )

    async def recall(self, caller: Caller, session: str) -> Vault:
        async with reachable():
            found = await self._redis.hgetall(_key(caller, session))
            return {str(name): str(value) for name, value in found.items()}

    async def keep(self, caller: Caller, session: str, vault: Mapping[str, str]) -> None:
        key = _key(caller, session)
        async with reachable(), self._redis.pipeline() as together:
            together.hset(key, mapping={name: value for name, value in vault.items()})
            together.expire(key, self.ttl_s)
            await together.execute()

    async def aclose(self) -> None:
        await self._redis.aclose()


@asynccontextmanager
async def reachable() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as failure:
        # Redis's own words may repeat the command, and with it somebody's data.
        raise VaultsUnavailable(f"the store of sessions cannot be reached ({type(failure).__name__})") from None


def _key(caller: Caller, session: str) -> str:
    return "manta:vault:" + hashlib.sha256(f"{caller.tenant}\0{session}".encode("utf-8", "replace")).hexdigest()
