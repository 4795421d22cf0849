"""How the models of a gateway's config come into the registry, and out of it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from serve_app.registry.entry import ModelEntry
from serve_app.registry.rules import needed
from serve_app.registry.snapshot import Change, Decide, Snapshot

FULL = 100


def adopt(declared: Sequence[ModelEntry], environment: str, *, who: str) -> Decide:
    """New ones are put in; changed ones changed, but for weight and status; enabled ones that are not in the config any
    more disabled, until they are again, or left as they are while a rollout needs them.

    An entry that an operator registered is left to the operator. Nothing is refused: a gateway has to start.
    """

    def decide(snapshot: Snapshot) -> Change:
        here = {entry.key: entry for entry in snapshot.entries if entry.environment == environment}
        keys = {entry.key for entry in declared}
        withdrawn = [entry for entry in here.values() if entry.key not in keys and _is_dropped(snapshot, entry)]
        after = here | {entry.key: replace(entry, status="disabled", source="withdrawn") for entry in withdrawn}
        for entry in declared:
            after[entry.key] = _adopted(entry, here.get(entry.key), withdrawn, after.values())
        after |= {entry.key: entry for entry in _rescued(after.values())}
        put = tuple(entry for key, entry in sorted(after.items()) if entry != here.get(key))
        return Change(action="adopt", who=who, why="as the gateway's config says", put=put)

    return decide


def _is_dropped(snapshot: Snapshot, entry: ModelEntry) -> bool:
    rollout = snapshot.rollout(entry.model, entry.environment)
    return entry.source == "config" and entry.is_enabled and not (rollout and entry.version in needed(rollout))


def _adopted(
    entry: ModelEntry, stood: ModelEntry | None, withdrawn: Sequence[ModelEntry], after: Iterable[ModelEntry]
) -> ModelEntry:
    if stood is None:
        return replace(entry, weight=_weight(entry, withdrawn, after))
    if stood.source == "operator":
        return stood
    if stood.source == "withdrawn":
        return replace(entry, weight=stood.weight, digest=stood.digest, signature=stood.signature)
    return replace(entry, status=stood.status, weight=stood.weight, digest=stood.digest, signature=stood.signature)


def _weight(entry: ModelEntry, withdrawn: Sequence[ModelEntry], after: Iterable[ModelEntry]) -> int:
    """That of the version whose place it takes; else all, unless others answer already."""
    replaced = [one.weight for one in withdrawn if one.model == entry.model and one.is_enabled]
    if replaced:
        return max(replaced)
    return 0 if any(one.model == entry.model and one.is_enabled for one in after) else FULL


def _rescued(after: Iterable[ModelEntry]) -> list[ModelEntry]:
    """Versions that would be all that is left of a model, without a weight: they take what was the others'."""
    enabled: dict[str, list[ModelEntry]] = {}
    for entry in after:
        if entry.is_enabled:
            enabled.setdefault(entry.model, []).append(entry)
    left = [versions for versions in enabled.values() if not any(entry.weight for entry in versions)]
    return [replace(entry, weight=FULL) for versions in left for entry in versions]
