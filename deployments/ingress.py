"""The ingress role: the public API and the pipeline, holding the ports of everything else."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from fastapi import FastAPI

from deployments.control import Control, EngineMaker
from deployments.remote import Handle, RemoteClassifier, RemoteLibrary, RemoteRetriever, RemoteScreener
from deployments.secret import secret
from deployments.serve_status import ServeApplications
from serve_app.accounting import Accounts
from serve_app.admission import Admission
from serve_app.authenticator import Authenticator
from serve_app.documents.tokens import minilm_tokenizer, prompt_count
from serve_app.engines import Engines
from serve_app.errors import EngineFailed
from serve_app.guardrail import Guardrail
from serve_app.heads import SHIPPED, Heads
from serve_app.http.app import Gateway, create_app
from serve_app.http.deployment import Deployment
from serve_app.http.health import Readiness
from serve_app.indirect import SHIPPED as INSPECTOR
from serve_app.indirect import Inspector
from serve_app.pipeline import Pipeline
from serve_app.policy import INDIRECT, SessionSettings
from serve_app.prompt import Rooms
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.snapshot import Snapshot
from serve_app.retrieval import Retrieval
from serve_app.routing.attempts import Attempts
from serve_app.routing.router import Router
from serve_app.settings import GatewaySettings, ModelSettings, asset
from serve_app.telemetry import Telemetry
from serve_app.vaults import MemoryVaults, Vaults
from serve_app.vetting import Vetting


class Ingress:
    def __init__(self, settings: GatewaySettings, screener: Handle, classifier: Handle, retriever: Handle) -> None:
        self._settings = settings
        self._screener, self._classifier = RemoteScreener(screener), RemoteClassifier(classifier)
        self._retriever, self._library = RemoteRetriever(retriever), RemoteLibrary(retriever)
        self._telemetry = Telemetry()
        self._control = Control(settings, self._telemetry, self._classifier.encode)
        self._engines = Engines(EngineMaker())
        self._attempts = Attempts(settings.router.retry_share)
        self._enabled = enabled(self._control.copy.snapshot)
        self._control.copy.on_change.append(self._forgive)
        self._telemetry.watch(
            "manta_circuits_open",
            "Endpoints that are left alone for a while because they failed.",
            lambda: sum(state.state == "open" for state in self._attempts.circuits.states()),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(
            Gateway(
                settings=self._settings,
                pipeline=self._pipeline(),
                authenticator=Authenticator.from_settings(self._settings.keys),
                library=self._library,
                readiness=self._readiness(),
                count=prompt_count(minilm_tokenizer()),
                echoes_request_ids=True,
                started_at=int(time.time()),
                background=self._control.background,
                operations=self._control.operations,
                rollouts=self._control.rollouts,
                deployment=self._deployment(),
            )
        )

    def _pipeline(self) -> Pipeline:
        settings, control = self._settings, self._control
        return Pipeline(
            admission=Admission.from_settings(settings.keys),
            guardrail=Guardrail(self._screener, settings.guardrail, shipped_thresholds()),
            vetting=Vetting(self._screener, self._classifier, settings.guardrail),
            vaults=vaults_of(settings.guardrail.sessions),
            classifier=self._classifier,
            classifier_settings=settings.classifier,
            retrieval=Retrieval(self._retriever, settings.retriever),
            router=Router(
                lambda: control.copy.snapshot, settings.registry.environment, settings.router, self._attempts.pace
            ),
            rooms=Rooms(settings.retriever, token_counts(settings.models)),
            attempts=self._attempts,
            engines=self._engines,
            accounts=Accounts(self._telemetry, control.tally, control.receipts, settings.guardrail.policy_of),
            shadows=control.shadows,
        )

    def _forgive(self, shown: Snapshot) -> None:
        """A version that is enabled again is asked at once, however long its endpoint was to be left alone."""
        before, self._enabled = self._enabled, enabled(shown)
        for key in self._enabled.keys() - before.keys():
            self._attempts.circuits.forget(self._enabled[key])

    def _readiness(self) -> Readiness:
        names = {self._settings.router.small, self._settings.router.large}
        engines = {f"model {name}": partial(self._ping, name) for name in sorted(names)}
        parts = {"classifier": self._classifier.ping, "retriever": self._retriever.ping}
        return Readiness(required={"screener": self._screener.ping, **engines}, optional=parts)

    async def _ping(self, model: str) -> None:
        """Raises EngineFailed unless a version of the model that takes requests would answer one."""
        enabled = [e for e in self._control.copy.snapshot.versions(model, self._environment) if e.is_enabled]
        failure = EngineFailed(f"no version of {model!r} is enabled: see `manta registry list`")
        for entry in sorted(enabled, key=lambda entry: -entry.weight):
            try:
                return await self._engines.of(entry).ping()
            except EngineFailed as failed:
                failure = failed
        raise failure

    def _deployment(self) -> Deployment:
        copy = self._control.copy

        def served() -> list[ModelEntry]:
            return [entry for entry in copy.snapshot.entries if entry.environment == self._environment]

        async def find(key: Key) -> ModelEntry | None:
            return (await self._control.store.snapshot()).find(key)

        return Deployment(
            environment=self._settings.registry.environment,
            serve=ServeApplications(),
            check=self._control.check,
            find=find,
            circuits=lambda: {one.name: self._attempts.circuits.of(one).state for one in served()},
            copy=lambda: (copy.snapshot.revision, copy.age_s or 0.0, copy.is_stale),
        )

    @property
    def _environment(self) -> str:
        return self._settings.registry.environment


def enabled(snapshot: Snapshot) -> dict[Key, ModelEntry]:
    return {entry.key: entry for entry in snapshot.entries if entry.is_enabled}


def shipped_thresholds() -> dict[str, float]:
    """What the models that come with Manta were trained to, by category."""
    return {**Heads.load(SHIPPED).thresholds, INDIRECT: Inspector.load(INSPECTOR).threshold}


def token_counts(models: Mapping[str, ModelSettings]) -> dict[str, Callable[[str], int]]:
    """By model, where its tokenizer is at hand: the extractive engine reads with the encoder's.

    Raises ValueError where a config names a tokenizer that is not there.
    """
    paths = {name: minilm_tokenizer() for name, model in models.items() if model.engine == "extractive"}
    paths |= {name: asset(model.tokenizer_path) for name, model in models.items() if model.tokenizer_path}
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(f"models.{name}.tokenizer_path: there is no file {path}; leave it out to estimate tokens")
    return {name: prompt_count(path) for name, path in paths.items()}


def vaults_of(settings: SessionSettings) -> Vaults:
    """Raises ValueError where the config names a variable that is not set, or holds no URL."""
    url = secret(settings.redis_url_env, "guardrail.sessions.redis_url_env")
    if url is None:
        return MemoryVaults(settings.ttl_s)
    from serve_app.adapters.redis_vaults import RedisVaults

    return RedisVaults(url, settings.ttl_s)
