import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from serve_app.documents.records import Place, Store


class Lifetimes:
    """When stores were last used, and which of those that end are past their end.

    Kept in memory, for a search has no time to write; `unsaved` is what the catalog has to learn now and then.
    """

    def __init__(self) -> None:
        self._used: dict[Place, float] = {}
        self._unsaved: set[Place] = set()
        self._ending: dict[str, dict[str, Store]] = {}
        """By tenant and id: stores that end."""

    def know(self, store: Store) -> None:
        ending = self._ending.setdefault(store.tenant, {})
        ending.pop(store.id, None)
        if store.expires_after_days is not None:
            ending[store.id] = store

    def forget(self, place: Place) -> None:
        self._used.pop(place, None)
        self._unsaved.discard(place)
        self._ending.get(place.tenant, {}).pop(place.store_id, None)

    def use(self, tenant: str, store_ids: Iterable[str]) -> None:
        for place in (Place(tenant, store_id) for store_id in store_ids):
            self._used[place] = time.time()
            self._unsaved.add(place)

    def of(self, store: Store) -> Store:
        """The store with its last use."""
        used = self._used.get(Place(store.tenant, store.id), 0.0)
        return replace(store, last_active_at=max(store.last_active_at, used))

    def expired(self, tenant: str) -> frozenset[str]:
        return frozenset(one.id for one in self._ending.get(tenant, {}).values() if self.of(one).has_expired)

    @property
    def all_expired(self) -> tuple[Place, ...]:
        return tuple(Place(tenant, store_id) for tenant in self._ending for store_id in self.expired(tenant))

    def unsaved(self) -> Mapping[Place, float]:
        """What was used since this was asked before."""
        uses = {place: self._used[place] for place in self._unsaved}
        self._unsaved.clear()
        return uses
