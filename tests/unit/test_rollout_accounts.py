"""What a rollout is told of requests that the pipeline answered, or could not."""

from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from serve_app.errors import ContextLengthExceeded, DeadlineExceeded, EngineFailed, InvalidRequest, MantaError
from serve_app.ports import ANY
from serve_app.registry.declared import declared
from serve_app.registry.snapshot import Snapshot
from serve_app.rollout.outcome import Outcome
from serve_app.turn import Finding, Scope, Screening
from tests.builders import OpenScreener, ScriptedEngine, pipeline, settings, turn

SERVED = declared(settings().models, "development")
ONLY = Snapshot(entries=SERVED.versions("small", "development"))


@dataclass
class Outcomes:
    """A tally that remembers."""

    seen: list[Outcome] = field(default_factory=list)

    def record(self, outcome: Outcome) -> None:
        self.seen.append(outcome)


async def counted(engine: ScriptedEngine, session: str = "", **parts: object) -> list[Outcome]:
    tally = Outcomes()
    asking = turn(session=session) if session else turn()
    with suppress(MantaError):
        assert [event async for event in pipeline(engine=engine, tally=tally, snapshot=ONLY, **parts).answer(asking)]
    return tally.seen


async def test_an_answer_counts_with_its_cost_and_when_it_began() -> None:
    (outcome,) = await counted(ScriptedEngine())
    assert not outcome.failed
    assert outcome.first_token_s is not None
    assert outcome.cost is not None


@pytest.mark.parametrize("failure", [EngineFailed("gone"), DeadlineExceeded("late")])
async def test_an_answer_that_breaks_off_is_its_versions_failure(failure: MantaError) -> None:
    (outcome,) = await counted(ScriptedEngine(dies_at=1, failure=failure))
    assert outcome.failed


@pytest.mark.parametrize("refusal", [InvalidRequest("no template"), ContextLengthExceeded("too long")])
async def test_a_version_that_refuses_what_is_asked_has_failed_and_nobody_fell_back(refusal: MantaError) -> None:
    (outcome,) = await counted(ScriptedEngine(dies_at=0, failure=refusal))
    assert (outcome.failed, outcome.fell_back) == (True, False)


async def test_the_same_version_asked_again_is_no_other_that_answers_in_its_place() -> None:
    outcomes = await counted(Recovers(dies_at=0, failure=EngineFailed("gone")))
    assert [(one.failed, one.fell_back) for one in outcomes] == [(True, False), (False, False)]


@dataclass
class Recovers(ScriptedEngine):
    """Fails the first time."""

    def generate(self, asked):  # type: ignore[no-untyped-def]
        if self.turns:
            self.dies_at = None
        return super().generate(asked)


@dataclass
class Forbids(OpenScreener):
    """Calls every text secret."""

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        return tuple(Screening((Finding("PERSON", 0, len(text)),) if text else ()) for text in texts)


async def test_what_a_policy_refuses_is_no_versions_failure() -> None:
    policy = {"policies": {"default": {"entities": {"PERSON": "block"}}}}
    tally = Outcomes()
    strict = pipeline(settings(guardrail=policy), screener=Forbids(), tally=tally, snapshot=ONLY)
    with pytest.raises(MantaError):
        assert [event async for event in strict.answer(turn())]
    assert tally.seen == []


async def test_requests_of_a_session_are_known_as_such_and_its_name_is_not() -> None:
    entry = ONLY.entries[0]
    both = Snapshot(entries=(replace(entry, weight=50), replace(entry, version="2", weight=50)))
    tally = Outcomes()
    for session in ("jane's", "jane's", "joe's"):
        asking = pipeline(tally=tally, snapshot=both).answer(turn(session=session))
        assert [event async for event in asking]
    first, again, other = [one.who for one in tally.seen]
    assert first == again != other
    assert "jane" not in first
    assert (await counted(ScriptedEngine()))[0].who == ""
