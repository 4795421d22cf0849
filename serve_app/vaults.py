"""Where the placeholders of a conversation are kept between its turns."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.placeholders import Vault
from serve_app.turn import Caller

MOST_SESSIONS = 10_000


class Vaults(Protocol):
    """Both calls raise VaultsUnavailable. What is kept is personal data: nothing of it is ever logged."""

    async def recall(self, caller: Caller, session: str) -> Vault: ...

    async def keep(self, caller: Caller, session: str, vault: Mapping[str, str]) -> None:
        """Adds to what the session has, and starts its time to live anew."""
        ...


@dataclass
class MemoryVaults:
    """In this process: a conversation that meets another replica begins with fresh placeholders there."""

    ttl_s: float
    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[tuple[str, str], tuple[float, dict[str, str]]] = field(default_factory=OrderedDict)

    async def recall(self, caller: Caller, session: str) -> Vault:
        until, vault = self._kept.get((caller.tenant, session), (0.0, {}))
        return dict(vault) if self.clock() < until else {}

    async def keep(self, caller: Caller, session: str, vault: Mapping[str, str]) -> None:
        known = await self.recall(caller, session)
        self._kept[caller.tenant, session] = (self.clock() + self.ttl_s, {**known, **vault})
        self._kept.move_to_end((caller.tenant, session))
        self._forget()

    def _forget(self) -> None:
        """The oldest first: every `keep` moves its session to the end, so the first is the first to run out."""
        while self._kept:
            key, (until, _) = next(iter(self._kept.items()))
            if until > self.clock() and len(self._kept) <= MOST_SESSIONS:
                return
            del self._kept[key]
