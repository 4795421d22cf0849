"""What was found out about texts that come again: passages, and the earlier turns of a conversation."""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")

MOST = 20_000
"""Texts remembered: a few hundred bytes each, the text itself not among them."""


@dataclass
class Recent(Generic[Value]):
    """Verdicts by digest of their text, the least recently used forgotten first."""

    most: int = MOST
    _known: OrderedDict[bytes, Value] = field(default_factory=OrderedDict)

    async def of(
        self, texts: Sequence[str], ask: Callable[[tuple[str, ...]], Awaitable[tuple[Value, ...]]], salt: str = ""
    ) -> tuple[Value, ...]:
        """One value per text, in order; `ask` is asked for those not known, and its errors are the caller's.

        `salt` names what else the verdict depends on, such as a policy.
        """
        keys = [_digest(salt, text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        fresh: dict[bytes, Value] = {}
        if missing:
            fresh = dict(zip(missing, await ask(tuple(missing.values())), strict=True))
        found = tuple(fresh[key] if key in fresh else self._known[key] for key in keys)
        self._remember(keys, found)
        return found

    def _remember(self, keys: Sequence[bytes], found: Sequence[Value]) -> None:
        for key, value in zip(keys, found, strict=True):
            self._known[key] = value
            self._known.move_to_end(key)
        while len(self._known) > self.most:
            self._known.popitem(last=False)


def _digest(salt: str, text: str) -> bytes:
    return hashlib.blake2b(f"{salt}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
