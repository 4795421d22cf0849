import asyncio
import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from serve_app.adapters.catalog import Catalog
from serve_app.documents.records import AttachedFile, Place, Settled
from serve_app.errors import Unavailable
from serve_app.ports import Chunk, Index
from serve_app.visibility import Visibility

logger = logging.getLogger(__name__)


class Abandoned(Exception):
    """The work on a file is not wanted any more: it was taken out of its store, or is wanted otherwise."""


class Shelf:
    """Chunks in the index, in step with what the catalog says of their files.

    The catalog hides a file before the index gets the first of its chunks, and before it loses the first. So whatever
    a crash leaves behind is known and hidden, and `sweep` removes it.
    """

    def __init__(self, catalog: Catalog, index: Index, visibility: Visibility) -> None:
        self._catalog = catalog
        self._index = index
        self._visibility = visibility
        self._wanted: dict[Place, AttachedFile] = {}
        self._under_way: dict[Place, AttachedFile] = {}
        self._purged: dict[tuple[str, str], float] = {}
        # Between the check whether a file is wanted and the writing of its chunks nobody may remove it.
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        self._visibility.hide(*await self._catalog.places.hidden())
        self._purged = await self._catalog.files.purged()

    def expect(self, work: AttachedFile) -> None:
        """This is wanted of the file, and nothing that was wanted of it before."""
        self._wanted[work.place] = work

    def withdraw(self, *places: Place) -> None:
        """Nothing is wanted any more of these files, or of any in these stores."""
        for place in places:
            self._wanted.pop(place, None)
            if not place.file_id:
                for known in [known for known in self._wanted if known[:2] == place[:2]]:
                    del self._wanted[known]

    def check(self, work: AttachedFile) -> None:
        """Raises Abandoned when the work is not wanted any more."""
        if self._wanted.get(work.place) is not work:
            raise Abandoned

    async def begin(self, work: AttachedFile) -> None:
        """Its chunks come, and none is found before `complete`. Raises Abandoned."""
        async with self._writing:
            self.check(work)
            for place in (Place(work.tenant, work.store_id), work.place):
                if self._visibility.hides(place):
                    await self._clear(place)
            await self._catalog.places.begin(work.place)
            self._visibility.hide(work.place)
            self._under_way[work.place] = work
        await self._visibility.searched()  # searches that began before do not know that it is hidden

    async def quiet(self, most_s: float) -> None:
        """Returns when no search is under way that was when it was asked; after `most_s` at the latest."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._visibility.searched(), most_s)

    async def add(self, work: AttachedFile, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        """Raises Abandoned."""
        async with self._writing:
            self.check(work)
            kept = [at for at, chunk in enumerate(chunks) if not self.has_purged(work, chunk.terms.subject)]
            if kept:
                await self._index.upsert([chunks[at] for at in kept], embeddings[kept])

    async def complete(self, work: AttachedFile, ended: Settled) -> None:
        """The file is found from now on, and those of its name that came before are not. Raises Abandoned."""
        async with self._writing:
            self.check(work)
            superseded = await self._catalog.places.complete(work, ended)
            if superseded is None:
                raise Abandoned
            self.withdraw(*superseded)
            self._visibility.switch(work.place, superseded)
        await self._visibility.searched()
        for place in superseded:
            await self.sweep(place)

    async def end(self, work: AttachedFile) -> None:
        """Work on it has ended, however: what is left of it and hidden goes."""
        for known in (self._under_way, self._wanted):
            if known.get(work.place) is work:
                del known[work.place]
        await self.sweep(work.place)

    async def remove(self, *places: Place) -> None:
        """What the catalog does not know any more is not found from now on, and then removed."""
        self.withdraw(*places)
        self._visibility.hide(*places)
        for place in places:
            await self.sweep(place)

    async def purge(self, tenant: str, subject: str) -> int:
        """Removes every chunk about a subject; no file uploaded before brings one back. How many there were."""
        whom = (tenant, _digest(subject))
        self._purged[whom] = await self._catalog.files.purge(*whom)
        async with self._writing:
            return await self._index.purge(tenant, subject)

    def has_purged(self, work: AttachedFile, subject: str) -> bool:
        """Whether what this file says about the subject is not to be indexed."""
        purged_at = self._purged.get((work.tenant, _digest(subject))) if subject and self._purged else None
        return purged_at is not None and work.uploaded_at <= purged_at

    async def sweep(self, place: Place) -> None:
        """Remove what is hidden, unless it is on its way. Where the index is away it stays hidden, and for later."""
        try:
            async with self._writing:
                running = self._under_way.get(place)
                is_coming = running is not None and self._wanted.get(place) is running
                if self._visibility.hides(place) and not is_coming:
                    await self._clear(place)
        except Unavailable as exc:
            logger.warning("chunks of %s are hidden in %s, but not yet removed: %s", place.file_id, place.store_id, exc)

    @property
    def hidden(self) -> tuple[Place, ...]:
        return self._visibility.hidden

    async def sweep_all(self) -> None:
        for place in self.hidden:
            await self.sweep(place)

    async def _clear(self, place: Place) -> None:
        await self._index.delete(place.tenant, place.store_id, place.file_id or None)
        await self._catalog.places.cleared(place)
        self._visibility.switch(place)


def _digest(subject: str) -> str:
    return hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()
