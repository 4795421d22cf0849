"""How soon models begin to answer, as a sketch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.routing.pace import HALF_LIFE_S, LEAST, Pace
from tests.upstream import Clock

KEY = ("small", "1", "development")


def test_the_pace_of_a_model_nobody_asks_is_not_known() -> None:
    pace = Pace(Clock())
    for _ in range(int(LEAST) - 1):
        pace.record(KEY, 0.1)
    assert pace.p95_ms(KEY) is None
    pace.record(KEY, 0.1)
    assert pace.p95_ms(KEY) == pytest.approx(100, rel=0.13)
    assert pace.p95_ms(("other", "1", "development")) is None


@given(st.lists(st.floats(0.0005, 60), min_size=20, max_size=300))
def test_the_pace_is_the_95th_percentile_and_never_too_low(seconds: list[float]) -> None:
    pace = Pace(Clock())
    for first_s in seconds:
        pace.record(KEY, first_s)
    exact = sorted(seconds)[-int(len(seconds) * 0.05 + 1e-9) - 1] * 1000
    found = pace.p95_ms(KEY)
    assert found is not None
    assert exact <= found * 1.000001
    assert found <= max(exact, 1.0) * 2 ** (1 / 6) * 1.000001


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 1e9])
def test_any_time_can_be_recorded(seconds: float) -> None:
    pace = Pace(Clock())
    for _ in range(10):
        pace.record(KEY, seconds)
    assert pace.p95_ms(KEY)


def test_the_pace_follows_the_last_minutes() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(600):
        clock.now += 0.1
        pace.record(KEY, 2.0)
    for _ in range(6_000):
        clock.now += 0.1
        pace.record(KEY, 0.1)
    assert pace.p95_ms(KEY) == pytest.approx(100, rel=0.13)
    clock.now += 12 * HALF_LIFE_S
    assert pace.p95_ms(KEY) is None
