"""Candidates one after the other, until one of them begins to answer."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from serve_app.errors import DeadlineExceeded, EngineFailed, MantaError
from serve_app.events import Event, Events
from serve_app.registry.entry import ModelEntry
from serve_app.routing.budget import RetryBudget
from serve_app.routing.circuit import Circuit, Circuits
from serve_app.routing.pace import Pace
from serve_app.routing.route import Attempt, Route

QUICK_MS = 1_000
"""What fails sooner may have met one dying replica: where nothing else is left, the same endpoint is asked again."""
KEPT_FOR_NEXT = 1 / 3
"""Of the time left, what an attempt leaves to the candidate after it."""
FAIR_S = 1.0
"""With less than this an endpoint is not to blame for being late, and time is not shared out."""
MARGIN_S = 0.05
"""The last attempt ends this long before the deadline, so that it says itself what was late."""
TOO_LATE = "no answer within this service's time limit; try again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An answer whose first event is here."""

    entry: ModelEntry
    first: Event
    rest: Events
    """The events after the first. Whoever takes them closes them."""


@dataclass(frozen=True)
class Attempts:
    retry_share: float = 0.2
    """Of a model's requests, most that are tried again."""
    circuits: Circuits = field(default_factory=Circuits)
    pace: Pace = field(default_factory=Pace)
    """Of what they began."""
    _budgets: dict[str, RetryBudget] = field(default_factory=dict)

    async def begin(
        self, route: Route, expires_at: float, ask: Callable[[ModelEntry], Events], made: list[Attempt]
    ) -> Begun:
        """Each attempt is appended to `made`, and each candidate that was left out because its circuit is open.

        Only what is an endpoint's fault is tried elsewhere, and only before an answer's first event: `ask` hands out
        the events as they leave for the caller. What the caller can act on is raised at once. When none answers, the
        first error that tells the caller something is raised, else the last, or DeadlineExceeded shortly before
        `expires_at` (Unix seconds). A stream that was begun and left is closed.
        """
        budget = self._budgets.setdefault(route.chosen.model, RetryBudget(self.retry_share))
        budget.asked()
        errors: list[MantaError] = []
        for entry, another_follows in self._tries(route.candidates, budget, made):
            try:
                return await self._try(entry, ask, seconds_for(expires_at, another_follows), made)
            except MantaError as error:
                if not error.elsewhere:
                    raise
                errors.append(error)
        if telling := next((error for error in errors if not isinstance(error, EngineFailed)), None):
            raise telling
        if time.time() > expires_at - 2 * MARGIN_S:
            raise DeadlineExceeded(TOO_LATE) from errors[-1]
        raise errors[-1]

    def _tries(
        self, candidates: tuple[ModelEntry, ...], budget: RetryBudget, made: list[Attempt]
    ) -> Iterator[tuple[ModelEntry, bool]]:
        """Whom to ask next, and whether another may follow. The one before has failed when the next is asked for.

        Where all circuits are open the first is asked all the same: nothing is lost by it.
        """
        open_to = [entry for entry in candidates if not self.circuits.of(entry).refuses]
        if not open_to:
            yield candidates[0], False
            return
        tried = False
        for entry in candidates:
            circuit = self.circuits.of(entry)
            if circuit.refuses:
                made.append(Attempt(entry=entry, outcome="circuit_open", failed=True))
                continue
            if tried and not budget.takes():
                return
            circuit.enter()
            tried = True
            yield entry, entry is not open_to[-1]
        [only, *others] = open_to
        failed_quickly = any(quick_failure(attempt) and attempt.entry is only for attempt in made)
        if failed_quickly and not others and budget.takes():
            yield only, False

    async def _try(
        self, entry: ModelEntry, ask: Callable[[ModelEntry], Events], seconds: float, made: list[Attempt]
    ) -> Begun:
        circuit, began = self.circuits.of(entry), time.perf_counter()
        events = watched(ask(entry), circuit)
        try:
            first = await first_of(events, seconds)
        except BaseException as error:  # A caller who hangs up gives a probe back, too.
            blamed = isinstance(error, MantaError) and error.elsewhere
            (circuit.failed if blamed else circuit.abandoned)()
            if isinstance(error, MantaError):
                spent_ms = (time.perf_counter() - began) * 1000
                made.append(Attempt(entry=entry, outcome=error.code, ms=spent_ms, failed=blamed))
            raise
        spent_s = time.perf_counter() - began
        circuit.began()
        self.pace.record(entry.key, spent_s)
        made.append(Attempt(entry=entry, outcome="answered", ms=spent_s * 1000))
        return Begun(entry=entry, first=first, rest=events)


def quick_failure(attempt: Attempt) -> bool:
    return attempt.outcome == EngineFailed.code and attempt.ms < QUICK_MS


async def first_of(events: Events, seconds: float) -> Event:
    """Raises EngineFailed when there is none in time, DeadlineExceeded when the time was too short to blame anyone."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(events)
    except StopAsyncIteration:
        raise EngineFailed("the engine ended without an answer; try again") from None
    except TimeoutError as late:
        if seconds < FAIR_S:
            raise DeadlineExceeded(TOO_LATE) from late
        raise EngineFailed(f"no answer began within {seconds:.3g} s; try again later") from late


async def watched(events: Events, circuit: Circuit) -> Events:
    """The same events. An answer that breaks off after its first is its endpoint's failure too."""
    begun = False
    async with aclosing(events):
        try:
            async for event in events:
                begun = True
                yield event
        except EngineFailed:
            if begun:
                circuit.broke()
            raise
    if begun:
        circuit.ended()


def seconds_for(expires_at: float, another_follows: bool) -> float:
    """How long an attempt may take to begin."""
    left = expires_at - MARGIN_S - time.time()
    return left * (1 - KEPT_FOR_NEXT) if another_follows and left > 2 * FAIR_S else left
