"""What becomes of weights, statuses and the rollout itself, decided over a registry that is a value."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import Conflict, InvalidRequest, MantaError, NotFound
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Change, Decide, Snapshot
from serve_app.rollout.changes import pause, promote, resume, rollback, rollback_by_verdict, start, step
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.weights import shared

BY: dict[str, Any] = {"who": "olga", "why": "", "now": 1000.0}


def entry(version: str, weight: int = 0, **fields: Any) -> ModelEntry:
    known = {"endpoint": f"serve://m{version}", "engine": "vllm", "status": "enabled", "environment": "staging"}
    return ModelEntry(**{"model": "m", **known, "version": version, "weight": weight, **fields})


def registry(*entries: ModelEntry, rollouts: tuple[Rollout, ...] = ()) -> Snapshot:
    return Snapshot(entries=entries or (entry("1", 100), entry("2")), rollouts=rollouts)


def applied(snapshot: Snapshot, decide: Decide) -> Snapshot:
    change = decide(snapshot)
    entries = {e.key: e for e in (*snapshot.entries, *change.put)}
    rollouts = {r.id: r for r in (*snapshot.rollouts, *change.rollouts)}
    under_way = tuple(r for r in rollouts.values() if r.is_under_way)
    return Snapshot(entries=tuple(entries.values()), rollouts=under_way)


def ended(snapshot: Snapshot, decide: Decide) -> Rollout:
    (rollout,) = decide(snapshot).rollouts
    return rollout


def begun(snapshot: Snapshot | None = None, **plan: Any) -> Snapshot:
    return applied(snapshot or registry(), starting(**plan))


def starting(**plan: Any) -> Decide:
    usual = {"id": "r1", "model": "m", "environment": "staging", "to_version": "2", "steps": (5, 25, 100), "hold_s": 60}
    return start(**{**usual, **BY, **plan})


def weights(snapshot: Snapshot) -> dict[str, int]:
    return {e.version: e.weight for e in snapshot.entries if e.environment == "staging"}


def test_a_start_takes_its_first_step_and_remembers_what_was_before() -> None:
    after = begun()
    assert weights(after) == {"1": 95, "2": 5}
    (rollout,) = after.rollouts
    assert (rollout.before, rollout.percent, rollout.step_started_at) == ({"1": 100, "2": 0}, 5, 1000.0)


def test_the_others_share_the_rest_as_they_did() -> None:
    after = begun(registry(entry("1", 20), entry("2"), entry("3", 10), entry("4", 90, status="disabled")))
    assert weights(after) == {"1": 63, "2": 5, "3": 32, "4": 90}


def test_each_step_is_taken_once_however_many_replicas_ask_for_it() -> None:
    after = applied(applied(begun(), step("r1", 0, **BY)), step("r1", 0, **BY))
    assert weights(after) == {"1": 75, "2": 25} and after.rollouts[0].step == 1


def test_the_step_to_100_percent_ends_the_rollout() -> None:
    after = applied(begun(), step("r1", 0, **BY))
    assert ended(after, step("r1", 1, **BY)).state == "promoted"
    assert weights(applied(after, step("r1", 1, **BY))) == {"1": 0, "2": 100}


def test_steps_that_do_not_lead_to_100_end_at_the_last_until_an_operator_promotes() -> None:
    before = begun(steps=(5,))
    assert step("r1", 0, **BY)(before).is_empty
    assert weights(applied(before, promote("m", "staging", **BY))) == {"1": 0, "2": 100}


def test_shadow_traffic_alone_changes_no_weight() -> None:
    assert weights(begun(steps=(), shadow_percent=10)) == {"1": 100, "2": 0}


def test_a_paused_rollout_takes_no_step_and_its_hold_begins_anew_when_it_goes_on() -> None:
    paused = applied(begun(), pause("m", "staging", **BY))
    assert step("r1", 0, **BY)(paused).is_empty
    resumed = applied(paused, resume("m", "staging", who="olga", now=5000.0))
    assert resumed.rollouts[0].step_started_at == 5000.0
    assert not step("r1", 0, **BY)(resumed).is_empty


def test_an_operator_rolls_back_to_the_weights_before_and_the_version_stays_enabled() -> None:
    before = registry(entry("1", 60), entry("2"), entry("3", 40))
    after = applied(begun(before), rollback("m", "staging", **BY))
    assert after == before


def test_a_verdict_rolls_back_and_fails_the_version_with_its_figures() -> None:
    decide = rollback_by_verdict("r1", who="gates", why="errors", now=1.0, figures={"gate": "errors"})
    change = decide(begun())
    after = applied(begun(), decide)
    assert weights(after) == {"1": 100, "2": 0}
    assert [e.status for e in after.entries] == ["enabled", "failed"]
    assert change.figures == change.rollouts[0].figures == {"gate": "errors"}
    assert decide(after).is_empty


def test_without_a_rollout_under_way_the_last_promotion_is_undone_once() -> None:
    almost = begun(registry(entry("1", 60), entry("2"), entry("3", 40)), steps=(5, 100))
    last = ended(almost, step("r1", 0, **BY))
    promoted = applied(almost, step("r1", 0, **BY))
    undo = rollback("m", "staging", last=last, **BY)
    assert weights(applied(promoted, undo)) == {"1": 60, "2": 0, "3": 40}
    again = rollback("m", "staging", last=ended(promoted, undo), **BY)
    with pytest.raises(Conflict, match="no rollout in staging to go back from; name a version with --to"):
        again(promoted)


def test_a_rollback_to_a_version_sends_it_everything_and_ends_the_rollout() -> None:
    before = begun(registry(entry("1", 100), entry("2"), entry("3")))
    after = applied(before, rollback("m", "staging", to_version="3", **BY))
    assert weights(after) == {"1": 0, "2": 0, "3": 100} and after.rollouts == ()


REFUSED: list[tuple[Callable[[], Change], type[MantaError], str]] = [
    (lambda: starting(model="n")(registry()), NotFound, "no model 'n' in staging; there are: m"),
    (lambda: starting(model="n", environment="production")(registry()), NotFound, "none is registered there"),
    (lambda: starting(to_version="9")(registry()), NotFound, "no version '9' in staging; there are: 1, 2"),
    (lambda: starting()(registry(entry("1", 100), entry("2", status="failed"))), Conflict, "m@2 is failed"),
    (lambda: starting()(registry(entry("2", 100))), Conflict, "no other version of m takes requests"),
    (lambda: starting()(registry(entry("1"), entry("2", 100))), Conflict, "no other version of m takes requests"),
    (lambda: starting(id="r2")(begun()), Conflict, "rollout to version 2 under way in staging, at 5 % and running"),
    (lambda: starting(steps=(5, 5))(registry()), InvalidRequest, "5,5 do not rise"),
    (lambda: starting(steps=(0, 5))(registry()), InvalidRequest, "outside 1 to 100"),
    (lambda: starting(steps=(5, 101))(registry()), InvalidRequest, "outside 1 to 100"),
    (lambda: starting(steps=(100,))(registry()), InvalidRequest, "no requests to compare with"),
    (lambda: starting(steps=())(registry()), InvalidRequest, "without steps needs a share for shadow"),
    (lambda: starting(hold_s=-1)(registry()), InvalidRequest, "hold: -1 is no time"),
    (lambda: starting(hold_s=float("nan"))(registry()), InvalidRequest, "hold: nan is no time"),
    (lambda: starting(shadow_percent=101)(registry()), InvalidRequest, "shadow: 101 is outside"),
    (lambda: promote("m", "staging", **BY)(registry()), Conflict, "`manta rollout start m --to VERSION` begins one"),
    (lambda: promote("n", "staging", **BY)(registry()), NotFound, "no model 'n'"),
    (lambda: pause("m", "staging", **BY)(registry()), Conflict, "no rollout of m is under way"),
    (lambda: resume("m", "staging", **BY)(begun()), Conflict, "is not paused"),
    (lambda: rollback("m", "staging", **BY)(registry()), Conflict, "no rollout in staging to go back from"),
    (lambda: rollback("n", "staging", **BY)(registry()), NotFound, "no model 'n'"),
    (lambda: rollback("m", "staging", to_version="1", **BY)(registry()), Conflict, "takes all its requests already"),
    (lambda: rollback("m", "staging", to_version="2", **BY)(begun()), Conflict, "`manta rollout promote m`"),
    (lambda: rollback("m", "staging", to_version="9", **BY)(begun()), NotFound, "no version '9'"),
]


@pytest.mark.parametrize(("refused", "error", "sentence"), REFUSED)
def test_what_cannot_be_done_says_why(refused: Callable[[], Change], error: type[MantaError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        refused()


def test_a_pause_is_not_a_pause_twice() -> None:
    with pytest.raises(Conflict, match="is paused already"):
        pause("m", "staging", **BY)(applied(begun(), pause("m", "staging", **BY)))


def test_there_is_no_way_back_to_a_version_that_is_gone() -> None:
    under_way = begun()
    gone = replace(under_way, entries=(entry("1", 95, status="disabled"), entry("2", 5)))
    for decide in (rollback("m", "staging", **BY), rollback_by_verdict("r1", figures={}, **BY)):
        with pytest.raises(Conflict, match=r"go back to \(version 1\) is not enabled any more"):
            decide(gone)


@given(st.integers(0, 100), st.dictionaries(st.text(max_size=3), st.integers(0, 100), min_size=1, max_size=6))
def test_shares_are_whole_sum_up_and_are_less_than_one_off(total: int, parts: dict[str, int]) -> None:
    given_ = shared(total, parts)
    whole = sum(parts.values())
    assert sum(given_.values()) == (total if whole else 0)
    assert all(abs(given_[name] - total * part / (whole or 1)) < 1 for name, part in parts.items())


DECISIONS: list[Callable[[], Decide]] = [
    starting,
    lambda: starting(to_version="1", steps=(10, 50)),
    lambda: starting(to_version="3", steps=(1, 99, 100)),
    lambda: step("r1", 0, **BY),
    lambda: step("r1", 1, **BY),
    lambda: promote("m", "staging", **BY),
    lambda: pause("m", "staging", **BY),
    lambda: resume("m", "staging", **BY),
    lambda: rollback("m", "staging", **BY),
    lambda: rollback("m", "staging", to_version="3", **BY),
    lambda: rollback_by_verdict("r1", figures={}, **BY),
]


@given(st.lists(st.sampled_from(DECISIONS), max_size=12))
def test_no_order_of_steps_leaves_a_model_without_requests_or_with_two_rollouts(order: list[Any]) -> None:
    snapshot = registry(entry("1", 70), entry("2"), entry("3", 30))
    for decision in order:
        try:
            snapshot = applied(snapshot, decision())
        except (Conflict, NotFound):
            continue
        assert any(e.weight for e in snapshot.entries if e.is_enabled)
        assert len(snapshot.rollouts) <= 1
