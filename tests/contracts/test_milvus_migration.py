"""`manta migrate` on Milvus Lite and on a server: nothing is lost, whatever interrupts it."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient

from serve_app.adapters.milvus import MilvusIndex
from serve_app.adapters.milvus_connection import connect_blocking, release
from serve_app.adapters.milvus_migration import Migrated, encoded, migrate
from serve_app.documents.chunk import excerpts
from serve_app.documents.document import Block, Document
from serve_app.errors import RetrieverUnavailable
from serve_app.milvus_settings import MilvusSettings
from serve_app.ports import Chunk
from serve_app.sight import Terms
from tests.contracts.milvus_servers import Server
from tests.contracts.test_index import chunk, found, ids

pytestmark = pytest.mark.milvus

MANY = 1_203
"""More than two pages."""


class Encoder:
    """An embedding by the digest of the text: another seed is another model."""

    def __init__(self, dimension: int, seed: str, fails_at: int | None = None) -> None:
        self.dimension, self.seed, self.fails_at = dimension, seed, fails_at
        self.texts: list[str] = []

    async def __call__(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        self.texts += texts
        if self.fails_at is not None and len(self.texts) > self.fails_at:
            raise KeyboardInterrupt
        return np.stack([self.of(text) for text in texts])

    def of(self, text: str) -> NDArray[np.float32]:
        number = int(hashlib.sha256((self.seed + text).encode()).hexdigest()[:8], 16)
        vector = np.random.default_rng(number).normal(size=self.dimension).astype(np.float32)
        unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
        return unit


@pytest.fixture(params=["lite", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "lite":
        yield str(tmp_path / "passages.db")
        return
    running = Server(tmp_path / "server")
    yield running.uri
    running.stop()


def settings(uri: str, encoder: str = "one", dimension: int = 8) -> MilvusSettings:
    return MilvusSettings(uri=uri, encoder=encoder, dimension=dimension)


def documents(count: int) -> list[Chunk]:
    return [
        chunk(
            f"c{n}",
            f"The text number {n}.",
            title="Manual" if n % 2 else "",
            heading=f"Manual > Part {n % 7}" if n % 3 else "",
            page=n if n % 5 else None,
            ordinal=n,
            attributes={"lang": "de", "year": n, "draft": n % 2 == 0},
            suspicion=n / count if n % 4 else None,
            terms=Terms(access=frozenset({"legal"}), subject=f"person {n % 10}") if n % 3 == 0 else Terms(),
        )
        for n in range(count)
    ]


async def filled(uri: str, chunks: list[Chunk], encoder: Encoder) -> None:
    index = MilvusIndex(settings(uri, encoder.seed, encoder.dimension))
    texts = tuple(encoded({"title": one.title, "heading": one.heading, "text": one.text}) for one in chunks)
    await index.upsert(chunks, await encoder(texts))
    await index.close()


async def migrated(uri: str, encoder: Encoder, drop_old: bool = False) -> Migrated:
    told: list[tuple[int, int]] = []
    given = settings(uri, encoder.seed, encoder.dimension)
    done = await migrate(given, None, encoder, lambda *progress: told.append(progress), drop_old=drop_old)
    assert done.source == done.target or told[-1] == (done.chunks, done.chunks)
    return done


def collections(uri: str) -> list[str]:
    given = settings(uri)
    client = connect_blocking(given, "")
    names = sorted(client.list_collections())
    client.close()
    release(given)
    return names


async def test_everything_but_the_embedding_is_carried_over(uri: str) -> None:
    chunks = documents(MANY)
    await filled(uri, chunks, Encoder(8, "one"))
    new = Encoder(12, "two")
    assert await migrated(uri, new) == Migrated("manta_1", "manta_2", MANY, MANY, ())
    index = MilvusIndex(settings(uri, "two", 12))
    for wanted in (chunks[3], chunks[4], chunks[MANY - 1]):
        meaning = new.of(encoded({"title": wanted.title, "heading": wanted.heading, "text": wanted.text}))
        passages = await found(index, wanted.text, embedding=meaning, groups=("legal",), top_k=3)
        (passage,) = [one for one in passages if one.id == wanted.id]
        assert passage.score == pytest.approx(1.0, abs=0.01)
        for field in ("text", "title", "heading", "page", "ordinal", "source", "file_id", "attributes"):
            assert getattr(passage, field) == getattr(wanted, field)
        assert passage.suspicion == pytest.approx(wanted.suspicion)
    assert await found(index, "The text number 3.", filters={"type": "eq", "key": "year", "value": 3}) == ()
    assert await index.purge("acme", "person 0") == len([n for n in range(MANY) if n % 30 == 0])
    await index.close()


async def test_another_model_of_the_same_dimension_is_migrated_to(uri: str) -> None:
    await filled(uri, documents(20), Encoder(8, "one"))
    await migrated(uri, Encoder(8, "two"))
    with pytest.raises(ValueError, match="holds embeddings of two"):
        await MilvusIndex(settings(uri, "one")).open()
    release(settings(uri))


async def test_the_old_collection_stays_until_it_is_dropped(uri: str) -> None:
    await filled(uri, documents(20), Encoder(8, "one"))
    await migrated(uri, Encoder(8, "two"))
    assert await asyncio.to_thread(collections, uri) == ["manta_1", "manta_2"]
    again = Encoder(8, "two")
    assert await migrated(uri, again, drop_old=True) == Migrated("manta_2", "manta_2", 20, 0, ("manta_1",))
    assert await asyncio.to_thread(collections, uri) == ["manta_2"]


async def test_an_interrupted_migration_goes_on_where_it_was(uri: str) -> None:
    await filled(uri, documents(MANY), Encoder(8, "one"))
    with pytest.raises(KeyboardInterrupt):
        await migrated(uri, Encoder(8, "two", fails_at=600))
    index = MilvusIndex(settings(uri, "one"))
    assert ids(await found(index, "text number 7", filters={"type": "eq", "key": "year", "value": 7})) == ["c7"]
    await index.delete("acme", "main", "file-c8")
    await index.upsert([chunk("c10", "Another text.", attributes={"year": 10})], Encoder(8, "one").of("")[None])
    await index.close()
    done = await migrated(uri, Encoder(8, "two"))
    assert (done.target, done.chunks) == ("manta_2", MANY - 1)
    assert done.embedded < MANY - 400
    index = MilvusIndex(settings(uri, "two"))
    assert await found(index, "text number 8", filters={"type": "eq", "key": "year", "value": 8}) == ()
    (changed,) = await found(index, "another text", filters={"type": "eq", "key": "year", "value": 10})
    assert (changed.text, changed.attributes) == ("Another text.", {"year": 10})
    await index.close()


async def test_what_an_interrupted_migration_to_a_third_encoder_left_is_dropped(uri: str) -> None:
    await filled(uri, documents(600), Encoder(8, "one"))
    with pytest.raises(KeyboardInterrupt):
        await migrated(uri, Encoder(16, "three", fails_at=550))
    assert (await migrated(uri, Encoder(12, "two"))).embedded == 600
    assert await asyncio.to_thread(collections, uri) == ["manta_1", "manta_2"]


async def test_a_collection_that_carries_the_configured_name_itself_is_renamed(uri: str) -> None:
    await filled(uri, documents(20), Encoder(8, "one"))
    client = connect_blocking(settings(uri), "")
    client.drop_alias("manta")
    client.rename_collection("manta_1", "manta")
    client.close()
    release(settings(uri))
    assert (await migrated(uri, Encoder(8, "two"))).target == "manta_1"
    index = MilvusIndex(settings(uri, "two"))
    assert ids(await found(index, "text number 7", filters={"type": "eq", "key": "year", "value": 7})) == ["c7"]
    await index.close()
    assert await asyncio.to_thread(collections, uri) == ["manta_0", "manta_1"]


async def test_a_collection_laid_out_before_terms_had_columns_is_migrated(uri: str) -> None:
    await filled(uri, [chunk(attributes={"access": "legal", "consent_subject": "ann"})], Encoder(8, "one"))
    client = connect_blocking(settings(uri), "")
    older_layout(client)
    client.close()
    release(settings(uri))
    with pytest.raises(ValueError, match="another version's: its fields differ in access"):
        await MilvusIndex(settings(uri)).open()
    release(settings(uri))
    await migrated(uri, Encoder(8, "one"))
    index = MilvusIndex(settings(uri))
    assert ids(await found(index, groups=("legal",))) == ["rollback"]
    assert await found(index) == ()
    assert await index.purge("acme", "ann") == 1
    await index.close()


def older_layout(client: MilvusClient) -> None:
    """The collection without the columns of the terms, as it was before they were there."""
    new = ("access", "purposes", "subject", "until")
    client.load_collection("manta_1")
    described = client.describe_collection("manta_1")
    rows = client.query("manta_1", filter='pk != ""', output_fields=["*"])
    layout = MilvusClient.create_schema(enable_dynamic_field=True)
    for field in described["fields"]:
        if field["name"] not in (*new, "sparse"):
            given = {"is_primary": True} if field["name"] == "pk" else {}
            layout.add_field(field["name"], field["type"], **field["params"], **given)
    client.create_collection("older", schema=layout)
    client.insert("older", [{k: v for k, v in row.items() if k not in (*new, "sparse", "$meta")} for row in rows])
    client.drop_alias("manta")
    client.drop_collection("manta_1")
    indexes = MilvusClient.prepare_index_params()
    indexes.add_index("dense", index_type="FLAT", metric_type="IP")
    client.create_index("older", indexes)
    client.rename_collection("older", "manta_1")
    client.create_alias("manta_1", "manta")


async def test_a_service_that_is_running_answers_from_the_old_collection_until_it_starts_anew(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    old = Encoder(8, "one")
    await filled(running.uri, documents(20), old)
    index = MilvusIndex(settings(running.uri, "one"))
    assert ids(await found(index, "text number 7", top_k=1)) == ["c7"]
    await migrated(running.uri, Encoder(8, "two"))
    assert ids(await found(index, "text number 7", top_k=1, embedding=old.of("The text number 7."))) == ["c7"]
    await index.close()
    running.stop()


@pytest.mark.parametrize("wrong", ["nothing there", "another dimension"])
async def test_what_cannot_be_migrated_is_told_in_one_sentence(uri: str, wrong: str) -> None:
    if wrong == "another dimension":
        given, sentence = settings(uri, "two", 12), "dimension: 12 is not what the encoder makes; set it to 8"
    else:
        given, sentence = settings(uri, "two"), "nothing to migrate"
    with pytest.raises(ValueError, match=sentence):
        await migrate(given, None, Encoder(8, "two"), lambda *progress: None)


async def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    given = MilvusSettings(uri="http://127.0.0.1:1", connect_deadline_s=0.5, dimension=8)
    with pytest.raises(RetrieverUnavailable, match="migrate: Milvus at http://127.0.0.1:1"):
        await migrate(given, None, Encoder(8, "one"), lambda *progress: None)


def test_a_migration_embeds_what_ingestion_embeds() -> None:
    def words(text: str) -> int:
        return len(text.split())

    given: list[dict[str, Any]] = [
        {"title": "Manual", "headings": ("Manual", "Rollback")},
        {"title": "Manual", "headings": ("Operations", "Rollback")},
        {"title": "Manual", "headings": ()},
        {"title": "", "headings": ("Rollback",)},
        {"title": "", "headings": ()},
    ]
    for one in given:
        blocks = (Block(text="It returns to the revision before.", heading=one["headings"], page=None),)
        document = Document(source="a.md", title=one["title"], blocks=blocks, attributes={})
        (excerpt,) = excerpts(document, count=words, most_tokens=100)
        row = {"title": excerpt.title, "heading": excerpt.heading, "text": excerpt.text}
        assert encoded(row) == excerpt.encoded
