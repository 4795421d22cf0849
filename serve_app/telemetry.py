"""Names of metrics, the stopwatch of a turn, and the one log line it ends with."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

logger = logging.getLogger("manta")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96)


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds of each stage of one turn, and since its start."""

    started: float = field(default_factory=time.perf_counter)
    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stages_ms[name] = (time.perf_counter() - begun) * 1000

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000


class Telemetry:
    """Prometheus metrics of one ingress replica, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.turns = Counter(
            "manta_turns_total",
            "Turns by model, version and outcome.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self.first_token = Histogram(
            "manta_time_to_first_token_seconds",
            "Request to first event.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stage = Histogram(
            "manta_stage_seconds", "Time of each stage of a turn.", ["stage"], buckets=SECONDS, registry=self.registry
        )
        self.tokens = Counter(
            "manta_tokens_total", "Tokens by model and direction.", ["model", "direction"], registry=self.registry
        )
        self.degraded = Counter(
            "manta_degraded_total", "Turns answered without a part.", ["part"], registry=self.registry
        )
        self.refused = Counter(
            "manta_refused_total", "Turns refused by the guardrail, by policy.", ["policy"], registry=self.registry
        )
        self.rollbacks = Counter(
            "manta_rollbacks_total",
            "Rollouts taken back by a gate, by model and gate.",
            ["model", "gate"],
            registry=self.registry,
        )
        self.attempts = Counter(
            "manta_attempts_total",
            "Candidates that were asked, or left out because their circuit is open, by what came of it.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self.under_way = Gauge("manta_turns_under_way", "Turns being answered now.", registry=self.registry)

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge that is read whenever the metrics are."""
        Gauge(name, documentation, registry=self.registry).set_function(read)

    def began(self, model: str, timings_ms: dict[str, float], elapsed_ms: float, degraded: tuple[str, ...]) -> None:
        self.first_token.labels(model).observe(elapsed_ms / 1000)
        for stage, spent_ms in timings_ms.items():
            self.stage.labels(stage).observe(spent_ms / 1000)
        for part in degraded:
            self.degraded.labels(part).inc()

    def ended(
        self,
        turn_id: str,
        tenant: str,
        model: str,
        version: str,
        outcome: str,
        tokens: tuple[int, int],
        elapsed_ms: float,
    ) -> None:
        """Counts the turn and writes its one log line; the text of prompts and answers is never in it."""
        self.turns.labels(model, version, outcome).inc()
        self.tokens.labels(model, "prompt").inc(tokens[0])
        self.tokens.labels(model, "output").inc(tokens[1])
        logger.info(
            "turn id=%s tenant=%s model=%s version=%s outcome=%s prompt_tokens=%d output_tokens=%d ms=%.1f",
            *(turn_id, tenant, model, version, outcome, *tokens, elapsed_ms),
        )

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
