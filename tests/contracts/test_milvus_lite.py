"""Searching in Milvus Lite's data finds what Milvus Lite itself and an exact search find."""

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milvus_lite import Collection
from pymilvus import MilvusClient

from serve_app.adapters import milvus_lite
from serve_app.adapters.memory import MemoryIndex
from serve_app.adapters.milvus import MilvusIndex
from serve_app.milvus_settings import MilvusSettings
from serve_app.sight import Terms
from serve_app.turn import Passage
from tests.contracts.test_index import DIMENSION, chunk, direction, found

pytestmark = pytest.mark.milvus

WORDS = ("rollback", "orchard", "harbour", "tide", "apple", "ship", "summer", "command")
NUMBERS = itertools.count()

TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
CHUNKS = st.dictionaries(st.integers(0, 11), st.tuples(TEXTS, st.integers(0, DIMENSION - 1)), min_size=1, max_size=6)
STEPS = st.one_of(
    st.tuples(st.just("upsert"), CHUNKS),
    st.tuples(st.just("delete"), st.integers(0, 3)),
    st.tuples(st.just("purge"), st.integers(0, 3)),
    st.tuples(st.just("flush"), st.none()),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lite")


async def applied(index: MilvusIndex | MemoryIndex, step: str, given: Any) -> None:
    if step == "upsert":
        chunks = [
            chunk(f"c{n:02}", text, file_id=f"file-{n % 4}", terms=Terms(subject=f"person {n % 4}"))
            for n, (text, _) in given.items()
        ]
        await index.upsert(chunks, np.stack([direction(meaning) for _, meaning in given.values()]))
    elif step == "delete":
        await index.delete("acme", "main", f"file-{given}")
    elif step == "purge":
        await index.purge("acme", f"person {given}")


def told(passages: tuple[Passage, ...]) -> list[tuple[str, str, float]]:
    return [(one.id, one.text, pytest.approx(one.score, abs=1e-4)) for one in passages]


@given(steps=st.lists(STEPS, min_size=1, max_size=8), asked=TEXTS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_after_any_writes_the_same_is_found_as_by_an_exact_search(
    folder: Path, steps: list[tuple[str, Any]], asked: str
) -> None:
    path = str(folder / f"{next(NUMBERS)}.db")
    exact, lite = MemoryIndex(), MilvusIndex(MilvusSettings(uri=path, dimension=DIMENSION))
    await lite.open()
    client = MilvusClient(path)
    for step, wanted in steps:
        if step == "flush":
            client.flush("manta_1")
        await applied(exact, step, wanted)
        await applied(lite, step, wanted)
        for embedding in (None, direction(0)):
            for hidden in ((), (("main", "file-1"),)):
                ours = await found(lite, asked, embedding=embedding, top_k=12, hidden=hidden)
                theirs = await found(exact, asked, embedding=embedding, top_k=12, hidden=hidden)
                if hidden:  # BM25 counts words in all files, the exact search only in those it may show
                    assert {one.id for one in ours} == {one.id for one in theirs}
                else:
                    assert [one.id for one in ours] == [one.id for one in theirs]
                    assert told(ours) == [(one.id, one.text, one.score) for one in theirs]
    client.close()
    await lite.close()


@pytest.fixture
async def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[MilvusIndex, MilvusIndex]]:
    """An index that reads Lite's data, and one that asks Lite over gRPC, as with a version that we cannot read."""
    settings = MilvusSettings(uri=str(tmp_path / "passages.db"), dimension=DIMENSION)
    reading = MilvusIndex(settings)
    await reading.open()
    monkeypatch.setattr(milvus_lite, "KNOWN_VERSION", "2.")
    asking = MilvusIndex(settings)
    await asking.open()
    yield reading, asking
    await asking.close()
    await reading.close()


async def test_it_finds_what_milvus_lite_finds(both: tuple[MilvusIndex, MilvusIndex]) -> None:
    reading, asking = both
    generator = np.random.default_rng(3)
    # Long enough that no two have the same score: which of them is the last candidate would be by chance.
    texts = [" ".join(generator.choice(WORDS, generator.integers(20, 90))) for _ in range(300)]
    chunks = [chunk(f"c{n:03}", text, attributes={"year": 2000 + n % 5}) for n, text in enumerate(texts)]
    vectors = generator.normal(size=(300, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    await reading.upsert(chunks, vectors)
    for number, (filters, top_k) in enumerate(
        itertools.product([None, {"type": "gte", "key": "year", "value": 2003}], [1, 6, 50])
    ):
        for embedding in (None, vectors[number * 40]):
            asked: dict[str, Any] = {"embedding": embedding, "top_k": top_k, "filters": filters}
            ours, theirs = await found(reading, "tide apple", **asked), await found(asking, "tide apple", **asked)
            assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-4)
            assert filters is None or min(float(one.attributes["year"]) for one in ours) >= 2003


async def test_a_milvus_lite_that_cannot_be_read_is_asked_over_grpc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(Collection, "_read_snapshot")
    index = MilvusIndex(MilvusSettings(uri=str(tmp_path / "passages.db"), dimension=DIMENSION))
    await index.open()
    assert "searched over gRPC" in caplog.text and "_read_snapshot" in caplog.text
    monkeypatch.undo()
    await index.upsert([chunk()], direction(0)[None])
    assert [one.id for one in await found(index)] == ["rollback"]
    await index.close()


DYING = """
import asyncio, os, signal, sys
from tests.contracts.test_index import DIMENSION, chunk, direction, fill
from serve_app.adapters.milvus import MilvusIndex
from serve_app.milvus_settings import MilvusSettings

async def write():
    index = MilvusIndex(MilvusSettings(uri=sys.argv[1], dimension=DIMENSION))
    await fill(index, chunk(), chunk("orchard"))
    await index.delete("acme", "main", "file-orchard")
    await fill(index, chunk("harbour"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(write())
"""


async def test_what_was_written_survives_the_death_of_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "passages.db")
    died = await asyncio.create_subprocess_exec(sys.executable, "-c", DYING, path, cwd=Path(__file__).parents[2])
    assert await died.wait() == -signal.SIGKILL
    index = MilvusIndex(MilvusSettings(uri=path, dimension=DIMENSION))
    assert {one.id for one in await found(index, embedding=direction(0))} == {"rollback", "harbour"}
    await index.close()


async def test_what_is_written_while_it_is_searched_is_never_seen_half(both: tuple[MilvusIndex, MilvusIndex]) -> None:
    reading, _ = both
    chunks = [chunk(f"c{n:03}", f"rollback {n}") for n in range(200)]
    vectors = np.stack([direction(0)] * 200)
    await reading.upsert(chunks, vectors)

    async def write() -> None:
        for start in range(0, 200, 25):
            await reading.upsert(chunks[start : start + 25], vectors[start : start + 25])

    writing = asyncio.ensure_future(write())
    searches = 0
    while not writing.done():
        passages = await found(reading, embedding=direction(0), top_k=50)
        assert len(passages) == len({one.id for one in passages}) == 50
        searches += 1
    await writing
    assert searches > 0
