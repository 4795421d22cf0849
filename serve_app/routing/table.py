"""A registry's copy as routing reads it: who is enabled, with which share of a model's requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Versions:
    """The enabled versions of one model."""

    entries: tuple[ModelEntry, ...]
    weighted: tuple[ModelEntry, ...]
    """Those with a weight, the heaviest first: the ones that are chosen from."""
    shares: Mapping[str, float]
    """By version, of those with a weight; 1 in sum."""
    spare: tuple[ModelEntry, ...]
    """Without a weight now, but with one before the rollout that is under way: they may answer in another's place."""
    rollout: Rollout | None

    @classmethod
    def of(cls, entries: tuple[ModelEntry, ...], rollout: Rollout | None) -> "Versions":
        weighted = tuple(sorted((e for e in entries if e.weight), key=lambda e: (-e.weight, e.version)))
        total = sum(entry.weight for entry in weighted)
        before = rollout.before if rollout else {}
        return cls(
            entries=entries,
            weighted=weighted,
            shares={entry.version: entry.weight / total for entry in weighted},
            spare=tuple(entry for entry in entries if not entry.weight and before.get(entry.version)),
            rollout=rollout,
        )


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """What one environment serves."""

    revision: int
    models: Mapping[str, Versions]
    """Models with at least one enabled version."""
    named: Mapping[str, ModelEntry]
    """Enabled versions by `model@version`, those without a weight too."""
    off: Mapping[str, ModelEntry]
    """By model, and by `model@version`: those that are in the registry but not enabled."""

    @classmethod
    def of(cls, snapshot: Snapshot, environment: str) -> "RoutingTable":
        here = [entry for entry in snapshot.entries if entry.environment == environment]
        enabled = [entry for entry in here if entry.is_enabled]
        models = {
            model: Versions.of(entries, snapshot.rollout(model, environment))
            for model, entries in _by_model(enabled).items()
        }
        off = [entry for entry in here if not entry.is_enabled]
        return cls(
            revision=snapshot.revision,
            models=models,
            named={entry.name: entry for entry in enabled},
            off={**{e.model: e for e in off if e.model not in models}, **{entry.name: entry for entry in off}},
        )

    def serves(self, name: str) -> bool:
        """`name`: a model, or `model@version`."""
        return name in self.models or name in self.named

    def reached(self, name: str) -> tuple[ModelEntry, ...]:
        """The enabled versions that a name may come to; none where it is not served."""
        if name in self.models:
            return self.models[name].entries
        return (self.named[name],) if name in self.named else ()


def _by_model(entries: Iterable[ModelEntry]) -> dict[str, tuple[ModelEntry, ...]]:
    found: dict[str, tuple[ModelEntry, ...]] = {}
    for entry in entries:
        found[entry.model] = (*found.get(entry.model, ()), entry)
    return found
