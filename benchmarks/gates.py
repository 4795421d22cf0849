"""How soon gates find a bad version, and how seldom they take back a good one: `python -m benchmarks.gates`.

Outcomes are drawn, not served; the counts, the tests and the settings are the product's own, at their defaults. One
version has a tenth of the traffic, the other nine tenths. A good version is looked at each second over a whole hold; a
bad one after every fifth of its requests. Results: results/gates.{json,md,png}
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.rollout.counts import BUCKETS, GROWTH, SMALLEST, Counts, Histogram
from serve_app.rollout.gate_settings import GateSettings
from serve_app.rollout.gates import verdict
from serve_app.rollout.tally import MOST_OF_ONE

RESULTS = Path(__file__).parent / "results" / "gates"
SETTINGS = GateSettings()
HOLD_S, CANARY_PER_S, STABLE_SHARE = 600, 10, 9
PATIENCE = 1_000
"""Requests of a bad version after which it was not found."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a version's outcomes are drawn from."""

    errors: float = 0.005
    fallbacks: float = 0.004
    blocked: float = 0.01
    refused: float = 0.04
    cited: float = 0.8
    grounded: float = 0.9
    """Mean of answers with two to four citations, each supported or not."""
    first_token_s: float = 0.2
    """The median; times are log-normal with this spread:"""
    spread: float = 0.5
    tokens_per_s: float = 40.0
    cost: float = 0.002
    cost_spread: float = 0.8
    outage: bool = False
    """For a minute in the middle of the hold a third of the requests fails and first tokens take three times as long;
    of both versions alike."""

    session: int = 0
    """Requests of a session, which come at once and are like each other; 0: each stands for itself."""

    def of_session(self, rng: np.random.Generator) -> "Service":
        """What one session is like: its shares vary as Beta with a sum of 5, its times and prices as stated here."""

        def share(mean: float) -> float:
            return float(rng.beta(5 * mean + 1e-9, 5 * (1 - mean)))

        return replace(
            self,
            errors=share(self.errors),
            blocked=share(self.blocked),
            refused=share(self.refused),
            grounded=share(self.grounded),
            first_token_s=self.first_token_s * math.exp(rng.normal(0, 0.4)),
            spread=0.3,
            tokens_per_s=self.tokens_per_s * math.exp(rng.normal(0, 0.2)),
            cost=self.cost * math.exp(rng.normal(0, 0.7)),
            cost_spread=0.4,
        )

    def at(self, second: int) -> "Service":
        if not self.outage or not HOLD_S // 2 <= second < HOLD_S // 2 + 60:
            return self
        return replace(self, errors=0.33, fallbacks=0.3, first_token_s=3 * self.first_token_s)


USUAL = Service()
GOOD = {
    "the same version": (USUAL, USUAL),
    "the same, with an outage of both": (replace(USUAL, outage=True), replace(USUAL, outage=True)),
    "the same, first tokens spread wide": (replace(USUAL, spread=1.0), replace(USUAL, spread=1.0)),
    **{
        f"the same, in sessions of {session} that differ": (replace(USUAL, session=session),) * 2
        for session in (10, 20, 50)
    },
    "as much worse as is tolerated": (
        replace(
            USUAL,
            errors=USUAL.errors + SETTINGS.errors,
            fallbacks=USUAL.fallbacks + SETTINGS.fallbacks,
            blocked=USUAL.blocked + SETTINGS.blocked,
            refused=USUAL.refused + SETTINGS.refused,
            grounded=USUAL.grounded - SETTINGS.grounded,
            first_token_s=USUAL.first_token_s * SETTINGS.first_token,
            tokens_per_s=USUAL.tokens_per_s * SETTINGS.tokens_per_s,
            cost=USUAL.cost * SETTINGS.cost,
        ),
        USUAL,
    ),
}
BAD = {
    "fails all requests": replace(USUAL, errors=1.0),
    "fails 30 %": replace(USUAL, errors=0.3),
    "fails 10 %": replace(USUAL, errors=0.1),
    "first token 3 times as late": replace(USUAL, first_token_s=0.6),
    "first token twice as late": replace(USUAL, first_token_s=0.4),
    "half the tokens per second": replace(USUAL, tokens_per_s=20.0),
    "citations supported 0.9 to 0.5": replace(USUAL, grounded=0.5),
    "declines 20 % more": replace(USUAL, refused=0.24),
    "guardrail cuts 20 % more": replace(USUAL, blocked=0.21),
    "costs twice as much": replace(USUAL, cost=0.004),
    "costs 1.5 times as much": replace(USUAL, cost=0.003),
}


