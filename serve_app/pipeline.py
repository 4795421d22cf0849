import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from serve_app.admission import Admission
from serve_app.citations import Citations
from serve_app.deadline import within
from serve_app.errors import (
    ClassifierUnavailable,
    ContentFiltered,
    MantaError,
    ScreenerUnavailable,
    VaultsUnavailable,
)
from serve_app.events import Delta, Event, Events, Finished, Started
from serve_app.guardrail import Guardrail, Seen
from serve_app.placeholders import Vault
from serve_app.ports import Classifier, Engine
from serve_app.prompt import Room, fitted
from serve_app.retrieval import Retrieval
from serve_app.router import Route, Router
from serve_app.settings import ClassifierSettings
from serve_app.standalone import standalone
from serve_app.telemetry import Stopwatch, Telemetry
from serve_app.turn import Embedding, Screening, Signals, Turn
from serve_app.vaults import Vaults
from serve_app.vetting import History, Vetting

First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The life of a turn, top to bottom."""

    admission: Admission
    guardrail: Guardrail
    vetting: Vetting
    vaults: Vaults
    classifier: Classifier
    classifier_settings: ClassifierSettings
    retrieval: Retrieval
    router: Router
    rooms: Mapping[str, Room]
    """By model."""
    engine: Engine
    telemetry: Telemetry

    async def answer(self, turn: Turn) -> Events:
        """One Started when the engine's first event is there, then deltas, then Finished.

        Closing the stream stops the engine.
        """
        watch = Stopwatch()
        self.router.check(turn.model)
        with self.admission.reserve(turn.caller), self._account(turn, watch) as account:
            try:
                turn, vault, citations, route = await self._admitted(turn, watch)
            except ContentFiltered as refusal:
                self.telemetry.refused.labels(refusal.policy).inc()
                if refusal.safe_message is None:
                    raise
                for event in safe_answer(turn, refusal):
                    yield account.seen(event)
                return
            account.model = route.model
            allowed = (*(m.text for m in turn.messages), *(p.text for p in turn.passages))
            passes = self.router.passes_unscreened(route.model)
            answer = self.engine.generate(turn)
            screened = self.guardrail.screened(answer, turn, vault, allowed, open_when_down=passes)
            async with aclosing(citations.annotated(screened)) as events:
                with watch.stage("engine"):
                    first = await anext(events)
                self.telemetry.began(route.model, watch.stages_ms, watch.elapsed_ms, turn.degraded)
                yield Started(
                    model=route.model,
                    route=route.reason,
                    degraded=turn.degraded,
                    timings_ms={**watch.stages_ms, "total": watch.elapsed_ms},
                    passages=citations.passages,
                    withheld=turn.withheld,
                )
                yield account.seen(first)
                async for event in events:
                    yield account.seen(event)

    async def _admitted(self, turn: Turn, watch: Stopwatch) -> tuple[Turn, Vault, Citations, Route]:
        """The turn as its engine sees it, what its placeholders stand for, what it may cite, and where it goes."""
        screenings, (turn, seen, signals) = await together(self._screen(turn, watch), self._understand(turn, watch))
        if screenings is None:
            turn, screenings = turn.without("screener"), tuple(Screening() for _ in turn.messages)
        turn, known = await self._recall(turn)
        found = {passage.key: passage for passage in turn.passages}
        turn, vault = self.guardrail.admit(turn, replace(seen, messages=screenings), known)
        if turn.session and vault.keys() - known.keys():
            turn = await self._keep(turn, vault)
        route = self.router.route(turn.model, signals)
        turn = fitted(turn.routed(route.model), self.rooms[route.model])
        return turn, vault, Citations(tuple(found[p.key] for p in turn.passages)), route

    async def _screen(self, turn: Turn, watch: Stopwatch) -> tuple[Screening, ...] | None:
        """None where the screener is missing and the model's settings let everything pass then."""
        try:
            with watch.stage("screen"):
                return await self.guardrail.screen(turn)
        except ScreenerUnavailable:
            if self.router.passes_unscreened(turn.model):
                return None
            raise

    async def _understand(self, turn: Turn, watch: Stopwatch) -> tuple[Turn, Seen, Signals | None]:
        """Encodes the question once, and searches with that embedding as soon as it is there."""
        signals, history = None, History()
        try:
            with watch.stage("classify"):
                seconds = min(self.classifier_settings.deadline_ms / 1000, turn.seconds_left)
                async with within(seconds, "classifier", ClassifierUnavailable):
                    asking = together(self.classifier.classify(turn.question), self.vetting.history(turn))
                    signals, history = await asking
                    turn = turn.encoded(await self._embedding(turn, signals))
        except ClassifierUnavailable as missing:
            if self.guardrail.settings.classifier_down == "refuse":
                raise ClassifierUnavailable("the classifier cannot be reached; try again in a moment") from missing
            turn = turn.without("classifier")
        seen = Seen(messages=(), question=signals.scores if signals else {}, history=history)
        if self._is_grounded(turn):
            with watch.stage("retrieve"):
                turn = await self.retrieval.ground(turn)
        if turn.passages:
            with watch.stage("vet"):
                turn, seen = await self._vet(turn, seen)
        return turn, seen, signals

    async def _embedding(self, turn: Turn, signals: Signals) -> Embedding:
        """Of what is searched for: a follow-up is not what was asked, and is encoded once more."""
        sought = standalone(turn.messages)
        return signals.embedding if sought == turn.question else (await self.classifier.encode((sought,)))[0]

    async def _vet(self, turn: Turn, seen: Seen) -> tuple[Turn, Seen]:
        turn, suspicions = await self._judged(turn)
        screenings: tuple[Screening, ...] = (Screening(),) * len(turn.passages)
        try:
            screenings = await self.vetting.screenings(turn)
        except ScreenerUnavailable:
            if not self.router.passes_unscreened(turn.model):
                raise
        return turn, replace(seen, passages=screenings, suspicions=suspicions)

    async def _judged(self, turn: Turn) -> tuple[Turn, tuple[float, ...]]:
        """How suspicious each passage is. What nobody could judge is left out: an answer without it is safe."""
        seconds = min(self.classifier_settings.deadline_ms / 1000, turn.seconds_left)
        try:
            async with within(seconds, "classifier", ClassifierUnavailable):
                return turn, await self.vetting.suspicions(turn.passages)
        except ClassifierUnavailable:
            judged = [(one, one.suspicion) for one in turn.passages if one.suspicion is not None]
            kept = tuple(passage for passage, _ in judged)
            return replace(turn.without("classifier"), passages=kept), tuple(suspicion for _, suspicion in judged)

    async def _recall(self, turn: Turn) -> tuple[Turn, Vault]:
        if not turn.session:
            return turn, {}
        try:
            return turn, await self.vaults.recall(turn.caller, turn.session)
        except VaultsUnavailable:
            return turn.without("sessions"), {}

    async def _keep(self, turn: Turn, vault: Vault) -> Turn:
        try:
            await self.vaults.keep(turn.caller, turn.session, vault)
        except VaultsUnavailable:
            return turn.without("sessions")
        return turn

    def _is_grounded(self, turn: Turn) -> bool:
        wanted = turn.grounding.wanted
        if turn.grounding.playbook:
            return True
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


def safe_answer(turn: Turn, refusal: ContentFiltered) -> Iterator[Event]:
    """The configured message in place of an engine's answer."""
    yield Started(model=turn.model, route=f"policy {refusal.policy}; safe message", degraded=turn.degraded)
    name = "content" if turn.operation == "chat" else "text"
    yield Delta({name: refusal.safe_message or ""}, finish_reason="stop")
    yield Finished(prompt_tokens=0, output_tokens=0)


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
