"""From one environment into another: gates first, and all of the steps or none."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.deployed.applications import Application, Replicas
from serve_app.deployed.gateway import Gateway
from serve_app.errors import Conflict, InvalidRequest, MantaError, RegistryUnavailable
from serve_app.promotion.evaluation import Limits
from serve_app.promotion.gates import Gate, Gates, Wanted
from serve_app.promotion.promotion import Promotion
from serve_app.promotion.undoing import Said, Step, Undone, carry_out
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registry import Registry
from serve_app.registry.snapshot import Change, Snapshot
from serve_app.rollout.operations import Plan, StoredRollouts
from tests.builders import registered

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DIGEST = "sha256:" + "1" * 64


def entry(version: str, environment: Any, **changes: Any) -> ModelEntry:
    known = {"model": "qwen", "endpoint": f"serve://qwen-{version}", "licence": "apache-2.0", "digest": DIGEST}
    return registered(version, environment=environment, **{**known, "owner": "ml", **changes})


OLD, NEW = entry("1", "production"), entry("2", "staging")
WANTED = Wanted(model="qwen", version="2", source="staging", target="production")


async def stored(*entries: ModelEntry) -> MemoryRegistryStore:
    store = MemoryRegistryStore()
    await store.change(lambda _: Change(action="register", who="test", put=entries))
    return store


@dataclass
class Place:
    """A gateway that is well, until it is told otherwise."""

    environment: str = "staging"
    application: Application = field(
        default_factory=lambda: Application(
            name="qwen-2",
            status="RUNNING",
            deployments=(Replicas(deployment="engine", status="HEALTHY", running=1, wanted=1),),
        )
    )
    circuits: dict[str, str] = field(default_factory=dict)
    failure: MantaError | None = None
    is_database: bool = False
    checked: list[ModelEntry] = field(default_factory=list)

    async def gateway(self) -> Gateway | None:
        if self.is_database:
            return None
        return Gateway(environment=self.environment, applications=(self.application,), circuits=self.circuits)

    async def check(self, asked: ModelEntry) -> CheckResult:
        self.checked.append(asked)
        if self.failure:
            raise self.failure
        return CheckResult(steps={"health": "fine", "completion": "1 token"})


@dataclass
class Faulty:
    """Operations that fail at chosen calls of those that change something, before or after they took effect."""

    inner: Any
    log: list[str]
    fails_before: frozenset[int] = frozenset()
    fails_after: frozenset[int] = frozenset()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if name not in ("register", "deregister", "enable", "disable", "start", "act"):
            return method

        async def call(*values: Any, **named: Any) -> Any:
            number = len(self.log)
            self.log.append(name)
            if number in self.fails_before:
                raise RegistryUnavailable(f"call {number} told to fail")
            result = await method(*values, **named)
            if number in self.fails_after:
                raise RegistryUnavailable(f"call {number} told to fail when it was done")
            return result

        return call


def promotion(store: MemoryRegistryStore, target: Place | None = None, **changes: Any) -> Promotion:
    log: list[str] = []
    faults = {name: changes.pop(name) for name in ("fails_before", "fails_after") if name in changes}
    return Promotion(
        wanted=replace(WANTED, **changes),
        registry=Faulty(Registry(store), log, **faults),  # type: ignore[arg-type]
        rollouts=Faulty(StoredRollouts(store), log, **faults),  # type: ignore[arg-type]
        target=target or Place("production"),
        who="ann",
        plan=Plan(model="", environment="", to_version="", steps=(10, 50, 100), hold_s=60),
    )


async def carried(asked: Promotion) -> list[Said]:
    said: list[Said] = []
    await carry_out(asked.steps(await asked.snapshot()), said.append, pause=at_once)
    return said


async def at_once(_: float) -> None:
    """No pause."""


def seen(snapshot: Snapshot) -> tuple[Any, ...]:
    return snapshot.entries, snapshot.rollouts


# --- steps ---


async def test_a_version_comes_into_production_by_a_rollout() -> None:
    store = await stored(OLD, NEW)
    place = Place("production")
    said = await carried(promotion(store, place))
    snapshot = await store.snapshot()
    assert {e.version: (e.status, e.weight) for e in snapshot.versions("qwen", "production")} == {
        "1": ("enabled", 90),
        "2": ("enabled", 10),
    }
    [rollout] = snapshot.rollouts
    assert (rollout.environment, rollout.to_version, rollout.steps) == ("production", "2", (10, 50, 100))
    assert [one.environment for one in place.checked] == ["production"]
    assert [(one.step, one.state) for one in said] == [
        ("production as it is", "done"),
        ("register in production", "done"),
        ("endpoint test for production", "done"),
        ("enable in production", "done"),
        ("rollout in production", "done"),
    ]
    assert snapshot.find(NEW.key) == NEW


async def test_what_the_registry_knows_goes_with_it() -> None:
    source = replace(NEW, capabilities=frozenset({"tools"}), context_tokens=32_768, prompt_price=0.5, owner="ml")
    store = await stored(OLD, source)
    await carried(promotion(store))
    made = (await store.snapshot()).find(("qwen", "2", "production"))
    assert made == replace(source, environment="production", weight=10)


async def test_it_may_run_elsewhere_in_the_other_environment() -> None:
    store = await stored(OLD, NEW)
    place = Place("production")
    await carried(promotion(store, place, endpoint="https://vllm.example"))
    made = (await store.snapshot()).find(("qwen", "2", "production"))
    assert made is not None
    assert (made.endpoint, place.checked[0].endpoint) == ("https://vllm.example", "https://vllm.example")


async def test_at_once_it_takes_all_requests_and_can_go_back() -> None:
    store = await stored(OLD, NEW)
    await carried(promotion(store, at_once=True))
    weights = {e.version: e.weight for e in (await store.snapshot()).versions("qwen", "production")}
    assert weights == {"1": 0, "2": 100}
    back = await StoredRollouts(store).act("rollback", "qwen", "production", who="ann", why="")
    assert back.weights == {"1": 100, "2": 0}


async def test_the_first_version_takes_all_requests() -> None:
    store = await stored(NEW)
    await carried(promotion(store, at_once=True))
    [made] = (await store.snapshot()).versions("qwen", "production")
    assert (made.status, made.weight) == ("enabled", 100)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("moment", ["fails_before", "fails_after"])
async def test_whatever_fails_nothing_is_left_changed(at_once: bool, is_first: bool, moment: str) -> None:
    """Each call that changes something fails in turn, before and after it took effect."""
    number, ended = 0, False
    while not ended:
        store = await stored(NEW) if is_first else await stored(OLD, NEW)
        before = seen(await store.snapshot())
        asked = promotion(store, at_once=at_once, **{moment: frozenset({number})})
        try:
            await carried(asked)
            ended = True
        except Undone as undone:
            assert undone.left == ()
            assert not undone.is_interrupted
            assert seen(await store.snapshot()) == before
        number += 1
    assert number - 1 == (2 if is_first else 4 if at_once else 3)


async def test_an_endpoint_that_fails_in_production_takes_everything_back() -> None:
    store = await stored(OLD, NEW)
    before = seen(await store.snapshot())
    said: list[Said] = []
    asked = promotion(store, Place("production", failure=InvalidRequest("endpoint: qwen-2 does not answer")))
    with pytest.raises(Undone, match="endpoint test for production: endpoint: qwen-2 does not answer"):
        await carry_out(asked.steps(await asked.snapshot()), said.append, at_once)
    assert seen(await store.snapshot()) == before
    assert [(one.step, one.state) for one in said][2:] == [
        ("endpoint test for production", "failed"),
        ("register in production", "undone"),
        ("production as it is", "undone"),
    ]


async def test_an_undo_that_fails_is_told_and_the_others_still_go_back() -> None:
    store = await stored(OLD, NEW)
    said: list[Said] = []
    # calls: register 0, enable 1, start 2, which fails when it is done, then the rollback that undoes it, five times
    asked = promotion(store, fails_after=frozenset({2}), fails_before=frozenset(range(3, 8)))
    with pytest.raises(Undone) as caught:
        await carry_out(asked.steps(await asked.snapshot()), said.append, at_once)
    left = {one.step: one.words for one in caught.value.left}
    assert left["rollout in production"] == "call 7 told to fail"
    assert "end it first with" in left["enable in production"]
    assert "production is not as it was before" in left["production as it is"]
    assert [one for one in said if one.state == "left"] == list(caught.value.left)


@given(st.booleans(), st.booleans(), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_what_is_left_is_told_and_only_that(
    is_first: bool, at_once_: bool, before_effect: set[int], after_effect: set[int]
) -> None:
    """Whichever calls fail, those that undo among them: either all is as it was, or it is said that it is not."""

    async def run() -> None:
        store = await stored(NEW) if is_first else await stored(OLD, NEW)
        before = seen(await store.snapshot())
        faults = {"fails_before": frozenset(before_effect), "fails_after": frozenset(after_effect)}
        try:
            await carried(promotion(store, at_once=at_once_, **faults))
        except Undone as undone:
            assert (seen(await store.snapshot()) == before) or undone.left
        else:
            made = (await store.snapshot()).find(("qwen", "2", "production"))
            assert made is not None
            assert made.is_enabled

    asyncio.run(run())


async def test_a_registry_that_was_away_for_a_moment_is_asked_again() -> None:
    store = await stored(OLD, NEW)
    before = seen(await store.snapshot())
    asked = promotion(store, fails_after=frozenset({2}), fails_before=frozenset({3, 4, 6}))
    with pytest.raises(Undone) as caught:
        await carried(asked)
    assert caught.value.left == ()
    assert seen(await store.snapshot()) == before


async def test_a_change_by_someone_else_is_not_undone_but_told() -> None:
    store = await stored(OLD, NEW)
    asked = promotion(store, Place("production", failure=InvalidRequest("no")))
    steps = asked.steps(await asked.snapshot())
    other = replace(OLD, weight=50)
    await store.change(lambda _: Change(action="weigh", who="bob", put=(other,)))
    with pytest.raises(Undone) as caught:
        await carry_out(steps, lambda _: None, at_once)
    [left] = caught.value.left
    assert "manta registry history --model qwen --environment production" in left.words
    assert (await store.snapshot()).find(OLD.key) == other


@pytest.mark.parametrize("meanwhile", [0, 1, 2, 3])
async def test_of_two_promotions_at_once_the_other_is_left_alone(meanwhile: int) -> None:
    """The other comes while ours is at this step: whichever registered the version first goes through, whole."""
    store = await stored(OLD, NEW)
    ours, others = promotion(store), promotion(store)
    steps, theirs = list(ours.steps(await ours.snapshot())), others.steps(await others.snapshot())
    inner = steps[meanwhile]

    async def first_the_other() -> str:
        with suppress(Undone):
            await carry_out(theirs, lambda _: None, at_once)
        return await inner.do()

    steps[meanwhile] = replace(inner, do=first_the_other)
    try:
        await carry_out(steps, lambda _: None, at_once)
    except Undone as undone:
        assert (meanwhile < 2, undone.left) == (True, ())
    else:
        assert meanwhile >= 2
    [rollout] = (await store.snapshot()).rollouts
    assert (rollout.to_version, rollout.state) == ("2", "running")
    assert {e.version: e.weight for e in (await store.snapshot()).versions("qwen", "production")} == {"1": 90, "2": 10}


async def test_a_rollout_of_someone_else_is_left_alone() -> None:
    third = entry("3", "production", weight=0)
    store = await stored(OLD, third, NEW)
    asked = promotion(store)
    steps = asked.steps(await asked.snapshot())
    rollouts = StoredRollouts(store)
    await rollouts.start(Plan(model="qwen", environment="production", to_version="3"), who="bob", why="")
    with pytest.raises(Undone):
        await carry_out(steps, lambda _: None, at_once)
    [under_way] = (await store.snapshot()).rollouts
    assert (under_way.to_version, under_way.state) == ("3", "running")


# --- interruption ---


async def interrupted_at(steps: Sequence[Any], number: int) -> Undone:
    """Cancelled, as Ctrl-C does, when the step of this number has been said, or is waiting."""
    reached = asyncio.Event()
    said: list[Said] = []

    def say(one: Said) -> None:
        said.append(one)
        if len(said) == number:
            reached.set()

    task = asyncio.create_task(carry_out(steps, say, at_once))
    await reached.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(Undone) as caught:
        await task
    return caught.value


@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_an_interruption_undoes_too(number: int) -> None:
    store = await stored(OLD, NEW)
    before = seen(await store.snapshot())
    asked = promotion(store)
    undone = await interrupted_at(asked.steps(await asked.snapshot()), number)
    assert (undone.is_interrupted, undone.left) == (True, ())
    assert seen(await store.snapshot()) == before


async def test_an_interruption_does_not_wait_for_an_endpoint() -> None:
    class Hanging(Place):
        async def check(self, asked: ModelEntry) -> CheckResult:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError

    reached = asyncio.Event()
    store = await stored(OLD, NEW)
    before = seen(await store.snapshot())
    asked = promotion(store, Hanging("production"))
    task = asyncio.create_task(carry_out(asked.steps(await asked.snapshot()), lambda _: None, at_once))
    await reached.wait()
    task.cancel()
    with pytest.raises(Undone):
        await asyncio.wait_for(task, 5)
    assert seen(await store.snapshot()) == before


async def test_an_undo_comes_to_its_end_though_it_is_interrupted_again() -> None:
    going, gone_on, undone = asyncio.Event(), asyncio.Event(), []

    async def fails() -> str:
        raise Conflict("no")

    async def slow() -> None:
        going.set()
        await gone_on.wait()
        undone.append("slow")

    task = asyncio.create_task(carry_out([Step(name="one", do=fails, undo=slow)], lambda _: None, at_once))
    await going.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gone_on.set()
    with pytest.raises(Undone) as caught:
        await task
    assert (undone, caught.value.left) == (["slow"], ())


class Ledger:
    """Steps that each leave a mark, some of which fail, and cannot take it back."""

    def __init__(self, kinds: list[str], faulty: set[int]) -> None:
        self.done: set[int] = set()
        self.tried: list[int] = []
        self.faulty = faulty
        self.steps = [self._step(number, kind) for number, kind in enumerate(kinds)]

    def _step(self, number: int, kind: str) -> Step:
        async def do() -> str:
            if kind == "fails":
                raise Conflict("fails")
            self.done.add(number)
            if kind == "fails late":
                raise Conflict("fails late")
            return ""

        async def undo() -> None:
            self.tried.append(number)
            if number in self.faulty:
                raise Conflict("cannot be undone")
            self.done.discard(number)

        return Step(name=str(number), do=do, undo=undo)


@given(st.lists(st.sampled_from(["fine", "fails", "fails late"]), max_size=8), st.sets(st.integers(0, 7)))
def test_steps_are_all_done_or_all_undone(kinds: list[str], faulty: set[int]) -> None:
    """Also where undos fail: each is tried once, in reverse order, and those that failed are named."""
    ledger = Ledger(kinds, faulty)
    try:
        asyncio.run(carry_out(ledger.steps, lambda _: None, at_once))
    except Undone as undone:
        first = next(number for number, kind in enumerate(kinds) if kind != "fine")
        assert ledger.tried == list(range(first, -1, -1))
        assert {int(one.step) for one in undone.left} == {number for number in ledger.tried if number in faulty}
        assert ledger.done <= faulty
    else:
        assert set(kinds) <= {"fine"}
        assert ledger.done == set(range(len(kinds)))


# --- gates ---


def report(folder: Path, ndcg: float = 0.93, at: datetime = NOW) -> Path:
    path = folder / "retrieval.json"
    figures = {"both": {"ndcg@10": {"mean": ndcg, "low": 0, "high": 1}}}
    path.write_text(json.dumps({"date": at.isoformat(), "questions": 200, "figures": figures}))
    return path


async def gates_of(*entries: ModelEntry, source: Place | None = None, **changes: Any) -> dict[str, Gate]:
    store = await stored(*entries)
    found: dict[str, Gate] = {}
    gates = Gates(replace(WANTED, **changes), await store.snapshot(), source or Place(), lambda: NOW)
    passed = await gates.run(lambda gate: found.setdefault(gate.name, gate))  # type: ignore[arg-type, return-value]
    assert passed == all(gate.state != "failed" for gate in found.values())
    assert list(found) == ["staging entry", "staging health", "endpoint test", "registry", "evaluation"]
    return found


def states(found: dict[str, Gate]) -> str:
    return "".join(gate.state[0] for gate in found.values())


async def test_a_sound_version_passes(tmp_path: Path) -> None:
    found = await gates_of(OLD, NEW, evaluation=Limits(report=report(tmp_path), least=0.9))
    assert states(found) == "ppppp"
    assert found["evaluation"].words == "nDCG@10 0.9300 >= 0.9"
    assert found["staging health"].words == "application qwen-2 is RUNNING with 1 replica(s)"


@pytest.mark.parametrize(
    ("changes", "gate", "words"),
    [
        ({"status": "disabled"}, "staging entry", "qwen@2 is disabled in staging; `manta registry enable` it first"),
        ({"licence": "", "digest": ""}, "registry", "qwen@2 has no digest and no licence in staging"),
        ({"context_tokens": 4_096}, "registry", "qwen@2 holds 4096 tokens, qwen@1 8192 (--may-do-less)"),
    ],
)
async def test_what_is_wrong_with_an_entry_is_said(changes: dict[str, Any], gate: str, words: str) -> None:
    found = await gates_of(OLD, replace(NEW, **changes))
    assert found[gate].state == "failed"
    assert words in found[gate].words


async def test_a_version_that_is_not_there_fails_and_the_rest_is_skipped() -> None:
    found = await gates_of(OLD, entry("7", "staging"))
    assert states(found) == "fsspS".lower()
    assert found["staging entry"].words == "qwen@2 is not in staging; there are: 7"


@pytest.mark.parametrize(
    ("place", "gate", "words"),
    [
        (Place(application=Application(name="qwen-2", status="DEPLOYING")), "staging health", "is DEPLOYING"),
        (Place(application=Application(name="other", status="RUNNING")), "staging health", "no application 'qwen-2'"),
        (Place(circuits={"qwen@2": "open"}), "staging health", "its circuit is open"),
        (Place(is_database=True), "staging health", "set MANTA_URL"),
        (
            Place("production", application=Application(name="other", status="RUNNING")),
            "staging health",
            "asked was a gateway of production: --from-url names one of staging",
        ),
        (Place(failure=InvalidRequest("endpoint: no answer")), "endpoint test", "endpoint: no answer"),
    ],
)
async def test_what_does_not_run_well_is_said(place: Place, gate: str, words: str) -> None:
    found = await gates_of(OLD, NEW, source=place)
    assert found[gate].state == "failed"
    assert words in found[gate].words


async def test_an_upstream_needs_no_gateway_to_be_healthy() -> None:
    upstream = replace(NEW, endpoint="https://vllm.example", engine="openai", digest="")
    found = await gates_of(OLD, upstream, source=Place(is_database=True))
    assert states(found) == "pspps"


async def test_capabilities_may_not_be_lost_unless_it_is_said() -> None:
    able = replace(OLD, capabilities=frozenset({"tools", "json"}))
    found = await gates_of(able, NEW)
    assert "qwen@2 lacks json, tools, which qwen@1 has" in found["registry"].words
    assert states(await gates_of(able, NEW, may_do_less=True)) == "pppps"


async def test_a_version_that_is_there_already_is_named() -> None:
    found = await gates_of(OLD, NEW, entry("2", "production", weight=0))
    assert "production has qwen@2 already (enabled, weight 0)" in found["registry"].words


async def test_the_first_version_needs_a_word() -> None:
    assert "--at-once gives it all of them" in (await gates_of(NEW))["registry"].words
    assert states(await gates_of(NEW, at_once=True)) == "pppps"


async def test_what_is_required_can_be_said() -> None:
    bare = replace(NEW, licence="", digest="", signature="unsigned")
    assert states(await gates_of(OLD, bare, require=frozenset())) == "pppps"
    strict = await gates_of(OLD, NEW, require=frozenset({"signature", "owner"}))
    assert "qwen@2 has no signature in staging" in strict["registry"].words


async def test_a_rollout_under_way_in_either_environment_fails() -> None:
    store = await stored(OLD, NEW, entry("1", "staging"))
    await StoredRollouts(store).start(Plan(model="qwen", environment="staging", to_version="2"), who="ann", why="")
    found: list[Gate] = []
    await Gates(WANTED, await store.snapshot(), Place(), lambda: NOW).run(found.append)
    assert "a rollout of qwen to 2 is under way in staging" in found[3].words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("{}", "is no report of `manta eval retrieval` (KeyError: 'date')"),
        ("nonsense", "is no report of `manta eval retrieval` (JSONDecodeError"),
        ("[1]", "is no report of `manta eval retrieval` (TypeError"),
        ('{"date": "yesterday"}', "is no report of `manta eval retrieval` (ValueError"),
    ],
)
async def test_a_report_that_is_none_fails(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "retrieval.json"
    if content is not None:
        path.write_text(content)
    found = await gates_of(OLD, NEW, evaluation=Limits(report=path, least=0.5))
    assert found["evaluation"].state == "failed"
    assert words in found["evaluation"].words


@pytest.mark.parametrize(
    ("ndcg", "age", "words"),
    [
        (0.85, timedelta(days=1), "nDCG@10 is 0.8500 over 200 questions, below 0.9"),
        (float("nan"), timedelta(days=1), "below 0.9"),
        (0.95, timedelta(days=31), "is 31 days old, more than 30"),
    ],
)
async def test_a_report_outside_the_limits_fails(tmp_path: Path, ndcg: float, age: timedelta, words: str) -> None:
    limits = Limits(report=report(tmp_path, ndcg, NOW - age), least=0.9)
    found = await gates_of(OLD, NEW, evaluation=limits)
    assert found["evaluation"].state == "failed"
    assert words in found["evaluation"].words
