"""What a change makes of a registry: the same for every store."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from serve_app.errors import Conflict
from serve_app.registry.entry import ModelEntry
from serve_app.registry.plain import plain
from serve_app.registry.snapshot import Audit, Change, Snapshot
from serve_app.rollout.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    snapshot: Snapshot
    """The registry afterwards, a revision later."""
    change: Change
    """As it is written: each key and id once, entries with their times, and removed only what was there and is not put.
    Where that leaves nothing, nothing is written."""
    audit: tuple[Audit, ...]


def apply(change: Change, snapshot: Snapshot, *, at: float, first_audit: int) -> Applied:
    """`at`: Unix seconds of the change; `first_audit`: id of its first audit row, the others follow.

    Raises Conflict where a model would have two rollouts under way.
    """
    stood = {entry.key: entry for entry in snapshot.entries}
    running = {rollout.id: rollout for rollout in snapshot.rollouts}
    put = {entry.key: entry for entry in change.put}
    written = replace(
        change,
        put=tuple(_timed(entry, stood.get(key), at) for key, entry in put.items()),
        removed=tuple(key for key in dict.fromkeys(change.removed) if key in stood and key not in put),
        rollouts=tuple({rollout.id: rollout for rollout in change.rollouts}.values()),
    )
    entries = {key: entry for key, entry in stood.items() if key not in written.removed}
    entries |= {entry.key: entry for entry in written.put}
    under_way = [r for r in (running | {r.id: r for r in written.rollouts}).values() if r.is_under_way]
    _check(under_way)
    after = Snapshot(
        revision=snapshot.revision + 1,
        entries=tuple(entries[key] for key in sorted(entries)),
        rollouts=tuple(sorted(under_way, key=lambda rollout: rollout.id)),
    )
    steps = zip(count(first_audit), _steps(written, stood, running), strict=False)
    audit = tuple(_audit(number, at, written, before, now) for number, (before, now) in steps)
    return Applied(snapshot=after, change=written, audit=audit)


Record = ModelEntry | Rollout
Step = tuple[Record | None, Record | None]


def _steps(
    change: Change, stood: dict[tuple[str, str, str], ModelEntry], running: dict[str, Rollout]
) -> Iterator[Step]:
    """Before and after of everything that is touched."""
    yield from ((stood[key], None) for key in change.removed)
    yield from ((stood.get(entry.key), entry) for entry in change.put)
    yield from ((running.get(rollout.id), rollout) for rollout in change.rollouts)


def _audit(number: int, at: float, change: Change, before: Record | None, now: Record | None) -> Audit:
    touched = now or before
    assert touched is not None
    return Audit(
        id=number,
        at=at,
        who=change.who,
        action=change.action,
        model=touched.model,
        version=touched.version if isinstance(touched, ModelEntry) else touched.to_version,
        environment=touched.environment,
        before=plain(before) if before else None,
        after=plain(now) if now else None,
        why=change.why,
        figures=dict(change.figures),
    )


def _timed(entry: ModelEntry, stood: ModelEntry | None, at: float) -> ModelEntry:
    return replace(entry, created_at=stood.created_at if stood else at, updated_at=at)


def _check(under_way: list[Rollout]) -> None:
    seen: set[tuple[str, str]] = set()
    for rollout in under_way:
        place = (rollout.model, rollout.environment)
        if place in seen:
            found = f"{rollout.model!r} has a rollout under way in {rollout.environment}"
            raise Conflict(f"rollout: {found}; promote it or roll it back first")
        seen.add(place)
