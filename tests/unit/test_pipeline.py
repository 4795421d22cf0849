import asyncio

import pytest

from serve_app.errors import (
    ClassifierUnavailable,
    ContentFiltered,
    EngineFailed,
    RetrieverUnavailable,
    ScreenerUnavailable,
    UnknownModel,
)
from serve_app.events import Delta, Event, Finished, Started
from serve_app.pipeline import Pipeline
from serve_app.ports import Query
from serve_app.turn import Grounding, Passage, Scope, Turn
from tests.builders import (
    HashClassifier,
    ListRetriever,
    OpenScreener,
    ScriptedEngine,
    passage,
    pipeline,
    settings,
    turn,
)


async def answered(asked: Turn, through: Pipeline) -> list[Event]:
    return [event async for event in through.answer(asked)]


async def started(asked: Turn, through: Pipeline) -> Started:
    first = (await answered(asked, through))[0]
    assert isinstance(first, Started)
    return first


async def test_an_answer_is_started_then_told_then_finished() -> None:
    events = await answered(turn(), pipeline())
    assert isinstance(events[0], Started)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Hello world."
    assert isinstance(events[-1], Finished)


async def test_every_stage_has_its_milliseconds() -> None:
    found = await started(turn(model="auto"), pipeline())
    assert found.timings_ms.keys() == {"screen", "classify", "retrieve", "engine", "total"}


async def test_a_question_is_encoded_once_and_searched_with_that_embedding() -> None:
    retriever, classifier = ListRetriever(), HashClassifier()
    await answered(turn(model="auto"), pipeline(retriever=retriever, classifier=classifier))
    embedding = (await classifier.classify("How do I roll back?")).embedding
    assert retriever.asked[0].embedding is not None
    assert (retriever.asked[0].embedding == embedding).all()
    assert retriever.asked[0].sight.tenant == "acme"


class Meeting:
    """A screener and a classifier that each answer only once the other was asked too."""

    def __init__(self) -> None:
        self.barrier = asyncio.Barrier(2)
        self.screener, self.classifier = OpenScreener(), HashClassifier()

    async def screen(self, texts: tuple[str, ...], scope: Scope) -> object:
        await self.barrier.wait()
        return await self.screener.screen(texts, scope)

    async def classify(self, text: str) -> object:
        await self.barrier.wait()
        return await self.classifier.classify(text)


async def test_screening_and_encoding_run_at_the_same_time() -> None:
    meeting = Meeting()
    async with asyncio.timeout(5):
        assert await started(turn(), pipeline(screener=meeting, classifier=meeting))


async def test_a_dead_screener_means_no_answer() -> None:
    engine = ScriptedEngine()
    with pytest.raises(ScreenerUnavailable):
        await answered(turn(), pipeline(screener=OpenScreener(failure=ScreenerUnavailable("gone")), engine=engine))
    assert engine.turns == []


async def test_a_forbidden_question_never_reaches_the_engine() -> None:
    engine = ScriptedEngine()
    with pytest.raises(ContentFiltered):
        await answered(turn("roll"), pipeline(screener=OpenScreener(forbidden="roll"), engine=engine))
    assert engine.turns == []


async def test_an_injection_is_refused() -> None:
    with pytest.raises(ContentFiltered):
        await answered(turn(), pipeline(classifier=HashClassifier({"prompt_injection": 0.95, "difficulty": 0.0})))


async def test_without_a_classifier_the_default_model_answers_and_the_search_goes_by_words() -> None:
    retriever = ListRetriever()
    dead = HashClassifier(failure=ClassifierUnavailable("gone"))
    found = await started(turn(model="auto"), pipeline(classifier=dead, retriever=retriever))
    assert (found.model, found.degraded) == ("small", ("classifier",))
    assert retriever.asked[0].embedding is None


async def test_without_a_retriever_the_answer_comes_without_passages_and_says_so() -> None:
    dead = ListRetriever(failure=RetrieverUnavailable("gone"))
    found = await started(turn(model="auto"), pipeline(retriever=dead))
    assert (found.passages, found.degraded) == ((), ("retriever",))


class SlowRetriever:
    async def search(self, query: Query) -> tuple[Passage, ...]:
        await asyncio.Event().wait()
        return ()


async def test_a_retriever_that_hangs_is_left_behind_at_its_deadline() -> None:
    chosen = settings(retriever={"deadline_ms": 20})
    async with asyncio.timeout(5):
        found = await started(turn(model="auto"), pipeline(chosen, retriever=SlowRetriever()))
    assert found.degraded == ("retriever",)


async def test_passages_below_the_floor_are_not_shown_to_the_engine() -> None:
    engine = ScriptedEngine()
    retriever = ListRetriever((passage(score=0.9), passage(score=0.0, id="c2")))
    await answered(turn(model="auto"), pipeline(retriever=retriever, engine=engine))
    assert [found.id for found in engine.turns[0].passages] == ["c1"]
    assert engine.turns[0].grounded_by_retrieval


@pytest.mark.parametrize(
    ("model", "wanted", "searches"),
    [("auto", None, 1), ("auto", False, 0), ("small", None, 0), ("small", True, 1), ("extractive", None, 1)],
)
async def test_passages_are_looked_for_when_wanted(model: str, wanted: bool | None, searches: int) -> None:
    retriever = ListRetriever()
    await answered(turn(model=model, grounding=Grounding(wanted=wanted)), pipeline(retriever=retriever))
    assert len(retriever.asked) == searches


async def test_an_unknown_model_is_refused_before_any_work() -> None:
    screener = OpenScreener()
    with pytest.raises(UnknownModel):
        await answered(turn(model="gpt-9"), pipeline(screener=screener))
    assert screener.seen == []


async def test_a_caller_who_stops_reading_stops_the_engine_and_gives_the_place_back() -> None:
    engine = ScriptedEngine(pieces=tuple("word " for _ in range(100)))
    limited = settings(keys=[{**settings().keys[0].model_dump(exclude_none=True), "concurrent_streams": 1}])
    through = pipeline(limited, engine=engine)
    events = through.answer(turn())
    await anext(events)
    await events.aclose()
    assert engine.was_closed_early
    assert engine.said < 100
    assert await started(turn(), through)


async def test_an_engine_that_dies_before_the_first_event_is_an_error_and_not_a_start() -> None:
    engine = ScriptedEngine(dies_at=0, failure=EngineFailed("gone"))
    with pytest.raises(EngineFailed):
        await started(turn(), pipeline(engine=engine))


async def test_the_outcome_of_every_turn_is_counted() -> None:
    through = pipeline(screener=OpenScreener(forbidden="bad"))
    await answered(turn(), through)
    with pytest.raises(ContentFiltered):
        await answered(turn("bad"), through)
    text = through.telemetry.exposition().decode()
    assert 'manta_turns_total{model="small",outcome="answered",version="1"} 1.0' in text
    assert 'manta_turns_total{model="small",outcome="content_filter",version=""} 1.0' in text
    assert 'manta_tokens_total{direction="output",model="small"} 2.0' in text
    assert "manta_turns_under_way 0.0" in text
