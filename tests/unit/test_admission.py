import pytest

from serve_app.admission import Admission
from serve_app.errors import RateLimited
from serve_app.settings import KeySettings
from tests.builders import CALLER


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(clock: Clock, **limits: int) -> Admission:
    return Admission.from_settings([KeySettings(id="k1", tenant="acme", sha256="0" * 64, **limits)], clock)


def test_requests_over_the_limit_are_refused_with_the_time_to_wait() -> None:
    limited = admission(Clock(), requests_per_minute=2)
    for _ in range(2):
        with limited.reserve(CALLER):
            pass
    with pytest.raises(RateLimited, match="2 requests per minute") as refused, limited.reserve(CALLER):
        pass
    assert refused.value.retry_after_s == pytest.approx(30)


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    limited = admission(clock, requests_per_minute=1)
    with limited.reserve(CALLER):
        pass
    clock.now = 60.0
    with limited.reserve(CALLER):
        assert limited.standing(CALLER).remaining == 0


def test_answers_under_way_are_limited_and_their_place_is_given_back() -> None:
    limited = admission(Clock(), concurrent_streams=1)
    with limited.reserve(CALLER), pytest.raises(RateLimited, match="under way"), limited.reserve(CALLER):
        pass
    with limited.reserve(CALLER):
        pass


def test_a_failed_answer_gives_its_place_back() -> None:
    limited = admission(Clock(), concurrent_streams=1)
    with pytest.raises(ZeroDivisionError), limited.reserve(CALLER):
        raise ZeroDivisionError
    with limited.reserve(CALLER):
        pass


def test_the_standing_tells_what_is_left() -> None:
    limited = admission(Clock(), requests_per_minute=60)
    with limited.reserve(CALLER):
        standing = limited.standing(CALLER)
    assert (standing.limit, standing.remaining, standing.reset_s) == (60, 59, pytest.approx(1))
