"""Which version of a model a caller gets: in proportion to the weights, and the same one again."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from serve_app.registry.entry import ModelEntry
from serve_app.routing.asked import Asked
from serve_app.routing.table import Versions

By = Literal["session", "user", "key", "conversation", "turn"]
"""turn: nobody is named and nothing was said before, so the versions keep their shares exactly."""

REMEMBERED = 20_000
"""Conversations without a name whose version is known, each about 200 bytes."""
LEEWAY, MOST_LEEWAY = 3.0, 20.0
"""Requests that a version may be ahead or behind before the first question of a conversation without a name goes to
where it is due, and not to where its beginning says, which is what another replica goes by for the next question. With
no leeway half of all such conversations changed their version over three replicas at 50/50, now one in ten does."""
LOOSENING = 0.002
"""Of the requests since the weights changed, what LEEWAY grows by: a new version is seen early, and 0.2 % is exact."""
MOST_OWED = 200.0
"""Requests that the turns make up for at most, where callers with a name have not come in proportion: a version that
one busy session keeps must not go without everybody else for long."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a caller keeps its version by."""

    by: By
    name: bytes = b""
    """Digest, with the tenant in it: two tenants' sessions of one name are two."""

    @property
    def shown(self) -> str:
        """Short, for receipts; a session's name may be a person's."""
        return self.name.hex()[:8]


def identity(asked: Asked, sticky: Literal["session", "user", "key"]) -> Identity:
    if sticky == "key":
        return _named("key", asked.tenant, asked.key_id)
    if sticky == "session" and asked.session:
        return _named("session", asked.tenant, asked.session)
    if asked.user:
        return _named("user", asked.tenant, asked.user)
    return Identity("turn" if asked.is_first else "conversation", asked.conversation)


def ranked(entries: Sequence[ModelEntry], name: bytes) -> tuple[ModelEntry, ...]:
    """For most names the heaviest first: each entry is first for its weight's share of all names.

    A weighted rendezvous: every entry draws for itself, so a weight that grows only brings names to its entry, one
    that falls only takes them from it, and the order says who is next when the first cannot. Every process that knows
    the weights comes to the same.
    """
    if len(entries) < 2:
        return tuple(entries)
    return tuple(sorted(entries, key=lambda entry: _drawn(entry, name)))


def _drawn(entry: ModelEntry, name: bytes) -> float:
    """Exponentially distributed with the weight as its rate: the smallest of some is each in proportion."""
    if not entry.weight:
        return math.inf
    digest = hashlib.blake2b(entry.name.encode(), key=name, digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 0.5) / 2**64) / entry.weight


def _named(by: By, tenant: str, name: str) -> Identity:
    return Identity(by, hashlib.blake2b(f"{by}\0{tenant}\0{name}".encode("utf-8", "replace"), digest_size=16).digest())


@dataclass(slots=True)
class Turns:
    """One model's versions, each as often as its weight says: after any number of requests within the leeway and one.

    Requests of callers with a name are counted too, so the turns make up for what their hashes did.
    """

    shares: dict[str, float] = field(default_factory=dict)
    _owed: dict[str, float] = field(default_factory=dict)
    """Requests by version."""
    _count: int = 0
    """Of requests since the weights changed."""

    def weigh(self, versions: Versions) -> None:
        """Begins anew where the weights are others."""
        if self.shares != versions.shares:
            self.shares = dict(versions.shares)
            self._owed = dict.fromkeys(self.shares, 0.0)
            self._count = 0

    def next(self, entries: Sequence[ModelEntry], *, is_exact: bool) -> tuple[ModelEntry, ...]:
        """`entries` as they are, where none is more than the leeway off its due; else those furthest behind first.

        `is_exact`: there is no leeway.
        """
        leeway = 0.0 if is_exact else min(MOST_LEEWAY, LEEWAY + LOOSENING * self._count)
        due = {entry.version: self._owed[entry.version] + self.shares[entry.version] for entry in entries}
        if due[entries[0].version] >= -leeway and max(due.values()) <= leeway:
            return tuple(entries)
        return tuple(sorted(entries, key=lambda entry: -due[entry.version]))

    def took(self, version: str) -> None:
        self._count += 1
        for name, share in self.shares.items():
            owed = self._owed[name] + share - (name == version)
            self._owed[name] = max(-MOST_OWED, min(MOST_OWED, owed))


@dataclass(frozen=True, slots=True)
class Stickiness:
    """One process's memory of who got what."""

    turns: dict[str, Turns] = field(default_factory=dict)
    """By model."""
    began: OrderedDict[tuple[str, bytes], str] = field(default_factory=OrderedDict)
    """Version by model and beginning of a conversation, the least recently used first."""

    def order(self, model: str, versions: Versions, entries: Sequence[ModelEntry], who: Identity) -> list[ModelEntry]:
        """`entries`, some of `versions.weighted`: the one that is chosen, then those next to it."""
        turns = self.turns.setdefault(model, Turns())
        turns.weigh(versions)
        ordered = ranked(entries, who.name)
        if who.by == "turn":
            ordered = turns.next(ordered, is_exact=not who.name)
        elif who.by == "conversation":
            kept = self.began.get((model, who.name))
            ordered = tuple(sorted(ordered, key=lambda entry: entry.version != kept))
        turns.took(ordered[0].version)
        if who.by in ("turn", "conversation") and who.name and len(versions.weighted) > 1:
            self._keep((model, who.name), ordered[0].version)
        return list(ordered)

    def _keep(self, beginning: tuple[str, bytes], version: str) -> None:
        self.began[beginning] = version
        self.began.move_to_end(beginning)
        while len(self.began) > REMEMBERED:
            self.began.popitem(last=False)
