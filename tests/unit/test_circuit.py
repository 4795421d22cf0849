"""When an endpoint is left alone, and when it is asked again."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.routing.circuit import (
    FAILURES,
    FIRST_WAIT_S,
    LEAST_REQUESTS,
    LONGEST_WAIT_S,
    WINDOW_S,
    Circuit,
    Circuits,
)
from tests.upstream import Clock, entry


@dataclass
class Endpoint:
    clock: Clock = field(default_factory=Clock)
    circuit: Circuit = field(init=False)

    def __post_init__(self) -> None:
        self.circuit = Circuits(self.clock).of(entry("http://there"))

    def fails(self, times: int = 1) -> None:
        for _ in range(times):
            self.circuit.enter()
            self.circuit.failed()

    def breaks(self, times: int = 1) -> None:
        for _ in range(times):
            self.circuit.enter()
            self.circuit.began()
            self.circuit.broke()

    def answers(self, times: int = 1) -> None:
        for _ in range(times):
            self.circuit.enter()
            self.circuit.began()
            self.circuit.ended()

    def waits(self, seconds: float) -> None:
        self.clock.now += seconds


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def test_failures_in_a_row_open_it(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES - 1)
    assert not endpoint.circuit.refuses
    endpoint.fails()
    assert endpoint.circuit.refuses


def test_an_answer_between_failures_keeps_it_closed(endpoint: Endpoint) -> None:
    for _ in range(3):
        endpoint.fails(FAILURES - 1)
        endpoint.answers()
    assert not endpoint.circuit.refuses


def test_answers_that_break_off_in_a_row_open_it_though_each_began(endpoint: Endpoint) -> None:
    endpoint.breaks(FAILURES - 1)
    assert not endpoint.circuit.refuses
    endpoint.breaks()
    assert endpoint.circuit.refuses


def test_half_of_the_requests_failing_opens_it_once_there_are_enough(endpoint: Endpoint) -> None:
    for _ in range(LEAST_REQUESTS // 2 - 1):
        endpoint.answers()
        endpoint.fails()
    endpoint.answers()
    assert not endpoint.circuit.refuses
    endpoint.fails()
    assert endpoint.circuit.refuses


def test_fewer_than_half_failing_does_not_open_it(endpoint: Endpoint) -> None:
    for _ in range(100):
        endpoint.answers(3)
        endpoint.fails(2)
    assert not endpoint.circuit.refuses


def test_what_happened_before_the_window_does_not_count(endpoint: Endpoint) -> None:
    for _ in range(LEAST_REQUESTS // 2 - 1):
        endpoint.answers()
        endpoint.fails()
    endpoint.waits(WINDOW_S + 1)
    endpoint.answers()
    endpoint.fails()
    assert not endpoint.circuit.refuses


def test_what_opened_it_once_does_not_open_it_again(endpoint: Endpoint) -> None:
    for _ in range(LEAST_REQUESTS // 2):
        endpoint.answers()
        endpoint.fails()
    assert endpoint.circuit.refuses
    endpoint.waits(FIRST_WAIT_S)
    endpoint.answers()
    endpoint.fails()
    assert not endpoint.circuit.refuses


def test_one_request_probes_it_after_a_while_and_no_other(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    endpoint.waits(FIRST_WAIT_S - 0.1)
    assert endpoint.circuit.refuses
    endpoint.waits(0.1)
    assert not endpoint.circuit.refuses
    endpoint.circuit.enter()
    assert endpoint.circuit.refuses


def test_a_probe_that_answers_closes_it(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    endpoint.waits(FIRST_WAIT_S)
    endpoint.answers()
    assert endpoint.circuit.state == "closed"
    endpoint.fails(FAILURES - 1)
    assert endpoint.circuit.state == "closed"


def test_a_probe_that_fails_doubles_the_wait_up_to_the_longest(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    waits = []
    for _ in range(6):
        waits.append(endpoint.circuit.probe_in_s)
        endpoint.waits(waits[-1])
        endpoint.fails()
    assert waits == [5, 10, 20, 40, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_a_probe_whose_answer_breaks_off_doubles_the_wait_too(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    endpoint.waits(FIRST_WAIT_S)
    endpoint.breaks()
    assert endpoint.circuit.probe_in_s == 2 * FIRST_WAIT_S


def test_after_an_answer_it_waits_as_briefly_as_at_first(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    endpoint.waits(FIRST_WAIT_S)
    endpoint.fails()
    endpoint.waits(2 * FIRST_WAIT_S)
    endpoint.answers()
    endpoint.fails(FAILURES)
    assert endpoint.circuit.probe_in_s == FIRST_WAIT_S


def test_a_probe_that_is_abandoned_goes_to_the_next_request(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    endpoint.waits(FIRST_WAIT_S)
    endpoint.circuit.enter()
    endpoint.circuit.abandoned()
    assert not endpoint.circuit.refuses


def test_requests_that_were_under_way_when_it_opened_do_not_prolong_it(endpoint: Endpoint) -> None:
    endpoint.fails(FAILURES)
    for _ in range(50):
        endpoint.circuit.failed()
    assert endpoint.circuit.probe_in_s == FIRST_WAIT_S
    assert endpoint.circuit.opened == 1


def test_states_are_told_by_endpoint_and_served_name() -> None:
    clock = Clock()
    circuits = Circuits(clock)
    one, other = entry("http://one", served_name="a"), entry("http://one", served_name="b")
    assert circuits.of(one) is circuits.of(entry("http://one", served_name="a", version="7", weight=3))
    for _ in range(FAILURES):
        circuits.of(one).failed()
    circuits.of(other).began()
    clock.now += 2
    assert [(s.endpoint, s.served_name, s.state, s.opened, s.probe_in_s) for s in circuits.states()] == [
        ("http://one", "a", "open", 1, FIRST_WAIT_S - 2),
        ("http://one", "b", "closed", 0, 0),
    ]
    clock.now += 3
    assert circuits.states()[0].state == "half-open"


def test_an_endpoint_that_is_forgotten_is_asked_at_once() -> None:
    circuits, broken = Circuits(Clock()), entry("http://one")
    for _ in range(FAILURES):
        circuits.of(broken).failed()
    assert circuits.of(broken).refuses
    circuits.forget(broken)
    assert not circuits.of(broken).refuses


STEPS = st.sampled_from(["ask", "answer", "fail", "break", "leave", "wait"])


@given(st.lists(st.tuples(STEPS, st.floats(0.1, 70)), max_size=200))
def test_whatever_happens_it_admits_a_request_within_the_longest_wait(steps: list[tuple[str, float]]) -> None:
    """Late answers and failures of requests from before it opened are among it."""
    endpoint = Endpoint()
    circuit, probing = endpoint.circuit, 0
    for step, seconds in steps:
        if step == "ask" and not circuit.refuses:
            circuit.enter()
            probing += 1
        elif step == "wait":
            endpoint.waits(seconds)
        elif probing and step in ("answer", "break"):
            probing -= 1
            circuit.began()
            (circuit.ended if step == "answer" else circuit.broke)()
        elif probing and step in ("fail", "leave"):
            probing -= 1
            (circuit.failed if step == "fail" else circuit.abandoned)()
    for _ in range(probing):
        circuit.abandoned()
    endpoint.waits(LONGEST_WAIT_S)
    assert not circuit.refuses
