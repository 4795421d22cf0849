"""What no change may do to a model, whoever asks for it."""

from serve_app.errors import Conflict, InvalidRequest
from serve_app.registry.checked import moved
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.rollout import Rollout

Versions = dict[str, ModelEntry]


def refuse_no_weight(snapshot: Snapshot, stood: ModelEntry | None, entry: ModelEntry | None) -> None:
    """An enabled model whose versions all have weight 0 would be offered, and answered by none."""
    _, after = _before_and_after(snapshot, stood, entry)
    enabled = [one for one in after.values() if one.is_enabled]
    if enabled and not any(one.weight for one in enabled):
        model, versions = enabled[0].model, ", ".join(one.version for one in enabled)
        raise InvalidRequest(
            f"weight: no enabled version of {model} in {enabled[0].environment} would have a weight above 0 "
            f"(enabled: {versions}); give one of them 1 to 100 first"
        ).at("weight")


def refuse_against_rollout(snapshot: Snapshot, stood: ModelEntry | None, entry: ModelEntry | None) -> None:
    """While a rollout is under way the shares are its own, and what it compares stays where it is."""
    touched = entry or stood
    assert touched is not None
    rollout = snapshot.rollout(touched.model, touched.environment)
    if rollout is None:
        return
    before, after = _before_and_after(snapshot, stood, entry)
    gone = sorted(version for version in needed(rollout) if not _stays(before.get(version), after.get(version)))
    if gone:
        raise Conflict(
            f"version: {rollout.model}@{gone[0]} is part of the rollout to {rollout.to_version} under way in "
            f"{rollout.environment}; end it first with {_ends(rollout)}"
        ).at("version")
    if _weights(before) != _weights(after):
        raise Conflict(
            f"weight: the rollout of {rollout.model} to {rollout.to_version} under way in {rollout.environment} "
            f"sets its weights; end it first with {_ends(rollout)}"
        ).at("weight")


def needed(rollout: Rollout) -> frozenset[str]:
    """Versions that the rollout compares, or goes back to."""
    return frozenset({rollout.to_version, *(version for version, weight in rollout.before.items() if weight)})


def _ends(rollout: Rollout) -> str:
    return f"`manta rollout promote {rollout.model}` or `manta rollout rollback {rollout.model}`"


def _stays(before: ModelEntry | None, after: ModelEntry | None) -> bool:
    return before is None or (after is not None and after.is_enabled and not moved(before, after))


def _weights(versions: Versions) -> dict[str, int]:
    return {version: one.weight for version, one in versions.items() if one.is_enabled and one.weight}


def _before_and_after(
    snapshot: Snapshot, stood: ModelEntry | None, entry: ModelEntry | None
) -> tuple[Versions, Versions]:
    """Versions of the model that is touched, by version."""
    touched = entry or stood
    assert touched is not None
    before = {one.version: one for one in snapshot.versions(touched.model, touched.environment)}
    after = {version: one for version, one in before.items() if version != touched.version}
    return before, after | ({entry.version: entry} if entry else {})
