"""Whether a version is worse: the tests' guarantee counted out exactly, and what each gate makes of counts."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.rollout.counts import Counts, Histogram, bucket, increments, middle
from serve_app.rollout.evidence import of_quantiles, of_shares
from serve_app.rollout.gate_settings import GateSettings
from serve_app.rollout.gates import GATES, verdict
from serve_app.rollout.outcome import Outcome

KEY = ("m", "1", "staging")
SETTINGS = GateSettings()


def counted(outcomes: Iterable[Outcome]) -> Counts:
    numbers: Counter[str] = Counter()
    for outcome in outcomes:
        for name, amount in increments(outcome):
            numbers[name] += amount  # type: ignore[assignment]
    return Counts.of(numbers)


def drawn(requests: int, **changed: Any) -> Counts:
    """An ordinary service's counts; `changed` are shares, or factors of what is measured."""
    usual = {"failed": 0.01, "fell_back": 0.01, "blocked": 0.01, "refused": 0.04, "grounded": 0.9}
    shares = {**usual, **{name: value for name, value in changed.items() if name in usual}}
    rng = np.random.default_rng(requests)
    flags = {name: rng.permutation(requests) < share * requests for name, share in shares.items()}
    noise = np.exp(np.sort(rng.permutation(np.linspace(-1.5, 1.5, requests))) * 0.5)
    times = {name: noise * changed.get(name, 1.0) for name in ("first_token_s", "cost")}
    speed = 40 * changed.get("tokens_per_s", 1.0) * noise
    return counted(
        Outcome(
            key=KEY,
            failed=bool(flags["failed"][n]),
            fell_back=bool(flags["fell_back"][n]),
            blocked=bool(flags["blocked"][n]),
            refused=bool(flags["refused"][n]),
            grounded=float(flags["grounded"][n]),
            first_token_s=float(times["first_token_s"][n]),
            tokens_per_s=float(speed[n]),
            cost=float(times["cost"][n]),
        )
        for n in range(requests)
    )


STABLE = drawn(1_800)


@pytest.mark.parametrize(
    ("gate", "changed"),
    [
        ("errors", {"failed": 0.3}),
        ("fallbacks", {"fell_back": 0.3}),
        ("blocked", {"blocked": 0.25}),
        ("refused", {"refused": 0.28}),
        ("grounded", {"grounded": 0.5}),
        ("first_token", {"first_token_s": 2.0}),
        ("tokens_per_s", {"tokens_per_s": 0.5}),
        ("cost", {"cost": 2.0}),
    ],
)
def test_each_gate_finds_what_it_looks_for_and_no_other_does(gate: str, changed: dict[str, float]) -> None:
    found = verdict(drawn(200, **changed), STABLE, SETTINGS)
    assert (found.state, found.gate, len(found.breaches)) == ("breach", gate, 1)
    assert found.figures()["gates"][gate]["evidence"] > 800


def test_a_version_that_is_no_worse_is_fine() -> None:
    found = verdict(drawn(200), STABLE, SETTINGS)
    assert found.state == "fine" and [finding.state for finding in found.findings] == ["fine"] * 8
    assert {finding.gate for finding in found.findings} == set(GATES)


def test_what_is_tolerated_is_no_breach_however_sure_it_is() -> None:
    almost = {"failed": 0.019, "fell_back": 0.029, "blocked": 0.029, "refused": 0.069, "grounded": 0.851}
    worse = drawn(20_000, **almost, first_token_s=1.2, tokens_per_s=0.84, cost=1.2)
    assert verdict(worse, drawn(180_000), SETTINGS).state == "fine"


def test_a_better_version_is_fine() -> None:
    better = {"failed": 0.0, "refused": 0.0, "blocked": 0.0, "grounded": 1.0, "first_token_s": 0.5, "tokens_per_s": 2.0}
    assert verdict(drawn(2_000, **better), STABLE, SETTINGS).state == "fine"


def test_nothing_is_concluded_from_few_requests_though_all_fail() -> None:
    broken = verdict(drawn(19, failed=1.0), STABLE, SETTINGS)
    assert broken.state == "not enough" and broken.findings[0].state == "not enough"
    assert verdict(drawn(20, failed=1.0), STABLE, SETTINGS).gate == "errors"


def test_a_step_needs_more_requests_than_a_breach_and_of_both_arms() -> None:
    assert verdict(drawn(SETTINGS.step_requests - 1), STABLE, SETTINGS).state == "not enough"
    assert verdict(drawn(SETTINGS.step_requests), STABLE, SETTINGS).state == "fine"
    assert verdict(drawn(200), drawn(SETTINGS.step_requests - 1), SETTINGS).state == "not enough"


def test_nothing_counted_is_not_fine() -> None:
    found = verdict(Counts(), Counts(), SETTINGS)
    assert found.state == "not enough" and {finding.state for finding in found.findings} == {"no figures"}


def test_without_the_other_arm_nothing_is_worse_than_it() -> None:
    assert verdict(drawn(500, failed=1.0), Counts(), SETTINGS).state == "not enough"


def test_the_verdict_says_the_figures() -> None:
    found = verdict(drawn(100, failed=0.3, first_token_s=3.0), STABLE, SETTINGS)
    assert "errors 30.0% against 1.0% (1% apart tolerated, 100 requests)" in found.words
    assert "first token" in found.words and " ms against " in found.words
    assert found.figures()["requests"] == {"canary": 100, "stable": 1_800}


