"""What becomes of the registry when a rollout begins, goes on and ends: each a pure decision over all of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from serve_app.errors import Conflict
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Change, Decide, Snapshot
from serve_app.rollout.refusals import (
    check_plan,
    comparable,
    known,
    refuse_going_on,
    refuse_nothing_left,
    refuse_second,
    routable,
    under_way,
)
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.weights import all_to, restored, stepped


def start(
    *,
    id: str,
    model: str,
    environment: str,
    to_version: str,
    steps: tuple[int, ...],
    hold_s: float,
    shadow_percent: int = 0,
    who: str,
    why: str = "",
    now: float,
) -> Decide:
    """Sends the first step's share of the model's requests to `to_version`. `now`: Unix seconds."""

    def decide(snapshot: Snapshot) -> Change:
        check_plan(steps, hold_s, shadow_percent)
        entry = known(snapshot, model, environment, to_version)
        refuse_second(snapshot, model, environment)
        rollout = Rollout(
            id=id,
            model=model,
            environment=environment,
            to_version=to_version,
            before=comparable(snapshot, entry),
            steps=steps,
            hold_s=hold_s,
            shadow_percent=shadow_percent,
            started_at=now,
            step_started_at=now,
            started_by=who,
        )
        put = stepped(versions(snapshot, rollout), rollout)
        return Change(action="rollout-start", who=who, why=why, put=put, rollouts=(rollout,))

    return decide


def step(
    id: str, at_step: int, *, who: str, why: str = "", now: float, figures: Mapping[str, Any] | None = None
) -> Decide:
    """From `at_step` to the one after it; at 100 % the rollout has ended. Changes nothing where that was done already,
    or the rollout is not running any more: several replicas may find at once that it is time."""

    def decide(snapshot: Snapshot) -> Change:
        rollout = next((one for one in snapshot.rollouts if one.id == id), None)
        if rollout is None or rollout.state != "running" or rollout.step != at_step or rollout.is_at_its_last:
            return Change(action="rollout-step", who=who)
        after = replace(rollout, step=at_step + 1, step_started_at=now)
        if after.percent == 100:
            return promoted(snapshot, after, who, why, now, figures)
        put = stepped(versions(snapshot, after), after)
        return Change(action="rollout-step", who=who, why=why, put=put, rollouts=(after,), figures=figures or {})

    return decide


def promote(model: str, environment: str, *, who: str, why: str = "", now: float) -> Decide:
    """All requests to the new version at once, whatever its gates say."""

    def decide(snapshot: Snapshot) -> Change:
        return promoted(snapshot, under_way(snapshot, model, environment), who, why, now)

    return decide


def pause(model: str, environment: str, *, who: str, why: str = "", now: float) -> Decide:
    """Stays on its step; a breach still takes it back."""

    def decide(snapshot: Snapshot) -> Change:
        rollout = under_way(snapshot, model, environment)
        if rollout.state == "paused":
            raise Conflict(f"model: the rollout of {model} is paused already; `manta rollout resume {model}` goes on")
        after = replace(rollout, state="paused", reason=why)
        return Change(action="rollout-pause", who=who, why=why, rollouts=(after,))

    return decide


def resume(model: str, environment: str, *, who: str, why: str = "", now: float) -> Decide:
    """The step's hold begins anew: nobody watched over the time it was paused for."""

    def decide(snapshot: Snapshot) -> Change:
        rollout = under_way(snapshot, model, environment)
        if rollout.state != "paused":
            raise Conflict(f"model: the rollout of {model} is not paused; `manta rollout status {model}` shows it")
        after = replace(rollout, state="running", reason="", step_started_at=now)
        return Change(action="rollout-resume", who=who, why=why, rollouts=(after,))

    return decide


def rollback(
    model: str,
    environment: str,
    *,
    last: Rollout | None = None,
    to_version: str | None = None,
    who: str,
    why: str = "",
    now: float,
) -> Decide:
    """By an operator. Weights as before the rollout under way; without one, as before `last`, the newest that ended;
    with `to_version`, all to that one. The version gone back from stays enabled."""

    def decide(snapshot: Snapshot) -> Change:
        rollout = snapshot.rollout(model, environment) or undoable(last, model, environment)
        if to_version is not None:
            refuse_going_on(rollout, to_version)
            put = all_to(snapshot.versions(model, environment), routable(snapshot, model, environment, to_version))
            if not put and not (rollout and rollout.is_under_way):
                raise Conflict(f"to: version {to_version} of {model} takes all its requests already")
        elif rollout is None:
            known(snapshot, model, environment)
            raise Conflict(
                f"model: {model} has no rollout in {environment} to go back from; name a version with --to, "
                f"or set weights with `manta registry register --model {model} --version V --weight N`"
            )
        else:
            put = restored(versions(snapshot, rollout), rollout)
            refuse_nothing_left(snapshot, rollout, put)
        ended = (ended_as("rolled_back", rollout, why, now),) if rollout else ()
        return Change(action="rollout-rollback", who=who, why=why, put=put, rollouts=ended)

    return decide


def rollback_by_verdict(id: str, *, who: str, why: str, now: float, figures: Mapping[str, Any]) -> Decide:
    """Weights as before, and the version has failed: it takes no requests until it is enabled again. Changes nothing
    where the rollout has ended already: several replicas may come to the same verdict."""

    def decide(snapshot: Snapshot) -> Change:
        rollout = next((one for one in snapshot.rollouts if one.id == id), None)
        if rollout is None:
            return Change(action="rollout-rollback", who=who)
        put = restored(versions(snapshot, rollout), rollout, failed=True)
        refuse_nothing_left(snapshot, rollout, put)
        ended = replace(ended_as("rolled_back", rollout, why, now), figures=figures)
        return Change(action="rollout-rollback", who=who, why=why, put=put, rollouts=(ended,), figures=figures)

    return decide


def promoted(
    snapshot: Snapshot, rollout: Rollout, who: str, why: str, now: float, figures: Mapping[str, Any] | None = None
) -> Change:
    entry = routable(snapshot, rollout.model, rollout.environment, rollout.to_version)
    ended = replace(ended_as("promoted", rollout, why, now), figures=figures or {})
    put = all_to(versions(snapshot, rollout), entry)
    return Change(action="rollout-promote", who=who, why=why, put=put, rollouts=(ended,), figures=figures or {})


def ended_as(state: Any, rollout: Rollout, why: str, now: float) -> Rollout:
    return replace(rollout, state=state, ended_at=now, reason=why)


def versions(snapshot: Snapshot, rollout: Rollout) -> tuple[ModelEntry, ...]:
    return snapshot.versions(rollout.model, rollout.environment)


def undoable(last: Rollout | None, model: str, environment: str) -> Rollout | None:
    if last and (last.model, last.environment, last.state) == (model, environment, "promoted"):
        return last
    return None
