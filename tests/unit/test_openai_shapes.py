"""Our responses against OpenAI's own specification, where it lies beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.builders import ListRetriever, ScriptedEngine, gateway, passage
from tests.unit.test_http import ask, call, frames

SPECIFICATION = Path(__file__).parents[3] / "shared" / "data" / "openapi" / "openai-subset.json"

pytestmark = pytest.mark.skipif(
    not SPECIFICATION.exists(), reason="OpenAI's specification is missing: shared/data/openapi/openai-subset.json"
)


def complaints(body: Any, schema: str) -> list[str]:
    specification = with_nulls(json.loads(SPECIFICATION.read_text()))
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **specification})
    return [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in validator.iter_errors(body)]


def with_nulls(node: Any) -> Any:
    """OpenAPI 3.0's `nullable`, which JSON Schema does not know, as a choice."""
    if isinstance(node, list):
        return [with_nulls(one) for one in node]
    if not isinstance(node, dict):
        return node
    inside = {key: with_nulls(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [inside, {"type": "null"}]} if node.get("nullable") is True else inside


def cited() -> Any:
    return gateway(engine=ScriptedEngine(pieces=("So ", "it is [1].")), retriever=ListRetriever((passage(),)))


async def test_a_cited_answer_fits() -> None:
    assert complaints((await ask(cited(), model="auto")).json(), "CreateChatCompletionResponse") == []


async def test_every_chunk_of_a_stream_fits() -> None:
    chunks = frames(await ask(cited(), model="auto", stream=True, stream_options={"include_usage": True}))[:-1]
    assert [c for chunk in chunks for c in complaints(chunk, "CreateChatCompletionStreamResponse")] == []


async def test_models_and_embeddings_fit() -> None:
    models = (await call(gateway(), "GET", "/v1/models")).json()
    asked = {"model": "all-MiniLM-L6-v2", "input": "one"}
    embedded = (await call(gateway(), "POST", "/v1/embeddings", json=asked)).json()
    assert complaints(models, "ListModelsResponse") == []
    assert complaints(embedded, "CreateEmbeddingResponse") == []


async def test_an_error_fits() -> None:
    assert complaints((await ask(model="gpt-9")).json(), "ErrorResponse") == []
