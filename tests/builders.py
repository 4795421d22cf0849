"""Parts for tests, with defaults: a test names only what it is about."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.accounting import Accounts
from serve_app.adapters.memory_tally import MemoryTally
from serve_app.admission import Admission
from serve_app.authenticator import Authenticator, digest
from serve_app.engines import Engines
from serve_app.errors import MantaError
from serve_app.events import Delta, Events, Finished
from serve_app.guardrail import Guardrail
from serve_app.http.app import Gateway
from serve_app.http.health import Readiness
from serve_app.pipeline import Pipeline
from serve_app.policy import CATEGORIES
from serve_app.ports import ANY, Query
from serve_app.prompt import Rooms
from serve_app.registry.declared import declared
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Decide
from serve_app.retrieval import Retrieval
from serve_app.rollout.changes import start
from serve_app.rollout.shadow import Shadows
from serve_app.routing.attempts import Attempts
from serve_app.routing.receipt_log import MemoryReceipts
from serve_app.routing.router import Router
from serve_app.settings import GatewaySettings
from serve_app.telemetry import Telemetry
from serve_app.turn import Caller, Found, Message, Passage, Scope, Scores, Screening, Signals, Turn
from serve_app.vaults import MemoryVaults
from serve_app.vetting import Vetting

KEY = "sk-test"
THRESHOLDS = dict.fromkeys(CATEGORIES, 0.9)
CALLER = Caller("acme", "k1")


def settings(**changes: Any) -> GatewaySettings:
    given = {
        "keys": [{"id": "k1", "tenant": "acme", "sha256": digest(KEY)}],
        "models": {
            "small": {"application": "small", "engine": "vllm"},
            "large": {"application": "large", "engine": "vllm"},
            "extractive": {"application": "extractive", "engine": "extractive"},
        },
        "router": {"small": "small", "large": "large"},
    }
    return GatewaySettings.model_validate({**given, **changes})


def passage(text: str = "Weights roll back with one command.", **changes: Any) -> Passage:
    return replace(Passage("c1", text, 0.9, "file-1", "guide.md", "Guide", "Operations > Rollback"), **changes)


def turn(text: str = "How do I roll back?", **changes: Any) -> Turn:
    return replace(Turn(id="t1", caller=CALLER, messages=(Message("user", text),), model="small"), **changes)


def registered(version: str = "1", **changes: Any) -> ModelEntry:
    """A version that takes requests."""
    known = ModelEntry(
        model="llama",
        version=version,
        environment="development",
        endpoint="serve://llama",
        engine="vllm",
        status="enabled",
        weight=100,
    )
    return replace(known, **changes)


def begun(model: str = "llama", **changes: Any) -> Decide:
    """A rollout to version 2, by 5 % and 100 %."""
    given = {"id": "r1", "environment": "development", "to_version": "2", "steps": (5, 100), "hold_s": 60.0}
    return start(**{**given, "model": model, "who": "ann", "now": 1.0, **changes})


@dataclass
class OpenScreener:
    """Finds nothing, or fails, or forbids texts that hold a word."""

    forbidden: str = "\0"
    failure: MantaError | None = None
    seen: list[str] = field(default_factory=list)

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        if self.failure:
            raise self.failure
        self.seen.extend(texts)
        return tuple(Screening(policy="words" if self.forbidden in text else "") for text in texts)


@dataclass
class HashClassifier:
    """A deterministic embedding of the text; the scores are the test's, and so is what makes a passage suspicious."""

    scores: dict[str, float] = field(default_factory=lambda: {"difficulty": 0.0})
    by_text: dict[str, dict[str, float]] = field(default_factory=dict)
    """Further scores of texts that hold a word."""
    poison: str = "\0"
    failure: MantaError | None = None

    async def classify(self, text: str) -> Signals:
        if self.failure:
            raise self.failure
        return Signals((await self.encode((text,)))[0], self._scored(text))

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        if self.failure:
            raise self.failure
        return tuple(map(self._scored, texts))

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        if self.failure:
            raise self.failure
        return tuple(0.97 if self.poison in text else 0.02 for text in texts)

    def _scored(self, text: str) -> Scores:
        found = [scores for word, scores in self.by_text.items() if word in text]
        return dict.fromkeys(THRESHOLDS, 0.01) | self.scores | {k: v for scores in found for k, v in scores.items()}

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=384) for seed in seeds]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass
class ListRetriever:
    passages: tuple[Passage, ...] = ()
    failure: MantaError | None = None
    asked: list[Query] = field(default_factory=list)

    async def search(self, query: Query) -> Found:
        self.asked.append(query)
        if self.failure:
            raise self.failure
        return Found(self.passages)


@dataclass
class ScriptedEngine:
    """Says the given pieces; dies before the piece `dies_at`; knows whether it was stopped early."""

    pieces: tuple[str, ...] = ("Hello ", "world.")
    dies_at: int | None = None
    failure: MantaError | None = None
    said: int = 0
    was_closed_early: bool = False
    turns: list[Turn] = field(default_factory=list)

    async def generate(self, turn: Turn) -> Events:
        self.turns.append(turn)
        is_complete = False
        try:
            for number, piece in enumerate(self.pieces):
                if number == self.dies_at and self.failure:
                    raise self.failure
                self.said += 1
                yield Delta({"content": piece}, finish_reason="stop" if number == len(self.pieces) - 1 else None)
            yield Finished(prompt_tokens=5, output_tokens=len(self.pieces))
            is_complete = True
        finally:
            self.was_closed_early = not is_complete


def pipeline(given: GatewaySettings | None = None, **parts: Any) -> Pipeline:
    chosen = given or settings()
    engine = parts.pop("engine", ScriptedEngine())
    retriever = parts.pop("retriever", ListRetriever())
    screener = parts.pop("screener", OpenScreener())
    classifier = parts.pop("classifier", HashClassifier())
    snapshot = parts.pop("snapshot", declared(chosen.models, chosen.registry.environment))
    environment, tally = chosen.registry.environment, parts.pop("tally", MemoryTally())
    return Pipeline(
        **{
            "admission": Admission.from_settings(chosen.keys),
            "guardrail": Guardrail(screener, chosen.guardrail, THRESHOLDS),
            "vetting": Vetting(screener, classifier, chosen.guardrail),
            "vaults": MemoryVaults(ttl_s=60),
            "classifier": classifier,
            "classifier_settings": chosen.classifier,
            "retrieval": Retrieval(retriever, chosen.retriever),
            "router": Router(lambda: snapshot, environment, chosen.router),
            "rooms": Rooms(chosen.retriever, {}),
            "attempts": Attempts(),
            "engines": Engines(lambda entry: engine),
            "accounts": Accounts(Telemetry(), tally, MemoryReceipts(), chosen.guardrail.policy_of),
            "shadows": Shadows(lambda: snapshot, environment, chosen.router.shadow_forbidden, tally),
            **parts,
        }
    )


def gateway(given: GatewaySettings | None = None, **parts: Any) -> Gateway:
    chosen = given or settings()

    async def fine() -> None: ...

    return Gateway(
        settings=chosen,
        library=parts.pop("library", None),
        readiness=parts.pop("readiness", Readiness(required={"engine": fine}, optional={})),
        pipeline=pipeline(chosen, **parts),
        authenticator=Authenticator.from_settings(chosen.keys),
        count=lambda text: len(text.split()),
        started_at=1,
    )


Clock = Callable[[], float]
