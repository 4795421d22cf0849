"""What the pipeline does with versions of a model: one after the other, what each may see, and in the shadow."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from serve_app.engines import Engines
from serve_app.errors import EngineFailed
from serve_app.events import Started
from serve_app.ports import ANY
from serve_app.registry.declared import declared
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout
from serve_app.turn import Finding, Scope, Screening, Turn
from tests.builders import OpenScreener, ScriptedEngine, pipeline, settings, turn

FIRST = replace(declared(settings().models, "development").versions("small", "development")[0], weight=60)
SECOND = replace(FIRST, version="2", endpoint="serve://small-2", weight=40)
ALL, NONE = replace(FIRST, weight=100), replace(SECOND, weight=0)
SHADOWED = Rollout(
    id="r",
    model="small",
    environment="development",
    to_version="2",
    before={"1": 100},
    steps=(),
    shadow_percent=100,
)


@dataclass
class Outcomes:
    """A tally that remembers."""

    seen: list[Outcome] = field(default_factory=list)

    def record(self, outcome: Outcome) -> None:
        self.seen.append(outcome)


@dataclass
class Named(OpenScreener):
    """Finds one name wherever it stands."""

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        return tuple(
            Screening((Finding("PERSON", text.index("Jane"), text.index("Jane") + 4),) if "Jane" in text else ())
            for text in texts
        )


def engines(first: ScriptedEngine, second: ScriptedEngine) -> Engines:
    return Engines(lambda entry: first if entry.endpoint == FIRST.endpoint else second)


def snapshot(*entries: ModelEntry, rollout: Rollout | None = None) -> Snapshot:
    return Snapshot(entries=entries, rollouts=(rollout,) if rollout else ())


async def events_of(asking: Turn, **parts: object) -> list[object]:
    return [event async for event in pipeline(**parts).answer(asking)]


async def test_another_version_answers_where_the_first_fails() -> None:
    broken, whole, counted = ScriptedEngine(dies_at=0, failure=EngineFailed("gone")), ScriptedEngine(), Outcomes()
    kept = snapshot(FIRST, replace(SECOND, weight=1))
    running = pipeline(snapshot=kept, engines=engines(broken, whole), tally=counted)
    started, *_ = [event async for event in running.answer(turn())]
    assert isinstance(started, Started)
    assert started.version == "2"
    assert "small@1 engine_failed" in started.route
    text = running.telemetry.exposition().decode()
    assert 'manta_attempts_total{model="small",outcome="engine_failed",version="1"} 1.0' in text
    assert 'manta_attempts_total{model="small",outcome="answered",version="2"} 1.0' in text
    failed, answered = counted.seen
    assert (failed.key, failed.failed, failed.fell_back) == (FIRST.key, True, True)
    assert (answered.key, answered.failed) == (SECOND.key, False)


async def test_after_its_first_words_an_answer_is_not_begun_again_elsewhere() -> None:
    broken, whole = ScriptedEngine(dies_at=1, failure=EngineFailed("gone")), ScriptedEngine()
    with pytest.raises(EngineFailed):
        await events_of(turn(), engines=engines(broken, whole), snapshot=snapshot(ALL, NONE))
    assert whole.turns == []


@pytest.mark.parametrize(("egress", "sees"), [("raw", "Jane"), ("redacted", "<PERSON_1>")])
async def test_an_upstream_outside_sees_no_name_though_the_policy_allows_it(egress: str, sees: str) -> None:
    allowing = settings(guardrail={"policies": {"default": {"entities": {"PERSON": "allow"}}}})
    engine = ScriptedEngine()
    entry = replace(FIRST, egress=egress)
    asking = pipeline(allowing, engine=engine, screener=Named(), snapshot=snapshot(entry)).answer(turn("Ask Jane"))
    assert [event async for event in asking]
    assert engine.turns[0].question == f"Ask {sees}"


async def test_a_sample_is_also_sent_to_the_new_version_and_nobody_sees_its_answer() -> None:
    given, unseen, counted = ScriptedEngine(pieces=("Given.",)), ScriptedEngine(pieces=("Unseen.",)), Outcomes()
    parts = {"engines": engines(given, unseen), "tally": counted}
    kept = snapshot(ALL, NONE, rollout=SHADOWED)
    running = pipeline(snapshot=kept, **parts)
    said = [event async for event in running.answer(turn(session="s"))]
    await asyncio.gather(*running.shadows.under_way)
    assert "Unseen" not in str(said)
    assert [one.question for one in unseen.turns] == [turn().question]
    assert [(one.key, one.shadow) for one in counted.seen] == [(FIRST.key, False), (SECOND.key, True)]


async def test_a_tenant_that_forbids_it_is_never_sent_twice() -> None:
    unseen = ScriptedEngine()
    kept = snapshot(ALL, NONE, rollout=SHADOWED)
    strict = settings(router={"small": "small", "large": "large", "shadow_forbidden": ["acme"]})
    running = pipeline(strict, snapshot=kept, engines=engines(ScriptedEngine(), unseen))
    assert [event async for event in running.answer(turn())]
    assert not running.shadows.under_way
    assert unseen.turns == []