def test_free_models_cost_nothing_against_nothing() -> None:
    free = [Outcome(key=KEY, cost=0.0)] * 100
    cost = verdict(counted(free), counted(free * 9), SETTINGS).findings[-1]
    assert (cost.canary, cost.stable, cost.state) == (0, 0, "fine")


def expectation(
    canary: dict[float, float], stable: dict[float, float], tolerance: float, sizes: tuple[int, int]
) -> float:
    """Of the evidence in favour of a difference, over all that can be drawn."""
    arms = [arm_totals(canary, sizes[0]), arm_totals(stable, sizes[1])]
    return sum(
        chance * other * math.exp(of_shares((total, sizes[0]), (less, sizes[1]), tolerance))
        for (total, chance), (less, other) in product(arms[0].items(), arms[1].items())
    )


def arm_totals(values: dict[float, float], size: int) -> dict[float, float]:
    totals = {0.0: 1.0}
    for _ in range(size):
        after: dict[float, float] = {}
        for (total, chance), (value, probability) in product(totals.items(), values.items()):
            after[total + value] = after.get(total + value, 0.0) + chance * probability
        totals = after
    return totals


@pytest.mark.parametrize("sizes", [(1, 1), (3, 20), (20, 20), (30, 5)])
@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        ({0.0: 0.9, 1.0: 0.1}, {0.0: 0.9, 1.0: 0.1}),
        ({0.0: 0.85, 1.0: 0.15}, {0.0: 0.9, 1.0: 0.1}),
        ({0.0: 0.5, 1.0: 0.5}, {0.0: 0.55, 1.0: 0.45}),
        ({0.0: 0.35, 0.5: 0.2, 1.0: 0.45}, {0.0: 0.5, 1.0: 0.5}),
    ],
)
def test_evidence_of_shares_is_expected_to_be_at_most_one_where_the_version_is_no_worse(
    canary: dict[float, float], stable: dict[float, float], sizes: tuple[int, int]
) -> None:
    assert expectation(canary, stable, 0.05, sizes) <= 1.0 + 1e-9


def multinomial(probabilities: tuple[float, ...], size: int) -> list[tuple[dict[int, int], float]]:
    found = []
    for counts in product(range(size + 1), repeat=len(probabilities)):
        if sum(counts) == size:
            ways = math.factorial(size) / math.prod(map(math.factorial, counts))
            chance = ways * math.prod(p**n for p, n in zip(probabilities, counts, strict=True))
            found.append(({100 + 10 * at: n for at, n in enumerate(counts) if n}, chance))
    return found


@pytest.mark.parametrize("sizes", [(2, 6), (6, 6), (8, 3)])
@pytest.mark.parametrize(
    ("canary", "stable"),
    [((0.5, 0.3, 0.2), (0.5, 0.3, 0.2)), ((0.5, 0.0, 0.5), (0.5, 0.5, 0.0)), ((0.6, 0.4), (0.0, 1.0))],
)
def test_evidence_of_quantiles_is_expected_to_be_at_most_one_where_the_version_is_no_worse(
    canary: tuple[float, ...], stable: tuple[float, ...], sizes: tuple[int, int]
) -> None:
    expected = sum(
        chance * other * math.exp(of_quantiles(Histogram(one), Histogram(two), 0.5, 1.25))
        for (one, chance), (two, other) in product(multinomial(canary, sizes[0]), multinomial(stable, sizes[1]))
    )
    assert expected <= 1.0 + 1e-9


def test_looking_at_each_request_takes_no_good_version_back() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        failed = np.cumsum(rng.random((300, 10)) < 0.02, axis=0)
        looks = [of_shares((int(row[0]), n), (int(row[1:].sum()), 9 * n), 0.0) for n, row in enumerate(failed, 1)]
        assert max(looks) < math.log(len(GATES) / SETTINGS.significance)


@given(st.floats(1e-8, 1e9))
def test_a_bucket_knows_its_values_to_five_percent(value: float) -> None:
    assert abs(middle(bucket(value)) / value - 1) <= 0.05


@given(st.lists(st.sampled_from([0.1, 0.2, 0.4, 3.0]), min_size=1), st.sampled_from([0.5, 0.95]))
def test_quantiles_of_a_histogram_are_those_of_its_values(values: list[float], share: float) -> None:
    found = Histogram(dict(Counter(map(bucket, values)))).quantile(share)
    assert found == pytest.approx(float(np.quantile(values, share, method="inverted_cdf")), rel=0.05)


def test_counts_of_two_replicas_add_up() -> None:
    one, two = Counter(a=0), Counter(a=0)
    outcomes = [Outcome(key=KEY, first_token_s=0.1 * n, cost=n, grounded=0.5, failed=n % 2 == 0) for n in range(1, 9)]
    for numbers, part in ((one, outcomes[:5]), (two, outcomes[5:])):
        for outcome in part:
            numbers.update(dict(increments(outcome)))
    assert Counts.of({name: one[name] + two[name] for name in {*one, *two}}) == counted(outcomes)


def test_numbers_of_another_version_are_left_out() -> None:
    assert Counts.of({"requests": 2, "smiles": 3, "first_token/x": 1, "moods/3": 1}) == replace(Counts(), requests=2)
