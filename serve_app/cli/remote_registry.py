"""The registry's operations, carried out by a running service."""

from dataclasses import dataclass, fields
from typing import Any

from serve_app.cli.service import Service
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout

MODELS = "/v1/registry/models"


@dataclass(frozen=True)
class RemoteRegistry:
    """Implements `RegistryOperations`; who it was is the service's to say, by the key."""

    service: Service

    async def register(self, asked: Registration, *, check: bool, who: str, why: str) -> ModelEntry:
        body = {**asked.model_dump(mode="json", exclude_none=True), "check": check, "why": why}
        return entry_of(await self.service.call("POST", MODELS, body=body))

    async def deregister(self, key: Key, *, who: str, why: str) -> None:
        await self.service.call("DELETE", MODELS, query={**_named(key), "why": why})

    async def enable(self, key: Key, *, weight: int | None, check: bool, who: str, why: str) -> ModelEntry:
        return await self._change(key, status="enabled", weight=weight, check=check, why=why)

    async def disable(self, key: Key, *, who: str, why: str) -> ModelEntry:
        return await self._change(key, status="disabled", why=why)

    async def weigh(self, key: Key, weight: int, *, who: str, why: str) -> ModelEntry:
        return await self._change(key, weight=weight, why=why)

    async def entries(self, *, model: str = "", environment: str = "") -> tuple[ModelEntry, ...]:
        found = await self.service.call("GET", MODELS, query={"model": model, "environment": environment})
        return tuple(map(entry_of, found["data"]))

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]:
        query = {"model": model, "environment": environment, "limit": limit}
        found = await self.service.call("GET", "/v1/registry/history", query=query)
        return tuple(Audit(**_known(Audit, row)) for row in found["data"])

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        query = {"model": model, "environment": environment, "limit": limit}
        found = await self.service.call("GET", "/v1/rollouts/history", query=query)
        return tuple(Rollout(**{**_known(Rollout, row), "steps": tuple(row["steps"])}) for row in found["data"])

    async def _change(self, key: Key, **said: Any) -> ModelEntry:
        return entry_of(await self.service.call("PATCH", MODELS, body={**_named(key), **said}))


def entry_of(given: dict[str, Any]) -> ModelEntry:
    return ModelEntry(**{**_known(ModelEntry, given), "capabilities": frozenset(given["capabilities"])})


def _named(key: Key) -> dict[str, str]:
    model, version, environment = key
    return {"model": model, "version": version, "environment": environment}


def _known(shape: type[ModelEntry | Audit | Rollout], given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a later Manta are left out."""
    return {field.name: given[field.name] for field in fields(shape) if field.name in given}
