"""The registry's operations on its store."""

from dataclasses import dataclass

from serve_app.errors import InvalidRequest
from serve_app.registry import changes
from serve_app.registry.checked import Checked
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.operations import EndpointCheck
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Audit, Decide
from serve_app.registry.store import RegistryStore
from serve_app.rollout.rollout import Rollout


@dataclass(frozen=True)
class Registry:
    """Implements `RegistryOperations`: endpoints are asked before the store is, whose transactions are short."""

    store: RegistryStore
    check: EndpointCheck | None = None
    """None: nothing here can reach endpoints."""

    async def register(self, asked: Registration, *, check: bool, who: str, why: str) -> ModelEntry:
        checked = None
        if check:
            snapshot = await self.store.snapshot()
            # what cannot be done anyway is refused before anyone waits for an endpoint
            wanted = asked.onto(snapshot.find(asked.key))
            checked = await self._checked(wanted)
        return await self._changed(asked.key, changes.register(asked, checked, who=who, why=why))

    async def deregister(self, key: Key, *, who: str, why: str) -> None:
        await self.store.change(changes.deregister(key, who=who, why=why))

    async def enable(self, key: Key, *, weight: int | None, check: bool, who: str, why: str) -> ModelEntry:
        checked = None
        if check:
            checked = await self._checked(changes.known_entry(await self.store.snapshot(), key))
        return await self._changed(key, changes.enable(key, checked, weight=weight, who=who, why=why))

    async def disable(self, key: Key, *, who: str, why: str) -> ModelEntry:
        return await self._changed(key, changes.disable(key, who=who, why=why))

    async def weigh(self, key: Key, weight: int, *, who: str, why: str) -> ModelEntry:
        return await self._changed(key, changes.weigh(key, weight, who=who, why=why))

    async def entries(self, *, model: str = "", environment: str = "") -> tuple[ModelEntry, ...]:
        snapshot = await self.store.snapshot()
        return tuple(
            entry for entry in snapshot.entries if model in ("", entry.model) and environment in ("", entry.environment)
        )

    async def history(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Audit, ...]:
        return await self.store.history(model=model, environment=environment, limit=limit)

    async def rollouts(self, *, model: str = "", environment: str = "", limit: int = 100) -> tuple[Rollout, ...]:
        return await self.store.rollouts(model=model, environment=environment, limit=limit)

    async def _checked(self, entry: ModelEntry) -> Checked:
        if self.check is None:
            raise InvalidRequest("check: endpoints cannot be reached from here; leave the check out").at("check")
        return Checked(entry, await self.check.check(entry))

    async def _changed(self, key: Key, decide: Decide) -> ModelEntry:
        """The entry as the change left it; as it was, where it left it."""
        change = await self.store.change(decide)
        for entry in change.put:
            if entry.key == key:
                return entry
        return changes.known_entry(await self.store.snapshot(), key)
