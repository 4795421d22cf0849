"""What steers a gateway: the registry's copy, rollouts, receipts, and the asking of endpoints to be registered."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.remote import remote_engine
from deployments.secret import secret
from deployments.serve_check import ServeCheck
from serve_app.adapters.http_check import HttpCheck
from serve_app.adapters.http_engine import HttpEngine, upstream_client
from serve_app.adapters.memory_tally import MemoryTally
from serve_app.adapters.receipts_database import DatabaseReceipts
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.ports import Engine
from serve_app.registry.declared import declared
from serve_app.registry.entry import ModelEntry
from serve_app.registry.live import LiveCopy
from serve_app.registry.operations import CheckResult
from serve_app.registry.registry import Registry
from serve_app.registry_settings import RegistrySettings
from serve_app.rollout.counts import Find
from serve_app.rollout.operations import StoredRollouts
from serve_app.rollout.shadow import Encode, Shadows
from serve_app.rollout.tally import Tally
from serve_app.rollout.watch import RolloutWatch
from serve_app.routing.receipt_log import ReceiptLog
from serve_app.settings import GatewaySettings
from serve_app.telemetry import Telemetry

logger = logging.getLogger("manta")

RESTART_S = 1.0


class Control:
    """One ingress replica's. Nothing here waits for the database: that is done beside the requests, in `background`."""

    def __init__(self, settings: GatewaySettings, telemetry: Telemetry, encode: Encode) -> None:
        """`encode` compares answers that are given with those in the shadow."""
        registry = settings.registry
        url = secret(registry.database_url_env, "registry.database_url_env") or registry.database_url
        self.store = DatabaseRegistryStore(url)
        self.copy = LiveCopy(
            self.store,
            declared(settings.models, registry.environment),
            Path(registry.copy_path),
            registry.cache_s,
            registry.environment,
        )
        self.check = EndpointChecks()
        self.operations = Registry(self.store, self.check)
        self.receipts = ReceiptLog(DatabaseReceipts(url, settings.router.receipts))
        self.tally = tally_of(registry, lambda model, environment: self.copy.snapshot.rollout(model, environment))
        self.watch = RolloutWatch(
            self.store, self.copy, self.tally, registry.gates, registry.environment, telemetry=telemetry
        )
        self.rollouts = StoredRollouts(self.store, self.watch.judge)
        self.shadows = Shadows(
            lambda: self.copy.snapshot, registry.environment, settings.router.shadow_forbidden, self.tally, encode
        )
        telemetry.watch(
            "manta_registry_stale",
            "1 while the registry's database is away, and changes made elsewhere are not seen.",
            lambda: self.copy.is_stale,
        )
        telemetry.watch("manta_receipts_lost", "Receipts that no database will ever see.", lambda: self.receipts.lost)

    @asynccontextmanager
    async def background(self) -> AsyncIterator[None]:
        runs = {
            "registry": self.copy.run,
            "receipts": self.receipts.run,
            "rollout counts": self.tally.run,
            "rollouts": self.watch.run,
        }
        running = [asyncio.create_task(kept_running(name, run)) for name, run in runs.items()]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self.shadows.close()
            await self.tally.close()
            await self.store.close()


async def kept_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """What must not end while requests are answered; a fault of ours in it is logged with its trace, and it goes on."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("%s: stopped unexpectedly; it goes on in %g s", name, RESTART_S)
        await asyncio.sleep(RESTART_S)


@dataclass(frozen=True)
class EndpointChecks:
    """Implements `EndpointCheck` for every kind of endpoint."""

    serve: ServeCheck = ServeCheck()
    http: HttpCheck = HttpCheck()

    async def check(self, entry: ModelEntry) -> CheckResult:
        return await (self.serve if entry.application else self.http).check(entry)


class EngineMaker:
    """Makes the engine of an entry; those behind HTTP share one pool of connections."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient = upstream_client()

    def __call__(self, entry: ModelEntry) -> Engine:
        return remote_engine(entry) if entry.application else HttpEngine(entry, self._client)


def tally_of(settings: RegistrySettings, find: Find) -> Tally:
    if url := secret(settings.redis_url_env, "registry.redis_url_env"):
        from serve_app.adapters.redis_tally import RedisTally

        return RedisTally(url, find)
    return MemoryTally(find, Path(settings.copy_path).with_name("rollouts.json"))
