"""Which endpoints are not asked for a while, because they failed."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from serve_app.registry.entry import ModelEntry

FAILURES = 5
"""One after the other open a circuit: before the first event, or in the middle of answers."""
WINDOW_S, LEAST_REQUESTS, FAILED_SHARE = 30.0, 20, 0.5
"""This share of at least so many requests in a window opens it too."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 60.0
"""Until one request may probe the endpoint; doubled by each probe that fails."""

State = Literal["closed", "open", "half-open"]

logger = logging.getLogger("manta")


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitState:
    endpoint: str
    served_name: str
    state: State
    """half-open: the next request probes it, or one does now."""
    opened: int
    """How often, since the gateway started."""
    probe_in_s: float = 0.0


@dataclass
class Circuit:
    """One endpoint's. An answer has begun, and has ended or broken: what breaks after its first event is no success."""

    name: str
    clock: Callable[[], float]
    opened: int = 0
    _failures: int = 0
    _breaks: int = 0
    _window: deque[list[float]] = field(default_factory=deque)
    """By second: [second, requests, failures]."""
    _open_until: float | None = None
    _wait_s: float = FIRST_WAIT_S
    _probing: bool = False
    _on_probation: bool = False
    """A probe's answer has begun; until one has ended, the next failure opens the circuit again."""

    @property
    def state(self) -> State:
        if self._open_until is None:
            return "closed"
        return "half-open" if self._probing or self.clock() >= self._open_until else "open"

    @property
    def probe_in_s(self) -> float:
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self.clock())

    @property
    def refuses(self) -> bool:
        """Whether no request may be made now: it is open, and not yet to be probed, or being probed."""
        return self._open_until is not None and (self._probing or self.clock() < self._open_until)

    def enter(self) -> None:
        """A request is made now; of an open circuit it is the one probe. Say what becomes of it."""
        self._probing = self._open_until is not None

    def began(self) -> None:
        self._failures = 0
        self._counted(failed=False)
        if self._open_until is not None:
            self._open_until, self._probing, self._on_probation = None, False, True
            logger.info("circuit of %s closes: it answers again", self.name)

    def ended(self) -> None:
        self._breaks, self._on_probation = 0, False

    def failed(self) -> None:
        """Before its first event."""
        self._failures += 1
        self._fell(self._failures)

    def broke(self) -> None:
        """In the middle."""
        self._breaks += 1
        self._fell(self._breaks)

    def abandoned(self) -> None:
        """Nobody knows what would have come; a probe goes to the next request."""
        self._probing = False

    def _fell(self, in_a_row: int) -> None:
        share = self._counted(failed=True)
        if self._open_until is not None:
            if self._probing:
                self._open(min(LONGEST_WAIT_S, self._wait_s * 2))
        elif self._on_probation:
            self._open(min(LONGEST_WAIT_S, self._wait_s * 2))
        elif in_a_row >= FAILURES or share >= FAILED_SHARE:
            self._open(FIRST_WAIT_S)

    def _open(self, seconds: float) -> None:
        self._wait_s, self._open_until, self._probing, self._on_probation = (
            seconds,
            self.clock() + seconds,
            False,
            False,
        )
        self._failures = self._breaks = 0
        self._window.clear()
        self.opened += 1
        logger.warning("circuit of %s opens for %.0f s: it fails", self.name, seconds)

    def _counted(self, *, failed: bool) -> float:
        """Share of the window's requests that failed; 0 while there are too few."""
        now = self.clock()
        while self._window and self._window[0][0] <= now - WINDOW_S:
            self._window.popleft()
        if not self._window or self._window[-1][0] <= now - 1:
            self._window.append([now, 0, 0])
        self._window[-1][1] += 1
        self._window[-1][2] += failed
        if not failed:
            return 0.0
        requests = sum(second[1] for second in self._window)
        return sum(second[2] for second in self._window) / requests if requests >= LEAST_REQUESTS else 0.0


@dataclass(frozen=True)
class Circuits:
    """This process's, one for each endpoint and what it serves: versions of models may share one."""

    clock: Callable[[], float] = time.monotonic
    _circuits: dict[tuple[str, str], Circuit] = field(default_factory=dict)

    def of(self, entry: ModelEntry) -> Circuit:
        key = entry.endpoint, entry.id_there
        found = self._circuits.get(key)
        if found is None:
            found = self._circuits[key] = Circuit(f"{entry.id_there} at {entry.endpoint}", self.clock)
        return found

    def forget(self, entry: ModelEntry) -> None:
        """What its endpoint did before counts no more: an operator says that it is well again."""
        self._circuits.pop((entry.endpoint, entry.id_there), None)

    def states(self) -> tuple[CircuitState, ...]:
        return tuple(
            CircuitState(
                endpoint=endpoint,
                served_name=name,
                state=circuit.state,
                opened=circuit.opened,
                probe_in_s=circuit.probe_in_s,
            )
            for (endpoint, name), circuit in self._circuits.items()
        )