class Drawn:
    """One arm's counts, growing."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.totals = dict.fromkeys(("requests", "failures", "fallbacks", "judged", "blocked", "refused", "cited"), 0)
        self.grounded = 0.0
        self.histograms = {name: np.zeros(BUCKETS, np.int64) for name in ("first_token", "per_token", "cost")}

    def come(self, service: Service, rate: float) -> None:
        """What comes in a second."""
        if not service.session:
            self.add(service, int(self.rng.poisson(rate)))
            return
        for _ in range(int(self.rng.poisson(rate / service.session))):
            self.add(service.of_session(self.rng), service.session, MOST_OF_ONE)

    def add(self, service: Service, requests: int, most_judged: int = sys.maxsize) -> None:
        rng, answered = self.rng, requests - int(self.rng.binomial(requests, service.errors))
        judged = min(answered, most_judged)
        cited = int(rng.binomial(judged, service.cited))
        drawn = {
            "requests": requests,
            "failures": requests - answered,
            "judged": judged,
            "fallbacks": int(rng.binomial(requests - answered, min(1, service.fallbacks / max(service.errors, 1e-9)))),
            "blocked": int(rng.binomial(judged, service.blocked)),
            "refused": int(rng.binomial(judged, service.refused)),
            "cited": cited,
        }
        for name, count in drawn.items():
            self.totals[name] += count
        of = rng.integers(2, 5, cited)
        self.grounded += float((rng.binomial(of, service.grounded) / of).sum())
        self._histogram("first_token", service.first_token_s * np.exp(rng.normal(0, service.spread, judged)))
        self._histogram("per_token", np.exp(rng.normal(0, 0.3, judged)) / service.tokens_per_s)
        self._histogram("cost", service.cost * np.exp(rng.normal(0, service.cost_spread, judged)))

    def _histogram(self, name: str, values: np.ndarray) -> None:
        positions = np.rint(np.log(values / SMALLEST) / math.log(GROWTH)).astype(int)
        np.add.at(self.histograms[name], positions, 1)

    def counts(self) -> Counts:
        made = {
            name: Histogram({int(at): int(dense[at]) for at in dense.nonzero()[0]})
            for name, dense in self.histograms.items()
        }
        return Counts(**self.totals, grounded=self.grounded, **made)


def held(name: str, seed: int) -> str:
    """The gate that took a good version back within a hold; empty where none did."""
    rng = np.random.default_rng([seed, *name.encode()])
    good, usual = GOOD[name]
    canary, stable = Drawn(rng), Drawn(rng)
    for second in range(HOLD_S):
        canary.come(good.at(second), CANARY_PER_S)
        stable.come(usual.at(second), CANARY_PER_S * STABLE_SHARE)
        found = verdict(canary.counts(), stable.counts(), SETTINGS)
        if found.state == "breach":
            return str(found.gate)
    return "" if found.state == "fine" else "not enough"


def sought(name: str, seed: int) -> tuple[int, str]:
    """How many requests a bad version had served when it was found, and by which gate."""
    rng = np.random.default_rng([seed, *name.encode()])
    canary, stable = Drawn(rng), Drawn(rng)
    for served in range(5, PATIENCE + 1, 5):
        canary.add(BAD[name], 5)
        stable.add(USUAL, int(rng.poisson(5 * STABLE_SHARE)))
        found = verdict(canary.counts(), stable.counts(), SETTINGS)
        if found.state == "breach":
            return served, str(found.gate)
    return PATIENCE, ""


def hunted(pool: Executor, name: str, runs: int) -> dict[str, Any]:
    found = list(pool.map(partial(sought, name), range(runs), chunksize=8))
    served, gates = sorted(one for one, _ in found), [gate for _, gate in found]
    return {
        "runs": runs,
        "served": served,
        "p50": int(np.percentile(served, 50)),
        "p95": int(np.percentile(served, 95)),
        "within_200": sum(one < 200 for one in served) / runs,
        "gates": {gate: gates.count(gate) for gate in sorted(set(gates))},
    }


def kept(pool: Executor, name: str, runs: int) -> dict[str, Any]:
    ends = list(pool.map(partial(held, name), range(runs), chunksize=8))
    taken_back = sorted(gate for gate in ends if gate not in ("", "not enough"))
    return {"runs": runs, "taken_back": len(taken_back), "gates": taken_back}


def report(found: Mapping[str, Any]) -> str:
    lines = [
        "# Gates of a rollout",
        "",
        f"By `python -m benchmarks.gates` ({', '.join(found['machine'].values())}).",
        "Outcomes are drawn; counts, tests and settings are the product's own, at their defaults (significance",
        f"{SETTINGS.significance:g} for a step). The canary has 10 % of the traffic.",
        "",
        f"Good versions, looked at each second for {HOLD_S} s at {CANARY_PER_S} canary requests a second:",
        "",
        "| version | holds | taken back | asked | by |",
        "|---|---:|---:|---:|---|",
    ]
    for name, one in found["good"].items():
        most = f"<= {SETTINGS.significance * one['runs']:.0f}"
        by = ", ".join(f"{gate} {one['gates'].count(gate)}" for gate in sorted(set(one["gates"])))
        lines.append(f"| {name} | {one['runs']} | {one['taken_back']} | {most} | {by} |")
    lines += [
        "",
        "Bad versions, and how many requests they had served when they were found (asked: fewer than 200):",
        "",
        "| version | runs | p50 | p95 | within 200 | found by |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, one in found["bad"].items():
        by = ", ".join(f"{gate or 'not found'} {count}" for gate, count in one["gates"].items())
        lines.append(f"| {name} | {one['runs']} | {one['p50']} | {one['p95']} | {one['within_200']:.0%} | {by} |")
    return "\n".join(lines) + "\n"


def picture(found: Mapping[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for (name, one), colour in zip(
        found["bad"].items(), mpl.colormaps["turbo"](np.linspace(0.05, 0.95, len(BAD))), strict=True
    ):
        served = [served for served in one["served"] if served < PATIENCE]
        share = np.arange(1, len(served) + 1) / one["runs"]
        axes.step([15, *served], [0, *share], where="post", label=name, color=colour)
    axes.axvline(200, color="#888888", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlim=(15, PATIENCE), ylim=(0, 1.02), xlabel="requests that the bad version had served")
    axes.set_ylabel("share of runs in which it was found")
    axes.set_xticks([20, 50, 100, 200, 500, 1000], ["20", "50", "100", "200", "500", "1,000"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=150)


def machine() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--holds", type=int, default=400, help="of each good version")
    parser.add_argument("--hunts", type=int, default=400, help="of each bad version")
    parser.add_argument("--only", default="", help="those with this in their name, beside what was measured before")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    chosen = [name for name in (*BAD, *GOOD) if not given.only or given.only in name]
    found: dict[str, Any] = {"good": {}, "bad": {}}
    if given.only:
        found = json.loads(RESULTS.with_suffix(".json").read_text(encoding="utf-8"))
    found["machine"] = machine()
    with ProcessPoolExecutor(given.workers) as pool:
        for name in chosen:
            began = time.perf_counter()
            if name in BAD:
                found["bad"][name] = hunted(pool, name, given.hunts)
            else:
                found["good"][name] = kept(pool, name, given.holds)
            write(found)
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    picture(found)
    print(report(found))


def write(found: Mapping[str, Any]) -> None:
    RESULTS.with_suffix(".json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(report(found), encoding="utf-8")


if __name__ == "__main__":
    main()
