"""The registry as one process knows it: at hand without waiting, whatever becomes of the database."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

from serve_app.errors import RegistryUnavailable, Rejected
from serve_app.registry.adopt import adopt
from serve_app.registry.applied import apply
from serve_app.registry.disk_copy import DiskCopy
from serve_app.registry.snapshot import Change, Snapshot
from serve_app.registry.store import RegistryStore

logger = logging.getLogger("manta")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Between two tries to reach the database."""
GATEWAY = "gateway"
"""Who puts the config's models into the registry, for its history."""


@dataclass
class LiveCopy:
    """Begins with the last copy on disk, else with the config's models; with these alone where there is no store."""

    store: RegistryStore | None
    declared: Snapshot
    path: Path
    """Of the last copy."""
    cache_s: float
    """It is read anew after this long, though no change was announced."""
    environment: str
    """Whose entries `declared` are."""
    now: Callable[[], float] = time.time
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    on_change: list[Callable[[Snapshot], None]] = field(default_factory=list)
    """Told what is shown whenever that is something else than before."""
    _read: Snapshot = field(init=False)
    _read_at: float | None = field(init=False)
    _shown: Snapshot = field(init=False)
    _assumed: tuple[Change, ...] = field(init=False, default=())
    _trouble: type[RegistryUnavailable] | None = field(init=False, default=None)
    _is_current: bool = field(init=False, default=False)
    _is_adopted: bool = field(init=False, default=False)
    _is_kept: bool = field(init=False, default=True)
    _disk_failed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        kept = DiskCopy(self.path).read() if self.store else None
        self._read, self._read_at = kept or (Snapshot(), None)
        self._shown = self._as_declared()

    @property
    def snapshot(self) -> Snapshot:
        """Of all environments."""
        return self._shown

    @property
    def age_s(self) -> float | None:
        """Since it was last read from the database; None where it never was."""
        return None if self._read_at is None else max(0.0, self.now() - self._read_at)

    @property
    def is_stale(self) -> bool:
        """The database is away, or was not reached yet: changes made elsewhere are not seen."""
        return self.store is not None and not self._is_current

    def assume(self, change: Change) -> None:
        """Shows `change` at once, and over whatever is read, for as long as its rollout is under way in the store: what
        was decided here and cannot be written yet. One without a rollout is shown until the next reading."""
        self._assumed = (*self._assumed, change)
        self._show()

    async def run(self) -> None:
        """Follows the store until cancelled; what goes wrong with the database is logged, and tried again."""
        pause_s = FIRST_PAUSE_S
        while self.store is not None:
            try:
                async with aclosing(self.store.revisions()) as revisions:
                    await self._follow(self.store, revisions)
            except RegistryUnavailable as exc:
                pause_s = FIRST_PAUSE_S if self._is_current else min(2 * pause_s, LONGEST_PAUSE_S)
                self._lost(exc)
            finally:
                self._is_current = False
            await self._keep()
            await self.pause(pause_s)

    async def _follow(self, store: RegistryStore, revisions: AsyncGenerator[int, None]) -> None:
        """Returns when there are no more revisions, which no store does of its own accord."""
        upcoming = asyncio.ensure_future(anext(revisions, None))
        try:
            while True:
                # not `wait_for`, whose timeout would end the generator, and the connection that listens
                announced, _ = await asyncio.wait({upcoming}, timeout=self.cache_s)
                if announced:
                    if upcoming.result() is None:
                        return
                    upcoming = asyncio.ensure_future(anext(revisions, None))
                await self._read_anew(store)
        finally:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)

    async def _read_anew(self, store: RegistryStore) -> None:
        if not self._is_adopted:
            await self._adopt(store)
        read = await store.snapshot()
        self._found()
        self._read, self._read_at = read, self.now()
        under_way = {rollout.id for rollout in read.rollouts}
        self._assumed = tuple(c for c in self._assumed if under_way & {rollout.id for rollout in c.rollouts})
        self._is_kept = False
        self._show()
        await self._keep()

    async def _adopt(self, store: RegistryStore) -> None:
        try:
            await store.change(self._adoption)
        except Rejected as exc:
            logger.warning("registry: the config's models cannot be put in: %s", exc)
        self._is_adopted = True

    def _adoption(self, snapshot: Snapshot) -> Change:
        return adopt(self.declared.entries, self.environment, who=GATEWAY)(snapshot)

    def _as_declared(self) -> Snapshot:
        """What was read, as this gateway's config has it: while an upgrade has two clusters on one database, the one
        that was there first has other applications than the new one's config put in."""
        change = self._adoption(self._read)
        return self._read if change.is_empty else _with(self._read, change, self.now())

    def _show(self) -> None:
        shown = self._as_declared()
        for change in self._assumed:
            shown = _with(shown, change, self.now())
        if shown == self._shown:
            return
        self._shown, self._is_kept = shown, False
        for tell in self.on_change:
            tell(shown)

    async def _keep(self) -> None:
        """On disk as it is shown: what was assumed holds after a restart too."""
        if self._is_kept or self._read_at is None:
            return
        self._is_kept = True
        try:
            await asyncio.to_thread(DiskCopy(self.path).write, self._shown, self._read_at)
            self._disk_failed = False
        except OSError as exc:
            if not self._disk_failed:
                logger.warning("registry: no copy can be kept at %s (%s)", self.path, exc.strerror or exc)
            self._disk_failed = True

    def _lost(self, exc: RegistryUnavailable) -> None:
        if type(exc) is not self._trouble:
            at = "never read" if self.age_s is None else f"read {self.age_s:.0f} s ago"
            logger.warning("registry: %s; serving revision %d, %s", exc, self._shown.revision, at)
        self._trouble = type(exc)

    def _found(self) -> None:
        if self._trouble:
            logger.warning("registry: its database can be read again")
        self._trouble, self._is_current = None, True


def _with(snapshot: Snapshot, change: Change, at: float) -> Snapshot:
    """As it would be; its revision stays, for the store knows nothing of it."""
    return replace(apply(change, snapshot, at=at, first_audit=1).snapshot, revision=snapshot.revision)
