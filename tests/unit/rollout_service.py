"""A service whose registry is in memory, for the commands of operators."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import FastAPI, Request

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.deployed.applications import Application, Replicas
from serve_app.errors import MantaError, Unauthenticated
from serve_app.http import errors
from serve_app.http.deployment import Deployment, deployment_router
from serve_app.http.registry import registry_router
from serve_app.http.rollouts import rollouts_router
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registry import Registry
from serve_app.registry.snapshot import Change, Snapshot
from serve_app.rollout.operations import Judge, StoredRollouts, unjudged
from serve_app.turn import Caller
from tests.builders import registered
from tests.unit.documents import served

CALLERS = {
    "admin": Caller("acme", "ann", frozenset({"user", "admin"})),
    "user": Caller("acme", "bob"),
}


def entry(version: str = "1", environment: Any = "development", **changes: Any) -> ModelEntry:
    digest = "sha256:" + "1" * 64
    known = {"model": "org/qwen", "endpoint": f"serve://qwen-{version}", "licence": "apache-2.0", "digest": digest}
    return registered(version, environment=environment, **{**known, **changes})


def application(name: str = "qwen-1", running: int = 1, wanted: int = 1, **changes: Any) -> Application:
    part = Replicas(
        deployment="engine",
        status="HEALTHY",
        running=running,
        wanted=wanted,
        memory_bytes=3 * 2**30,
        cpu_cores=0.25,
    )
    return replace(Application(name=name, status="RUNNING", deployments=(part,)), **changes)


GATEWAY = application("gateway", is_gateway=True)


@dataclass
class Service:
    """What it is made of, which tests change."""

    store: MemoryRegistryStore = field(default_factory=MemoryRegistryStore)
    applications: tuple[Application, ...] = (GATEWAY, application())
    circuits: Mapping[str, str] = field(default_factory=dict)
    check_fails: MantaError | None = None
    serve_fails: MantaError | None = None
    judge: Judge = unjudged
    environment: Any = "development"
    url: str = ""

    def put(self, *entries: ModelEntry) -> None:
        asyncio.run(self.store.change(lambda _: Change(action="register", who="test", put=entries)))

    @property
    def snapshot(self) -> Snapshot:
        return asyncio.run(self.store.snapshot())

    def weights(self, environment: str = "development", model: str = "org/qwen") -> dict[str, int]:
        return {one.version: one.weight for one in self.snapshot.versions(model, environment) if one.is_enabled}

    def app(self) -> FastAPI:
        app = FastAPI()
        errors.install(app)
        registry = Registry(self.store, self)
        app.include_router(registry_router(registry, authenticate))
        app.include_router(rollouts_router(StoredRollouts(self.store, lambda one: self.judge(one)), authenticate))
        deployment = Deployment(
            environment=self.environment,
            serve=Serve(self),
            check=self,
            find=self.find,
            circuits=lambda: self.circuits,
            copy=lambda: (self.store._snapshot.revision, 0.5, False),
        )
        app.include_router(deployment_router(deployment, authenticate))
        return app

    async def find(self, key: Key) -> ModelEntry | None:
        return (await self.store.snapshot()).find(key)

    async def check(self, asked: ModelEntry) -> CheckResult:
        if self.check_fails:
            raise self.check_fails
        return CheckResult(steps={"health": "is RUNNING", "completion": "2 tokens"}, engine="vllm")


@dataclass(frozen=True)
class Serve:
    service: Service

    async def applications(self) -> tuple[Application, ...]:
        if self.service.serve_fails:
            raise self.service.serve_fails
        return self.service.applications


def authenticate(request: Request) -> Caller:
    caller = CALLERS.get(request.headers.get("authorization", "").removeprefix("Bearer "))
    if caller is None:
        raise Unauthenticated("this API key is not known here")
    return caller


@contextmanager
def running(**made: Any) -> Iterator[Service]:
    service = Service(**made)
    with served(service.app()) as url:
        service.url = url
        yield service
