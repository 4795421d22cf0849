"""Candidates one after the other, until one of them begins to answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.errors import EngineFailed, MantaError
from serve_app.events import Event, Events
from serve_app.registry.entry import ModelEntry
from serve_app.routing.route import Attempt, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An answer whose first event is here."""

    entry: ModelEntry
    first: Event
    rest: Events
    """The events after the first. Whoever takes them closes them."""


@dataclass(frozen=True)
class Attempts:
    async def begin(
        self, route: Route, expires_at: float, ask: Callable[[ModelEntry], Events], made: list[Attempt]
    ) -> Begun:
        """Raises the last candidate's error when none answers. Each attempt is appended to `made`.

        Before an answer's first event another candidate may take over, after it none: `ask` hands out the events as
        they leave for the caller. `expires_at`: the request's deadline in Unix seconds.
        """
        entry, begun = route.chosen, time.perf_counter()
        events = ask(entry)
        try:
            first = await anext(events)
        except MantaError as error:
            spent_ms = (time.perf_counter() - begun) * 1000
            failed = isinstance(error, EngineFailed)
            made.append(Attempt(entry=entry, outcome=error.code, ms=spent_ms, failed=failed))
            raise
        made.append(Attempt(entry=entry, outcome="answered", ms=(time.perf_counter() - begun) * 1000))
        return Begun(entry=entry, first=first, rest=events)
