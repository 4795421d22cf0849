import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from serve_app.documents.records import Place


class Visibility:
    """What the index may hold and nobody may find: what the catalog says of it, at hand for every search.

    It changes as soon as the catalog has, and at one stroke: no search sees an old and a new version, or neither.
    """

    def __init__(self) -> None:
        self._hidden: set[Place] = set()
        self._searches: set[asyncio.Event] = set()

    def hide(self, *places: Place) -> None:
        self._hidden.update(places)

    def switch(self, shown: Place, hidden: Iterable[Place] = ()) -> None:
        self._hidden.discard(shown)
        self._hidden.update(hidden)

    def hides(self, place: Place) -> bool:
        return place in self._hidden

    @property
    def hidden(self) -> tuple[Place, ...]:
        return tuple(self._hidden)

    def hidden_files(self, tenant: str, stores: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """(store, file) to leave out of a search in these stores; in all of the tenant's for none."""
        mine = (at for at in self._hidden if at.tenant == tenant and at.file_id)
        return tuple(sorted((at.store_id, at.file_id) for at in mine if not stores or at.store_id in stores))

    def hidden_stores(self, tenant: str) -> frozenset[str]:
        return frozenset(at.store_id for at in self._hidden if at.tenant == tenant and not at.file_id)

    @asynccontextmanager
    async def searching(self) -> AsyncIterator[None]:
        """Around a search that acts on what is hidden now."""
        ended = asyncio.Event()
        self._searches.add(ended)
        try:
            yield
        finally:
            self._searches.discard(ended)
            ended.set()

    async def searched(self) -> None:
        """Returns when every search that began before has ended: none still needs what was hidden since."""
        for ended in tuple(self._searches):
            await ended.wait()
