"""Weights of a model's versions on the way of a rollout: whole numbers that sum to 100."""

from collections.abc import Mapping
from dataclasses import replace

from serve_app.registry.entry import ModelEntry
from serve_app.rollout.rollout import Rollout


def stepped(versions: tuple[ModelEntry, ...], rollout: Rollout) -> tuple[ModelEntry, ...]:
    """Those that change when the new version takes its step's share and the others theirs of what is left.

    A version that came after the rollout began takes nothing. Without steps nothing changes.
    """
    if not rollout.steps:
        return ()
    others = {v.version: rollout.before.get(v.version, 0) for v in versions if v.is_enabled}
    others.pop(rollout.to_version, None)
    weights = {**shared(100 - rollout.percent, others), rollout.to_version: rollout.percent}
    return weighed(versions, weights)


def restored(versions: tuple[ModelEntry, ...], rollout: Rollout, *, failed: bool = False) -> tuple[ModelEntry, ...]:
    """Those that change when all is as before. `failed`: of the new version, which takes nothing until it is enabled
    by an operator."""
    weights = {v.version: 0 for v in versions if v.is_enabled} | dict(rollout.before)
    back = (replace(v, weight=weights.get(v.version, v.weight)) for v in versions)
    judged = (replace(v, status="failed") if failed and v.version == rollout.to_version else v for v in back)
    return tuple(after for after, before in zip(judged, versions, strict=True) if after != before)


def all_to(versions: tuple[ModelEntry, ...], entry: ModelEntry) -> tuple[ModelEntry, ...]:
    """Those that change; one that is not enabled loses its weight too, or it would take requests once it is."""
    return weighed(versions, {v.version: 100 if v.key == entry.key else 0 for v in versions})


def weighed(versions: tuple[ModelEntry, ...], weights: Mapping[str, int]) -> tuple[ModelEntry, ...]:
    wanted = (replace(v, weight=weights.get(v.version, v.weight)) for v in versions)
    return tuple(after for after, before in zip(wanted, versions, strict=True) if after != before)


def shared(total: int, parts: Mapping[str, int]) -> dict[str, int]:
    """`total` in proportion to `parts`, by largest remainder: each is less than 1 off. Empty parts take nothing."""
    whole = sum(parts.values())
    if not whole:
        return dict.fromkeys(parts, 0)
    given = {name: total * part // whole for name, part in parts.items()}
    left = total - sum(given.values())
    for name in sorted(parts, key=lambda name: (-(total * parts[name] % whole), name))[:left]:
        given[name] += 1
    return given
