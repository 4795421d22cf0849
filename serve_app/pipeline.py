import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from serve_app.accounting import Account, Accounts, Admitted
from serve_app.admission import Admission
from serve_app.citations import Citations
from serve_app.deadline import within
from serve_app.engines import Engines
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
from serve_app.ports import Classifier
from serve_app.prompt import Rooms, fitted
from serve_app.registry.entry import ModelEntry
from serve_app.retrieval import Retrieval
from serve_app.rollout.shadow import LONGEST_S, Shadows
from serve_app.routing.attempts import Attempts, Begun
from serve_app.routing.router import Router
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
    rooms: Rooms
    attempts: Attempts
    engines: Engines
    accounts: Accounts
    shadows: Shadows

    async def answer(self, turn: Turn) -> Events:
        """One Started when the engine's first event is there, then deltas, then Finished.

        Closing the stream stops the engine.
        """
        watch = Stopwatch()
        self.router.check(turn.model)
        with self.admission.reserve(turn.caller), self.accounts.open(turn, watch) as account:
            try:
                read = await self._read(turn, watch)
                begun = await self._begin(read, account)
            except ContentFiltered as refusal:
                self.telemetry.refused.labels(refusal.policy).inc()
                if refusal.safe_message is None:
                    raise
                account.refused_by = refusal.policy
                for event in safe_answer(turn, refusal):
                    yield account.took(event)
                return
            async with aclosing(begun.rest) as events:
                started = account.started(begun.entry)
                self.telemetry.began(started.model, watch.stages_ms, watch.elapsed_ms, started.degraded)
                yield started
                yield account.took(begun.first)
                async for event in events:
                    yield account.took(event)
            self._shadow(read, begun.entry, account)

    @property
    def telemetry(self) -> Telemetry:
        return self.accounts.telemetry

    async def _begin(self, read: "Read", account: Account) -> Begun:
        """The answer's first event, from the first candidate that has one."""
        route = account.route = self.router.route(read.turn, read.signals)

        def ask(entry: ModelEntry) -> Events:
            return self._ask(read, entry, account)

        with account.watch.stage("engine"):
            return await self.attempts.begin(route, read.turn.expires_at, ask, account.attempts)

    async def _read(self, turn: Turn, watch: Stopwatch) -> "Read":
        """All that has to be known of a turn before it is decided who answers it."""
        screenings, (turn, seen, signals) = await together(self._screen(turn, watch), self._understand(turn, watch))
        if screenings is None:
            turn, screenings = turn.without("screener"), tuple(Screening() for _ in turn.messages)
        turn, known = await self._recall(turn)
        return Read(turn, replace(seen, messages=screenings), signals, known)

    async def _ask(self, read: "Read", entry: ModelEntry, account: Account) -> Events:
        """One candidate's answer, screened and cited."""
        admitted = account.admitted[entry.name] = await self._admitted(read, entry)
        turn = admitted.turn
        allowed = (*(m.text for m in turn.messages), *(p.text for p in turn.passages))
        answer = self.engines.of(entry).generate(turn)
        passes = entry.screener_down == "pass"
        screened = self.guardrail.screened(answer, turn, admitted.vault, allowed, open_when_down=passes)
        async with aclosing(admitted.citations.annotated(screened)) as events:
            async for event in events:
                yield event

    def _shadow(self, read: "Read", answered: ModelEntry, account: Account) -> None:
        """Sends a sample of what was answered to a new version too; its caller has all of the answer by now."""
        candidate = self.shadows.candidate(read.turn, answered)
        if candidate is None:
            return
        # It writes nothing into the conversation, and has time of its own: its caller's is nearly over.
        turn = replace(read.turn, session="", expires_at=time.time() + LONGEST_S)
        unkept, aside = replace(read, turn=turn), Account(turn, Stopwatch())
        self.shadows.send(candidate, account.observation.text, lambda entry: self._ask(unkept, entry, aside))

    async def _admitted(self, read: "Read", entry: ModelEntry) -> Admitted:
        found = {passage.key: passage for passage in read.turn.passages}
        turn, vault = self.guardrail.admit(read.turn, read.seen, read.known, leaves=entry.egress == "redacted")
        if turn.session and vault.keys() - read.known.keys():
            turn = await self._keep(turn, vault)
        turn = fitted(turn.routed(entry.model), self.rooms.of(entry))
        return Admitted(turn=turn, vault=vault, citations=Citations(tuple(found[p.key] for p in turn.passages)))

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
            turn = turn.without("screener")
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


@dataclass(frozen=True, slots=True)
class Read:
    """A turn, and what was found out about it."""

    turn: Turn
    seen: Seen
    signals: Signals | None
    known: Vault
    """The placeholders of its session so far."""


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
