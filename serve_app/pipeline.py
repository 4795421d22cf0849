import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from serve_app.admission import Admission
from serve_app.citations import Citations
from serve_app.errors import ClassifierUnavailable, MantaError
from serve_app.events import Delta, Event, Events, Finished, Started
from serve_app.guardrail import Guardrail
from serve_app.ports import Classifier, Engine
from serve_app.retrieval import Retrieval
from serve_app.router import Router
from serve_app.settings import ClassifierSettings
from serve_app.telemetry import Stopwatch, Telemetry
from serve_app.turn import Signals, Turn

First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The life of a turn, top to bottom."""

    admission: Admission
    guardrail: Guardrail
    classifier: Classifier
    classifier_settings: ClassifierSettings
    retrieval: Retrieval
    router: Router
    engine: Engine
    telemetry: Telemetry

    async def answer(self, turn: Turn) -> Events:
        """One Started when the engine's first event is there, then deltas, then Finished.

        Closing the stream stops the engine.
        """
        watch = Stopwatch()
        self.router.check(turn.model)
        with self.admission.reserve(turn.caller), self._account(turn, watch) as account:
            screenings, (turn, signals) = await together(self._screen(turn, watch), self._understand(turn, watch))
            turn, vault = self.guardrail.admit(turn, screenings, signals)
            route = self.router.route(turn.model, signals)
            turn = turn.routed(route.model)
            account.model = route.model
            citations = Citations(turn.passages)
            allowed = (*(m.text for m in turn.messages), *(p.text for p in turn.passages))
            answer = citations.annotated(self.guardrail.screened(self.engine.generate(turn), vault, allowed))
            async with aclosing(answer) as events:
                with watch.stage("engine"):
                    first = await anext(events)
                self.telemetry.began(route.model, watch.stages_ms, watch.elapsed_ms, turn.degraded)
                yield Started(
                    model=route.model,
                    route=route.reason,
                    degraded=turn.degraded,
                    timings_ms={**watch.stages_ms, "total": watch.elapsed_ms},
                    passages=turn.passages,
                )
                yield account.seen(first)
                async for event in events:
                    yield account.seen(event)

    async def _screen(self, turn: Turn, watch: Stopwatch) -> Any:
        with watch.stage("screen"):
            return await self.guardrail.screen(turn)

    async def _understand(self, turn: Turn, watch: Stopwatch) -> tuple[Turn, Signals | None]:
        """Encodes the question once, and searches with that embedding as soon as it is there."""
        signals: Signals | None = None
        try:
            with watch.stage("classify"):
                async with asyncio.timeout(min(self.classifier_settings.deadline_ms / 1000, turn.seconds_left)):
                    signals = await self.classifier.classify(turn.question)
            turn = turn.encoded(signals.embedding)
        except (TimeoutError, ClassifierUnavailable):
            turn = turn.without("classifier")
        if self._is_grounded(turn):
            with watch.stage("retrieve"):
                turn = await self.retrieval.ground(turn)
        return turn, signals

    def _is_grounded(self, turn: Turn) -> bool:
        wanted = turn.grounding.wanted
        return self.router.grounds_by_default(turn.model) if wanted is None else wanted

    @contextmanager
    def _account(self, turn: Turn, watch: Stopwatch) -> Iterator["Account"]:
        """Settles the turn however it ends: answered, refused, failed, or given up by the caller."""
        account = Account(turn.model)
        self.telemetry.under_way.inc()
        try:
            yield account
            account.outcome = "answered"
        except MantaError as error:
            account.outcome = error.code
            raise
        finally:
            self.telemetry.under_way.dec()
            self.telemetry.ended(
                turn.id, turn.caller.tenant, account.model, account.outcome, account.tokens, watch.elapsed_ms
            )


@dataclass(slots=True)
class Account:
    """What a turn has used so far: the engine's count once it is there, the deltas seen until then."""

    model: str
    outcome: str = "abandoned"
    tokens: tuple[int, int] = (0, 0)

    def seen(self, event: Event) -> Event:
        match event:
            case Delta():
                self.tokens = (0, self.tokens[1] + 1)
            case Finished():
                self.tokens = (event.prompt_tokens, event.output_tokens)
        return event


async def together(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Both results; when one fails the other is stopped and the failure is raised as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(first), group.create_task(second)
    except* MantaError as failures:
        failed = failures.exceptions[0]
    else:
        return tasks[0].result(), tasks[1].result()
    raise failed
