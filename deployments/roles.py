"""What one replica of each role holds. Plain classes: Serve is applied to them in `app.py`.

Each imports its part when it is constructed: a replica must not pay memory for the parts of the others.
"""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deployments.remote import GATEWAY, Handle, RemoteClassifier, RemoteScreener, named
from deployments.secret import secret
from serve_app.errors import RetrieverUnavailable
from serve_app.events import Events
from serve_app.ports import ANY, Query
from serve_app.ports import Classifier as ClassifierPort
from serve_app.settings import (
    ClassifierSettings,
    ExtractiveSettings,
    GatewaySettings,
    MilvusSettings,
    asset,
)
from serve_app.turn import Found, Scope, Scores, Screening, Signals, Turn

if TYPE_CHECKING:
    from serve_app.adapters.milvus import MilvusIndex

logger = logging.getLogger("manta")


class Screener:
    def __init__(self, settings: GatewaySettings) -> None:
        from serve_app.adapters.presidio import PresidioScreener

        self._screener = PresidioScreener(settings.guardrail)

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        return await self._screener.screen(texts, scope)

    async def ping(self) -> None:
        await self.screen(("",))


class Classifier:
    def __init__(self, settings: GatewaySettings) -> None:
        self._classifier = classifier_of(settings.classifier)

    async def classify(self, text: str) -> Signals:
        return await self._classifier.classify(text)

    async def encode(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        return await self._classifier.encode(texts)

    async def score(self, texts: tuple[str, ...]) -> tuple[Scores, ...]:
        return await self._classifier.score(texts)

    async def inspect(self, texts: tuple[str, ...]) -> tuple[float, ...]:
        return await self._classifier.inspect(texts)

    async def ping(self) -> None:
        await self.classify("ping")


class Retriever:
    """Searches, and owns the library: Milvus Lite and the catalog's SQLite have one process each as their owner."""

    async def __init__(self, settings: GatewaySettings, classifier: Handle, screener: Handle) -> None:  # type: ignore[misc]
        from serve_app.adapters.catalog import Catalog
        from serve_app.adapters.milvus import MilvusIndex
        from serve_app.adapters.rerankers import reranker_of
        from serve_app.library import Library
        from serve_app.redaction import Redaction

        reader = RemoteClassifier(classifier)
        self._index = MilvusIndex(settings.retriever.milvus, milvus_token(settings.retriever.milvus))
        await opened(self._index, settings.retriever.milvus)
        self._library = Library(
            Catalog(settings.retriever.catalog_url),
            self._index,
            reader.encode,
            settings.retriever,
            inspect=reader.inspect if settings.retriever.inspected_at == "ingestion" else None,
            redaction=Redaction(RemoteScreener(screener), settings.guardrail),
            reranker=reranker_of(settings.retriever.reranker),
        )
        await self._library.open()

    async def search(self, query: Query) -> Found:
        return await self._library.search(query)

    async def library(self, method: str, values: tuple[Any, ...], named_values: dict[str, Any]) -> Any:
        return await getattr(self._library, method)(*values, **named_values)

    async def ping(self) -> None:
        await self._index.ping()


async def opened(index: "MilvusIndex", settings: MilvusSettings) -> None:
    """A server that is away is looked for again by every search; files and stores can be used meanwhile.

    Raises what only a person can mend: a collection that does not fit, a folder that another service uses.
    """
    try:
        await index.open()
    except RetrieverUnavailable as away:
        if settings.is_lite:
            raise
        logger.warning("the retriever starts without its index: %s", away)


class Extractive:
    def __init__(self, settings: ExtractiveSettings) -> None:
        from serve_app.documents.tokens import minilm_tokenizer, prompt_count
        from serve_app.extractive import ExtractiveEngine

        encode = RemoteClassifier(named("classifier", GATEWAY)).encode
        self._engine = ExtractiveEngine(settings, encode, prompt_count(minilm_tokenizer()))
        self._described = {"engine": "extractive", "context_tokens": settings.context_tokens}

    async def generate(self, turn: Turn) -> Events:
        async for event in self._engine.generate(turn):
            yield event

    async def describe(self) -> dict[str, Any]:
        """What the registry fills in when this application is registered."""
        return self._described

    async def ping(self) -> None:
        """Answers once it is constructed."""


def classifier_of(settings: ClassifierSettings) -> ClassifierPort:
    if settings.backend == "triton":
        from serve_app.adapters.triton import TritonClassifier

        return TritonClassifier(settings.triton_url, settings.triton_model, settings.deadline_ms / 1000)
    from serve_app.classifier import EmbeddedClassifier

    return EmbeddedClassifier.load(asset(settings.encoder_path), settings.threads)


def milvus_token(settings: MilvusSettings) -> str | None:
    return secret(settings.token_env, "retriever.milvus.token_env")
