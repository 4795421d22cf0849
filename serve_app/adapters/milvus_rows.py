"""A chunk as a row of the collection, and back; and the collection's schema."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient, DataType, Function, FunctionType

from serve_app.adapters.milvus_expression import ATTRIBUTE, encodable, termed
from serve_app.ports import Chunk
from serve_app.relevance import body
from serve_app.turn import Passage
from serve_app.wording import STOP_WORDS

BYTES = {
    "tenant": 1_024,
    "store": 1_024,
    "file_id": 1_024,
    "chunk": 1_024,
    "source": 4_096,
    "title": 4_096,
    "heading": 4_096,
    "text": 65_535,
    "body": 65_535,
    "access": 8_192,
    "purposes": 2_048,
    "subject": 1_024,
}
"""Most bytes of each text field; Milvus refuses rows beyond."""
PLAIN = frozenset({"pk", "ordinal", "page", "until", *BYTES} - {"body"})
"""Columns that hold what a chunk is; the others are made of them."""
OUTPUT = ["chunk", "file_id", "source", "title", "heading", "text", "page", "ordinal", "$meta"]


def schema(dimension: int, *, partitioned: bool = False) -> Any:
    """A collection is known by its field names: rename `body` or `dense` when its analyzer or metric changes.

    `partitioned`: a server then reads one partition for a tenant instead of all; Milvus Lite would write a file for
    each of them at every flush.
    """
    made = AsyncMilvusClient.create_schema(enable_dynamic_field=True)
    made.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    for name, size in BYTES.items():
        analyzed = {"enable_analyzer": True, "analyzer_params": _ANALYZER} if name == "body" else {}
        key_of = {"is_partition_key": True} if partitioned and name == "tenant" else {}
        made.add_field(name, DataType.VARCHAR, max_length=size, **analyzed, **key_of)
    made.add_field("ordinal", DataType.INT64)
    made.add_field("page", DataType.INT64)
    made.add_field("until", DataType.INT64)
    made.add_field("dense", DataType.FLOAT_VECTOR, dim=dimension)
    made.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    made.add_function(Function("bm25", FunctionType.BM25, input_field_names=["body"], output_field_names=["sparse"]))
    return made


_ANALYZER = {"tokenizer": "standard", "filter": ["lowercase", {"type": "stop", "stop_words": sorted(STOP_WORDS)}]}


def key(chunk: Chunk) -> str:
    """Primary key of a chunk: its id is its own only within its tenant and store."""
    return hashlib.sha256(json.dumps([chunk.tenant, chunk.store, chunk.id]).encode()).hexdigest()


def row(chunk: Chunk, vector: NDArray[np.float32]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "pk": key(chunk),
        "tenant": _fitting(chunk, "tenant", chunk.tenant),
        "store": _fitting(chunk, "store", chunk.store),
        "file_id": _fitting(chunk, "file_id", chunk.file_id),
        "chunk": _fitting(chunk, "chunk", chunk.id),
        "text": _fitting(chunk, "text", chunk.text),
        "ordinal": chunk.ordinal,
        "page": -1 if chunk.page is None else chunk.page,
        "dense": vector,
    }
    lexical = body(title=chunk.title, heading=chunk.heading, text=chunk.text)
    for name, value in (
        ("source", chunk.source),
        ("title", chunk.title),
        ("heading", chunk.heading),
        ("body", lexical),
    ):
        fields[name] = _cut(value, BYTES[name])
    if chunk.suspicion is not None:
        fields["suspicion"] = chunk.suspicion
    return fields | termed(chunk.terms) | {ATTRIBUTE + name: value for name, value in (chunk.attributes or {}).items()}


def _fitting(chunk: Chunk, name: str, value: str) -> str:
    if len(value.encode("utf-8", "replace")) > BYTES[name]:
        raise ValueError(f"chunk {chunk.id[:80]!r}: {name} has more than {BYTES[name]} bytes; cut the document smaller")
    return encodable(value)


def _cut(value: str, size: int) -> str:
    return value.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def passage(entity: Mapping[str, Any]) -> Passage:
    page = int(entity["page"])
    return Passage(
        id=entity["chunk"],
        text=entity["text"],
        score=0.0,
        file_id=entity["file_id"],
        source=entity["source"],
        title=entity["title"],
        heading=entity["heading"],
        page=None if page < 0 else page,
        ordinal=int(entity["ordinal"]),
        suspicion=entity.get("suspicion"),
        attributes={
            name.removeprefix(ATTRIBUTE): value for name, value in entity.items() if name.startswith(ATTRIBUTE)
        },
    )
