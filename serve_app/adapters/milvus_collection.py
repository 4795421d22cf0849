"""The collection behind the configured name: how it is made, what is recorded with it, whether it can be used.

The configured name is an alias. The collections themselves are numbered (`manta_1`, `manta_2`...), so that
`manta migrate` can fill the next one and then point the alias at it in one call. A collection that carries the
configured name itself was made by an earlier version, and is used as it is.
"""

import re
from collections.abc import Mapping
from typing import Any

from pymilvus import MilvusClient

from serve_app.adapters.milvus_rows import schema
from serve_app.milvus_settings import MilvusSettings

CREATE_S = 30.0
ENCODER = "manta.encoder"
"""Property of a collection: the encoder whose embeddings it holds."""
FIRST_ENCODER = "all-MiniLM-L6-v2"
"""Of collections made before the encoder was recorded: there was no other."""
LOOKED_UP = ("store", "file_id")
"""Columns that a server indexes, besides the tenant, which is its partition key."""


class Unfit(ValueError):
    """A collection that cannot be used as the service is configured, with the way out."""


def establish(client: MilvusClient, settings: MilvusSettings) -> None:
    """Makes the alias, and a collection for it where none is left from an earlier attempt. Blocking."""
    newest = max(versions(client, settings), default=0)
    if newest == 0:
        newest = 1
        create(client, settings, newest)
    client.create_alias(numbered(settings, newest), settings.collection)


def create(client: MilvusClient, settings: MilvusSettings, version: int) -> None:
    name = numbered(settings, version)
    server = {} if settings.is_lite else {"num_shards": settings.shards, "num_partitions": settings.partitions}
    client.create_collection(
        name,
        schema=schema(settings.dimension, partitioned=not settings.is_lite),
        properties={ENCODER: settings.encoder},
        consistency_level=settings.consistency_level,
        timeout=CREATE_S,
        **server,
    )
    indexes = MilvusClient.prepare_index_params()
    index = "FLAT" if settings.is_lite else settings.index
    indexes.add_index("dense", index_type=index, metric_type="IP", params=dict(settings.index_params))
    indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    if not settings.is_lite:
        for column in LOOKED_UP:
            indexes.add_index(column, index_type="INVERTED")
    # Loading waits for the indexes; waiting here as well costs half a second for each.
    client.create_index(name, indexes, timeout=CREATE_S, sync=False)


def versions(client: MilvusClient, settings: MilvusSettings) -> list[int]:
    """Numbers of the collections that are or were behind the alias, or are being filled for it."""
    matches = (re.fullmatch(rf"{settings.collection}_(\d+)", name) for name in client.list_collections())
    return sorted(int(match[1]) for match in matches if match)


def numbered(settings: MilvusSettings, version: int) -> str:
    return f"{settings.collection}_{version}"


def dimension_of(described: Mapping[str, Any]) -> int:
    return int(next(field["params"]["dim"] for field in described["fields"] if field["name"] == "dense"))


def encoder_of(described: Mapping[str, Any]) -> str:
    return str(described.get("properties", {}).get(ENCODER, FIRST_ENCODER))


def check(described: Mapping[str, Any], settings: MilvusSettings) -> None:
    """Raises Unfit for a collection of another layout, dimension or encoder."""
    name = f"collection {described['collection_name']!r} at {settings.uri}"
    way_out = "run `manta migrate`, or ingest into another collection (`retriever.milvus.collection`)"
    present = {field["name"] for field in described["fields"]}
    if different := sorted(present ^ {field.name for field in schema(settings.dimension).fields}):
        raise Unfit(f"{name} is another version's: its fields differ in {', '.join(different)}; {way_out}")
    if (dimension := dimension_of(described)) != settings.dimension:
        raise Unfit(f"{name} holds vectors of {dimension} numbers, the encoder makes {settings.dimension}; {way_out}")
    if (encoder := encoder_of(described)) != settings.encoder:
        raise Unfit(
            f"{name} holds embeddings of {encoder}, `retriever.milvus.encoder` is {settings.encoder}; {way_out}"
        )
