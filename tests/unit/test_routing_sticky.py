"""Weights of versions: exact in the long run, and the same version again for who was there before."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.routing import sticky
from serve_app.turn import Turn
from tests.unit.routed import Routing, asking, entry, rollout

REQUESTS = 10_000
DRAWN = "12121122112212121221211112221212"
SPLITS = [(95, 5), (50, 50)]


def split(stable: int, canary: int) -> Routing:
    return Routing.over(entry(version="1", weight=stable), entry(version="2", weight=canary))


def shares(routing: Routing, turns: Iterable[Turn]) -> dict[str, float]:
    seen = Counter(routing.version(turn) for turn in turns)
    return {version: count / seen.total() for version, count in seen.items()}


@pytest.mark.parametrize(("stable", "canary"), SPLITS)
def test_first_questions_of_nobody_in_particular_are_dealt_exactly(stable: int, canary: int) -> None:
    seen = shares(split(stable, canary), (asking("hello") for _ in range(REQUESTS)))
    assert seen["2"] == pytest.approx(canary / 100, abs=(sticky.MOST_LEEWAY + 1) / REQUESTS)


@pytest.mark.parametrize(("stable", "canary"), SPLITS)
def test_whatever_they_ask(stable: int, canary: int) -> None:
    seen = shares(split(stable, canary), (asking(f"question {n}") for n in range(REQUESTS)))
    assert seen["2"] == pytest.approx(canary / 100, abs=(sticky.MOST_LEEWAY + 1) / REQUESTS)


def test_prompts_that_are_no_conversation_take_exact_turns() -> None:
    routing = split(75, 25)
    seen = [routing.version(asking("hello", operation="completion")) for _ in range(100)]
    assert all(seen[at : at + 4].count("2") == 1 for at in range(0, 100, 4))


@given(st.lists(st.integers(0, 100), min_size=2, max_size=5).filter(any), st.integers(1, 300))
def test_after_any_number_of_requests_each_version_is_near_its_share(weights: list[int], count: int) -> None:
    routing = Routing.over(*(entry(version=str(n), weight=weight) for n, weight in enumerate(weights)))
    seen = Counter(routing.version(asking("hello")) for _ in range(count))
    # Smooth turns of n versions stay within n - 1 of their due; of two, within one.
    off = [abs(seen[str(n)] - count * weight / sum(weights)) for n, weight in enumerate(weights)]
    assert max(off) <= sticky.LEEWAY + 1 + max(1, len(weights) - 1)


@pytest.mark.parametrize("named", ["user", "session"])
@pytest.mark.parametrize(("stable", "canary"), SPLITS)
def test_callers_with_a_name_come_in_proportion(stable: int, canary: int, named: str) -> None:
    seen = shares(split(stable, canary), (called(named, number) for number in range(REQUESTS)))
    assert seen["2"] == pytest.approx(canary / 100, abs=0.01)


def test_the_turns_make_up_for_what_the_names_did() -> None:
    """Two users of a hundred questions each, of which one sits on the canary, among people without a name."""
    routing = split(90, 10)
    busy = [called("user", number) for number in range(2) for _ in range(100)]
    mixed = [turn for turn in busy for turn in (turn, *(asking("hello") for _ in range(9)))]
    assert shares(routing, mixed)["2"] == pytest.approx(0.1, abs=8 / 2_000)


def test_one_busy_session_does_not_take_the_version_from_everybody_else() -> None:
    routing = split(50, 50)
    turn = called("session", 1)
    kept = routing.version(turn)
    for _ in range(5_000):
        routing.version(turn)
    others = [routing.version(asking("hello")) for _ in range(1_000)]
    assert others.count(kept) >= (1_000 - 2 * sticky.MOST_OWED) / 2 - 1


@pytest.mark.parametrize("named", ["user", "session"])
def test_a_name_keeps_its_version_over_processes_and_copies(named: str) -> None:
    turns = [called(named, number) for number in range(200)]
    first, second = split(70, 30), split(70, 30)
    second.becomes(*reversed(second.snapshot.entries))
    assert [first.version(turn) for turn in turns] == [second.version(turn) for turn in reversed(turns)][::-1]


def test_a_growing_weight_only_moves_callers_to_it() -> None:
    turns = [called("session", number) for number in range(2_000)]
    before = {"1": 60, "2": 40, "3": 0}
    routing = Routing.over(entry(version="1", weight=60), entry(version="2", weight=40), entry(version="3", weight=0))
    was = [routing.version(turn) for turn in turns]
    for one, two, canary in ((57, 38, 5), (45, 30, 25), (30, 20, 50), (0, 0, 100)):
        weights = {"1": one, "2": two, "3": canary}
        routing.becomes(
            *(entry(version=version, weight=weight) for version, weight in weights.items()),
            rollouts=(rollout("3", before),),
        )
        now = [routing.version(turn) for turn in turns]
        assert {after for old, after in zip(was, now, strict=True) if old != after} == {"3"}
        was = now


def test_a_rollback_brings_everybody_back_to_where_they_were() -> None:
    turns = [called("session", number) for number in range(500)]
    routing = Routing.over(entry(version="1", weight=60), entry(version="2", weight=40))
    was = [routing.version(turn) for turn in turns]
    stable = (entry(version="1", weight=45), entry(version="2", weight=30))
    routing.becomes(*stable, entry(version="3", weight=25))
    routing.becomes(entry(version="1", weight=60), entry(version="2", weight=40), entry(version="3", weight=0))
    assert [routing.version(turn) for turn in turns] == was


def test_two_tenants_sessions_of_one_name_are_two() -> None:
    routing = split(50, 50)
    ours = [routing.version(called("session", n)) for n in range(200)]
    theirs = [routing.version(called("session", n, tenant="umbrella")) for n in range(200)]
    assert ours != theirs


def test_a_session_counts_before_a_user_unless_it_is_told_otherwise() -> None:
    turns = [asking(session=f"s{n}", parameters={"user": "ann"}) for n in range(50)]
    assert len({split(50, 50).version(turn) for turn in turns}) == 2
    by_user = Routing.over(entry(version="1"), entry(version="2"), sticky="user")
    assert len({by_user.version(turn) for turn in turns}) == 1


def test_a_user_may_go_by_openais_later_name_for_it() -> None:
    one, other = split(50, 50), split(50, 50)
    early = [one.version(asking(parameters={"user": f"u{n}"})) for n in range(50)]
    assert early == [other.version(asking(parameters={"safety_identifier": f"u{n}"})) for n in range(50)]


def test_stickiness_by_key_asks_for_nothing_else() -> None:
    routing = Routing.over(entry(version="1"), entry(version="2"), sticky="key")
    assert len({routing.version(asking(session=f"s{n}")) for n in range(50)}) == 1
    assert len({routing.version(asking(key=f"k{n}")) for n in range(50)}) == 2


def test_a_conversation_without_a_name_stays_where_it_began() -> None:
    routing = split(50, 50)
    began = {n: routing.version(asking(f"question {n}")) for n in range(100)}
    assert set(began.values()) == {"1", "2"}
    for n, version in began.items():
        assert routing.version(asking("And then?", answered=[(f"question {n}", "So.")])) == version
        assert routing.version(asking("Why?", answered=[(f"question {n}", "So."), ("And then?", "Ha.")])) == version


@pytest.mark.parametrize(("stable", "canary"), SPLITS)
def test_nearly_all_conversations_without_a_name_stay_where_they_began_on_another_replica_too(
    stable: int, canary: int
) -> None:
    here, there = split(stable, canary), split(stable, canary)
    began = [here.version(asking(f"question {n}")) for n in range(2_000)]
    later = [there.version(asking("And then?", answered=[(f"question {n}", "So.")])) for n in range(2_000)]
    assert sum(one != other for one, other in zip(began, later, strict=True)) <= 0.04 * len(began)


def test_a_conversation_that_began_elsewhere_is_given_one_version_by_everybody() -> None:
    turns = [asking("And then?", answered=[(f"question {n}", "So.")]) for n in range(100)]
    first, second = split(50, 50), split(50, 50)
    assert [first.version(turn) for turn in turns] == [second.version(turn) for turn in turns]
    assert {first.version(turn) for turn in turns} == {"1", "2"}


def test_a_conversation_leaves_a_version_that_has_no_weight_any_more() -> None:
    routing = split(50, 50)
    began = {n: routing.version(asking(f"question {n}")) for n in range(20)}
    routing.becomes(entry(version="1", weight=100), entry(version="2", weight=0))
    later = [asking("And then?", answered=[(f"question {n}", "So.")]) for n in began]
    assert {routing.version(turn) for turn in later} == {"1"}


def test_only_the_latest_conversations_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sticky, "REMEMBERED", 3)
    routing = split(50, 50)
    for number in range(10):
        routing.version(asking(f"question {number}"))
    assert len(routing.router._sticky.began) == 3


def test_the_name_a_caller_is_known_by_stands_in_no_receipt() -> None:
    route = split(50, 50).router.route(asking(session="ann@example.org"), None)
    assert route.facts["sticky"]["by"] == "session"
    assert "ann" not in str(route.facts) + route.reason


def test_the_share_and_what_it_went_by_stand_in_the_reason() -> None:
    routing = split(0, 100)
    routing.becomes(entry(version="1", weight=0), entry(version="2", weight=100))
    assert routing.router.route(asking(), None).reason == "explicit"
    assert split(95, 5).router.route(asking(), None).reason == "explicit; chat@1 95% by turn"


def called(named: str, number: int, **changes: object) -> Turn:
    if named == "user":
        return asking(parameters={"user": f"user-{number}"}, **changes)
    return asking(session=f"session-{number}", **changes)


def test_an_upgrade_moves_nobody() -> None:
    """What was drawn with an earlier release; another way of drawing would move half of all callers."""
    routing = split(50, 50)
    assert "".join(routing.version(called("session", number)) for number in range(32)) == DRAWN
