from hypothesis import given
from hypothesis import strategies as st

from serve_app.routing.budget import BURST, RetryBudget


@given(st.floats(0, 1), st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=300))
def test_retries_are_at_most_the_share_of_requests_and_a_constant_from_any_moment_on(
    share: float, requests: list[tuple[bool, int]]
) -> None:
    budget = RetryBudget(share)
    taken = []
    for _, wanted in requests:
        budget.asked()
        taken.append(sum(budget.takes() for _ in range(wanted)))
    for start in range(len(taken) + 1):
        assert sum(taken[start:]) <= share * (len(taken) - start) + BURST + 1e-6


def test_a_quiet_service_may_retry_at_once() -> None:
    budget = RetryBudget(0.0)
    assert [budget.takes() for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]


def test_a_quiet_stretch_saves_nothing_up() -> None:
    budget = RetryBudget(1.0)
    for _ in range(100):
        budget.asked()
    assert sum(budget.takes() for _ in range(100)) == BURST
