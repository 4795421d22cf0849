"""The registry's operations, carried out by a running service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from serve_app.cli.service import Service
from serve_app.errors import Unavailable
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout

MODELS = "/v1/registry/models"
Shape = TypeVar("Shape")
ENTRY = TypeAdapter(ModelEntry)
ENTRIES = TypeAdapter(tuple[ModelEntry, ...])
AUDIT = TypeAdapter(tuple[Audit, ...])
ROLLOUTS = TypeAdapter(tuple[Rollout, ...])


@dataclass(frozen=True)
class RemoteRegistry:
    """Implements `RegistryOperations`; who it was is the service's to say, by the key."""

    service: Service

    async def register(self, asked: Registration, *, check: bool, who: str, why: str) -> ModelEntry:
        body = {**asked.model_dump(mode="json", exclude_none=True), "check": check, "why": why}
        return await self._entry("POST", body)

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
        return self._read(ENTRIES, found.get("data"))

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]:
        query = {"model": model, "environment": environment, "limit": limit}
        found = await self.service.call("GET", "/v1/registry/history", query=query)
        return self._read(AUDIT, found.get("data"))

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        query = {"model": model, "environment": environment, "limit": limit}
        found = await self.service.call("GET", "/v1/rollouts/history", query=query)
        return self._read(ROLLOUTS, found.get("data"))

    async def _change(self, key: Key, **said: Any) -> ModelEntry:
        return await self._entry("PATCH", {**_named(key), **said})

    async def _entry(self, method: str, body: Mapping[str, Any]) -> ModelEntry:
        return self._read(ENTRY, await self.service.call(method, MODELS, body=body))

    def _read(self, shape: TypeAdapter[Shape], given: object) -> Shape:
        """Fields of a later Manta are left out."""
        try:
            return shape.validate_python(given)
        except ValidationError as exc:
            raise Unavailable(f"{self.service.url} answers in a shape that is not known here: is it Manta?") from exc


def _named(key: Key) -> dict[str, str]:
    model, version, environment = key
    return {"model": model, "version": version, "environment": environment}
