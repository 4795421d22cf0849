"""The public API as one FastAPI application over the pipeline and its ports."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.responses import JSONResponse, Response

from serve_app.admission import Admission
from serve_app.authenticator import Authenticator
from serve_app.errors import InvalidRequest, UnknownModel
from serve_app.http import errors
from serve_app.http.deployment import Deployment, deployment_router
from serve_app.http.files import files_router
from serve_app.http.health import Readiness, health_router
from serve_app.http.middleware import RequestIds
from serve_app.http.moderations import moderations_router
from serve_app.http.receipts import receipts_router
from serve_app.http.registry import registry_router
from serve_app.http.requests import chat_turn, completion_turn, read
from serve_app.http.responses import AnswerResponse, limit_headers
from serve_app.http.rollouts import rollouts_router
from serve_app.http.schema import body_schema
from serve_app.http.subjects import subjects_router
from serve_app.http.vector_stores import vector_stores_router
from serve_app.http.wire import ChatRequest, CompletionRequest, EmbeddingRequest
from serve_app.library_port import LibraryPort
from serve_app.moderation import Moderation
from serve_app.pipeline import Pipeline
from serve_app.registry.operations import RegistryOperations
from serve_app.rollout.operations import RolloutOperations
from serve_app.router_settings import AUTO
from serve_app.settings import GatewaySettings
from serve_app.turn import Caller, Turn

ENCODER = "all-MiniLM-L6-v2"
MAX_EMBEDDING_INPUTS = 2_048


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """Everything the HTTP layer needs, built once per ingress replica."""

    settings: GatewaySettings
    pipeline: Pipeline
    authenticator: Authenticator
    library: LibraryPort
    readiness: Readiness
    count: Callable[[str], int]
    """Tokens of a text as the encoder reads it, for the usage of embeddings."""
    echoes_request_ids: bool = False
    """The server around the application echoes `x-request-id` by itself."""
    started_at: int
    """Unix seconds, the `created` of every model."""
    background: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """What runs beside the requests, from the first to the last: the registry's copy, the rollouts' watch."""
    operations: RegistryOperations | None = None
    """None: there is no registry to change here, and so are the two below."""
    rollouts: RolloutOperations | None = None
    deployment: Deployment | None = None

    @property
    def admission(self) -> Admission:
        return self.pipeline.admission

    @property
    def moderation(self) -> Moderation:
        guardrail = self.pipeline.guardrail
        return Moderation(guardrail.screener, self.pipeline.classifier, guardrail.settings, guardrail.shipped)

    def authenticate(self, request: Request) -> Caller:
        return self.authenticator.authenticate(request.headers.get("authorization"))


def create_app(gateway: Gateway) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway.background():
            yield

    app = FastAPIOffline(
        title="Manta",
        description="A self-hosted LLM service: OpenAI's API, screened, grounded and cited.",
        lifespan=lifespan,
    )
    errors.install(app)
    app.add_middleware(RequestIds, is_echoed=gateway.echoes_request_ids)
    authenticate = gateway.authenticate
    embed = gateway.pipeline.classifier.encode
    add_answers(app, gateway)
    add_models(app, gateway)
    add_embeddings(app, gateway)
    app.include_router(moderations_router(gateway.moderation, gateway.admission, authenticate, gateway.settings.http))
    app.include_router(files_router(gateway.library, authenticate, gateway.settings.retriever.max_file_bytes))
    app.include_router(
        vector_stores_router(gateway.library, authenticate, gateway.pipeline.retrieval.retriever.search, embed)
    )
    app.include_router(subjects_router(gateway.library, authenticate))
    if gateway.operations:
        app.include_router(registry_router(gateway.operations, authenticate))
    if gateway.rollouts:
        app.include_router(rollouts_router(gateway.rollouts, authenticate))
    if gateway.deployment:
        app.include_router(deployment_router(gateway.deployment, authenticate))
    app.include_router(receipts_router(gateway.pipeline.accounts.receipts, authenticate))
    app.include_router(health_router(gateway.readiness))
    add_metrics(app, gateway)
    return app


def add_answers(app: FastAPI, gateway: Gateway) -> None:
    http = gateway.settings.http

    def respond(turn: Turn) -> Response:
        return AnswerResponse(turn, gateway.pipeline.answer(turn), lambda: gateway.admission.standing(turn.caller))

    @app.post("/v1/chat/completions", openapi_extra=body_schema(ChatRequest), tags=["answers"])
    async def chat(request: Request, caller: Annotated[Caller, Depends(gateway.authenticate)]) -> Response:
        asked = await read(request, ChatRequest, http.max_body_bytes)
        return respond(chat_turn(asked, caller, request.state.id, http.request_deadline_s))

    @app.post("/v1/completions", openapi_extra=body_schema(CompletionRequest), tags=["answers"])
    async def completions(request: Request, caller: Annotated[Caller, Depends(gateway.authenticate)]) -> Response:
        asked = await read(request, CompletionRequest, http.max_body_bytes)
        return respond(completion_turn(asked, caller, request.state.id, http.request_deadline_s))


def add_models(app: FastAPI, gateway: Gateway) -> None:
    def owners() -> dict[str, str]:
        models = gateway.pipeline.router.models()
        return {AUTO: "manta", **{name: entries[0].owner for name, entries in models.items()}, ENCODER: "manta"}

    def card(name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": gateway.started_at, "owned_by": owner}

    @app.get("/v1/models", tags=["models"], dependencies=[Depends(gateway.authenticate)])
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card(name, owner) for name, owner in owners().items()]}

    @app.get("/v1/models/{name:path}", tags=["models"], dependencies=[Depends(gateway.authenticate)])
    async def model(name: str) -> dict[str, Any]:
        """A model, or one of its versions: `chat@2`."""
        known = owners()
        if name not in known:
            gateway.pipeline.router.check(name)
        return card(name, known.get(name) or known.get(name.partition("@")[0], "manta"))


def add_embeddings(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/embeddings", openapi_extra=body_schema(EmbeddingRequest), tags=["models"])
    async def embeddings(request: Request, caller: Annotated[Caller, Depends(gateway.authenticate)]) -> Response:
        asked = await read(request, EmbeddingRequest, gateway.settings.http.max_body_bytes)
        texts = embedding_texts(asked)
        with gateway.admission.reserve(caller):
            vectors = await gateway.pipeline.classifier.encode(texts)
        if asked.encoding_format == "base64":
            shown: list[Any] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
        else:
            shown = np.asarray(vectors, dtype=np.float64).tolist()
        tokens = sum(map(gateway.count, texts))
        body = {
            "object": "list",
            "model": ENCODER,
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(shown)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return JSONResponse(body, headers=limit_headers(gateway.admission.standing(caller)))


def embedding_texts(asked: EmbeddingRequest) -> tuple[str, ...]:
    if asked.model not in (ENCODER, AUTO):
        raise UnknownModel(f"model: {asked.model!r} makes no embeddings here; ask for {ENCODER!r}").at("model")
    if asked.dimensions not in (None, 384):
        raise InvalidRequest(f"dimensions: {ENCODER} has 384 (got {asked.dimensions})").at("dimensions")
    texts = (asked.input,) if isinstance(asked.input, str) else tuple(asked.input)
    if not 0 < len(texts) <= MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(f"input: send 1 to {MAX_EMBEDDING_INPUTS} texts (got {len(texts)})").at("input")
    return texts


def add_metrics(app: FastAPI, gateway: Gateway) -> None:
    guards = [] if gateway.settings.http.public_metrics else [Depends(gateway.authenticate)]

    @app.get("/metrics", tags=["operations"], dependencies=guards)
    async def metrics() -> Response:
        return Response(gateway.pipeline.telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
