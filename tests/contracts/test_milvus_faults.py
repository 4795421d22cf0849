"""What a MilvusIndex does when its server is away, slow, back, or not what was configured."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymilvus import DataType, MilvusClient

from serve_app.adapters.milvus import MilvusIndex
from serve_app.errors import RetrieverUnavailable
from serve_app.milvus_settings import MilvusSettings
from tests.contracts.milvus_servers import GuardedServer, Network, Server
from tests.contracts.test_index import DIMENSION, TEXTS, chunk, direction, fill, found, ids

pytestmark = pytest.mark.milvus

CALLERS_DEADLINE_S = 0.5
"""`retriever.deadline_ms`."""


def settings(uri: str, **given: Any) -> MilvusSettings:
    return MilvusSettings(uri=uri, dimension=DIMENSION, **given)


@asynccontextmanager
async def behind_a_network(folder: Path) -> AsyncIterator[tuple[MilvusIndex, Network]]:
    """An index with three chunks, and the network between it and its server."""
    running = Server(folder / "server")
    network = Network(running.port)
    await network.up()
    index = MilvusIndex(settings(network.uri))
    await fill(index, *map(chunk, TEXTS))
    try:
        yield index, network
    finally:
        network.resume()
        await index.close()
        await network.down()
        await asyncio.to_thread(running.stop)


async def recovered(index: MilvusIndex) -> float:
    """Seconds until a caller with the usual deadline gets an answer again."""
    began = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(CALLERS_DEADLINE_S):
                passages = await found(index, embedding=direction(0))
        except (RetrieverUnavailable, TimeoutError):
            continue
        assert "rollback" in ids(passages)
        return time.monotonic() - began


async def test_a_server_that_is_down_is_told_at_once_and_found_when_it_is_back(tmp_path: Path) -> None:
    async with behind_a_network(tmp_path) as (index, network):
        await network.down()
        for _ in range(3):
            async with asyncio.timeout(CALLERS_DEADLINE_S):
                with pytest.raises(RetrieverUnavailable, match=network.uri):
                    await found(index, embedding=direction(0))
        await network.up()
        assert await recovered(index) < 5


async def test_a_server_that_stops_answering_costs_a_caller_only_its_deadline(tmp_path: Path) -> None:
    async with behind_a_network(tmp_path) as (index, network):
        network.stall()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(CALLERS_DEADLINE_S):
                    await found(index, embedding=direction(0))
        network.resume()
        assert await recovered(index) < 5


async def test_a_peer_that_vanished_without_a_word_is_replaced(tmp_path: Path) -> None:
    async with behind_a_network(tmp_path) as (index, network):
        network.lose_peers()
        assert await recovered(index) < 5


async def test_a_search_without_a_deadline_of_its_caller_ends_by_the_indexs_own(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    network = Network(running.port)
    await network.up()
    index = MilvusIndex(settings(network.uri, search_deadline_s=0.3))
    await fill(index, *map(chunk, TEXTS))
    network.stall()
    with pytest.raises(RetrieverUnavailable, match="search: .* took more than 0.3 s"):
        await found(index, embedding=direction(0))
    network.resume()
    assert await recovered(index) < 5
    await index.close()
    await network.down()
    running.stop()


@pytest.mark.parametrize("size", [0, 20, 300])
async def test_a_connection_reset_in_the_middle_of_an_answer_is_unavailable(tmp_path: Path, size: int) -> None:
    async with behind_a_network(tmp_path) as (index, network):
        if size:
            network.cut_answer_after(size)
        else:
            network.cut()
        try:
            async with asyncio.timeout(CALLERS_DEADLINE_S):
                assert "rollback" in ids(await found(index, embedding=direction(0)))
        except RetrieverUnavailable:
            pass
        assert await recovered(index) < 5


async def test_writes_during_an_outage_are_refused_and_succeed_after_it(tmp_path: Path) -> None:
    async with behind_a_network(tmp_path) as (index, network):
        await network.down()
        writes: list[Callable[[], Any]] = [
            lambda: fill(index, chunk("late")),
            lambda: index.delete("acme", "main"),
            lambda: index.purge("acme", "person"),
        ]
        for write in writes:
            with pytest.raises(RetrieverUnavailable):
                await write()
        await network.up()
        await recovered(index)
        await fill(index, chunk("late"))
        assert "late" in ids(await found(index, "late", embedding=direction(0)))


async def test_a_dropped_collection_is_made_again_empty(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    index = MilvusIndex(settings(running.uri))
    await fill(index, *map(chunk, TEXTS))
    client = MilvusClient(running.uri)
    client.drop_collection("manta_1")
    with pytest.raises(RetrieverUnavailable):
        await found(index, embedding=direction(0))
    assert await found(index, embedding=direction(0)) == ()
    await fill(index, chunk())
    assert ids(await found(index)) == ["rollback"]
    client.close()
    await index.close()
    running.stop()


async def test_another_encoder_of_the_same_dimension_is_refused_with_the_way_out(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    first = MilvusIndex(settings(running.uri, encoder="one"))
    await first.open()
    await first.close()
    second = MilvusIndex(settings(running.uri, encoder="two"))
    with pytest.raises(ValueError, match=r"holds embeddings of one, .*encoder` is two; run `manta migrate`"):
        await second.open()
    with pytest.raises(RetrieverUnavailable, match="manta migrate"):
        await found(second)
    await second.close()
    running.stop()


async def test_a_collection_of_an_older_layout_is_refused_with_the_way_out(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    client = MilvusClient(running.uri)
    layout = MilvusClient.create_schema()
    layout.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    layout.add_field("dense", DataType.FLOAT_VECTOR, dim=DIMENSION)
    client.create_collection("manta", schema=layout)
    index = MilvusIndex(settings(running.uri))
    with pytest.raises(ValueError, match=r"'manta' .* is another version's: .*access.*; run `manta migrate`"):
        await index.open()
    await index.close()
    client.close()
    running.stop()


async def test_a_collection_that_carries_the_configured_name_itself_is_used_as_it_is(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    first = MilvusIndex(settings(running.uri))
    await fill(first, chunk())
    await first.close()
    client = MilvusClient(running.uri)
    client.drop_alias("manta")
    client.rename_collection("manta_1", "manta")
    second = MilvusIndex(settings(running.uri))
    assert ids(await found(second)) == ["rollback"]
    assert client.list_collections() == ["manta"]
    await second.close()
    client.close()
    running.stop()


async def test_a_collection_left_without_its_alias_is_found_again(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    first = MilvusIndex(settings(running.uri))
    await fill(first, chunk())
    await first.close()
    client = MilvusClient(running.uri)
    client.drop_alias("manta")
    second = MilvusIndex(settings(running.uri))
    assert ids(await found(second)) == ["rollback"]
    await second.close()
    client.close()
    running.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> Any:
    running = GuardedServer(tmp_path / "guarded", token="root:secret")
    yield running
    running.stop()


@pytest.mark.parametrize("server_name", [None, "milvus.test"])
async def test_a_server_behind_tls_and_a_token_is_a_server(guarded: GuardedServer, server_name: str | None) -> None:
    tls = {"ca_pem_path": str(guarded.ca), "server_name": server_name}
    index = MilvusIndex(settings(guarded.uri, **tls), "root:secret")
    await index.open()
    await fill(index, chunk())
    assert ids(await found(index, embedding=direction(0))) == ["rollback"]
    await index.close()


@pytest.mark.parametrize(
    ("given", "token"),
    [
        ({}, "root:wrong"),
        ({}, None),
        ({"ca_pem_path": None}, "root:secret"),
        ({"server_name": "elsewhere.test"}, "root:secret"),
    ],
    ids=["wrong token", "no token", "unknown authority", "another name"],
)
async def test_a_server_that_is_not_trusted_or_does_not_trust_us_is_unavailable(
    guarded: GuardedServer, given: dict[str, Any], token: str | None
) -> None:
    tls = {"ca_pem_path": str(guarded.ca), "connect_deadline_s": 1} | given
    index = MilvusIndex(settings(guarded.uri, **tls), token)
    with pytest.raises(RetrieverUnavailable, match=guarded.uri):
        await index.open()
    await index.close()


async def test_an_outage_is_one_sentence_and_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with behind_a_network(tmp_path) as (index, network):
        with caplog.at_level(logging.INFO):
            await network.down()
            for call in (lambda: found(index), index.ping, lambda: fill(index, chunk())):
                with pytest.raises(RetrieverUnavailable) as told:
                    await call()
                assert "\n" not in str(told.value)
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_milvus_lite_says_once_what_it_ignores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = MilvusIndex(settings(str(tmp_path / "passages.db"), replicas=2, index="HNSW"))
    await fill(index, chunk())
    assert ids(await found(index)) == ["rollback"]
    await index.close()
    told = [record.message for record in caplog.records if "ignores" in record.message]
    assert len(told) == 1
    assert "index, replicas" in told[0]
