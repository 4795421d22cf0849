"""Why a rollout cannot begin, go on or go back: a sentence with the way out."""

import math
from collections.abc import Mapping

from serve_app.errors import Conflict, InvalidRequest, NotFound
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.rollout import Rollout


def check_plan(steps: tuple[int, ...], hold_s: float, shadow_percent: int) -> None:
    written = ",".join(map(str, steps))
    if not steps and not shadow_percent:
        raise InvalidRequest("steps: a rollout without steps needs a share for shadow traffic; give one of the two")
    if any(not 1 <= percent <= 100 for percent in steps):
        raise InvalidRequest(f"steps: {written} has a step outside 1 to 100; they are percent of the model's requests")
    if any(after <= before for before, after in zip(steps, steps[1:], strict=False)):
        raise InvalidRequest(f"steps: {written} do not rise; give them in rising order, as in 5,25,50,100")
    if steps and steps[0] == 100:
        raise InvalidRequest("steps: 100 as the first leaves no requests to compare with; begin lower, as in 5,25,100")
    if not (math.isfinite(hold_s) and hold_s >= 0):
        raise InvalidRequest(f"hold: {hold_s} is no time in seconds; give 0 or more")
    if not 0 <= shadow_percent <= 100:
        raise InvalidRequest(f"shadow: {shadow_percent} is outside 0 to 100; it is percent of the model's requests")


def known(snapshot: Snapshot, model: str, environment: str, version: str | None = None) -> ModelEntry:
    """The entry of this version, or of any. Raises NotFound naming those there are."""
    found = snapshot.versions(model, environment)
    if not found:
        names = sorted({entry.model for entry in snapshot.entries if entry.environment == environment})
        there = f"there are: {', '.join(names)}" if names else "none is registered there"
        raise NotFound(f"model: no model {model!r} in {environment}; {there}")
    for entry in found:
        if version in (None, entry.version):
            return entry
    there = ", ".join(sorted(entry.version for entry in found))
    raise NotFound(f"version: {model} has no version {version!r} in {environment}; there are: {there}")


def routable(snapshot: Snapshot, model: str, environment: str, version: str) -> ModelEntry:
    entry = known(snapshot, model, environment, version)
    if not entry.is_enabled:
        raise Conflict(
            f"version: {entry.name} is {entry.status} in {environment}; "
            f"`manta registry enable` checks and enables it first"
        )
    return entry


def comparable(snapshot: Snapshot, entry: ModelEntry) -> Mapping[str, int]:
    """Weights of the enabled versions. Raises where none but `entry` takes requests."""
    routable(snapshot, entry.model, entry.environment, entry.version)
    before = {one.version: one.weight for one in snapshot.versions(entry.model, entry.environment) if one.is_enabled}
    if not any(weight for version, weight in before.items() if version != entry.version):
        raise Conflict(
            f"version: no other version of {entry.model} takes requests in {entry.environment} that {entry.version} "
            f"could be compared with; it needs no rollout"
        )
    return before


def refuse_second(snapshot: Snapshot, model: str, environment: str) -> None:
    rollout = snapshot.rollout(model, environment)
    if rollout:
        raise Conflict(
            f"model: {model} has a rollout to version {rollout.to_version} under way in {environment}, at "
            f"{rollout.percent} % and {rollout.state}; `manta rollout promote {model}` or "
            f"`manta rollout rollback {model}` ends it"
        )


def refuse_going_on(rollout: Rollout | None, to_version: str) -> None:
    """A rollback to the new version of a rollout under way would be its promotion."""
    if rollout and rollout.is_under_way and to_version == rollout.to_version:
        raise Conflict(
            f"to: version {to_version} is what the rollout of {rollout.model} goes to; "
            f"`manta rollout promote {rollout.model}` sends it all requests"
        )


def refuse_nothing_left(snapshot: Snapshot, rollout: Rollout, put: tuple[ModelEntry, ...]) -> None:
    after = {entry.key: entry for entry in (*snapshot.versions(rollout.model, rollout.environment), *put)}
    if not any(entry.weight for entry in after.values() if entry.is_enabled):
        versions_before = ", ".join(sorted(version for version, weight in rollout.before.items() if weight))
        raise Conflict(
            f"model: what {rollout.model} would go back to (version {versions_before}) is not enabled any more in "
            f"{rollout.environment}; `manta registry enable` it, or name another version with --to"
        )


def under_way(snapshot: Snapshot, model: str, environment: str) -> Rollout:
    rollout = snapshot.rollout(model, environment)
    if rollout is None:
        known(snapshot, model, environment)
        raise Conflict(
            f"model: no rollout of {model} is under way in {environment}; "
            f"`manta rollout start {model} --to VERSION` begins one"
        )
    return rollout
