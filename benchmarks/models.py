"""Whether versions of a model change under load as they should: shares, changes, rollbacks, a database that dies.

`python -m benchmarks.models` writes benchmarks/results/models.{json,md,png} (about eight minutes);
`--quick` asks the same of fewer requests, for a test.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load import Answered, Callers, shares, troubles
from benchmarks.models_report import write
from benchmarks.models_service import MODEL, Service, service
from benchmarks.told_engine import Told, asked_of, tell

RESULTS = Path(__file__).parent / "results"
OPERATORS = 10


@dataclass(frozen=True)
class Size:
    """How much is asked of it."""

    requests: int
    """Of the shares."""
    rate: float
    """Requests a second."""
    stream_tokens: int
    """Of the long streams: a tenth of a second each."""
    hold_s: float


FULL = Size(requests=10_000, rate=10, stream_tokens=600, hold_s=20)
QUICK = Size(requests=400, rate=5, stream_tokens=150, hold_s=6)


@dataclass(frozen=True)
class Measured:
    name: str
    measured: str
    asked: str
    kept: bool
    facts: dict[str, Any] = field(default_factory=dict)


Scenario = Callable[[Service, Size], Awaitable[list[Measured]]]


async def exact_shares(running: Service, size: Size) -> list[Measured]:
    """One key, no names: nine in ten to one version, then half and half."""
    found = []
    for first, second in ((90, 10), (50, 50)):
        await running.weigh("1", first)
        await running.weigh("2", second)
        await settled(running)
        callers = Callers(running.client)
        for _ in range(size.requests // 2):
            callers.ask(model=MODEL)
            while len(callers.under_way) >= 24:
                await asyncio.wait(callers.under_way, return_when=asyncio.FIRST_COMPLETED)
        await callers.ended()
        got = shares(callers.answered)
        off = abs(got.get("1", 0) - first / (first + second))
        facts = {"shares": got, "requests": len(callers.answered), "troubles": troubles(callers.answered)}
        kept = off <= 0.01 and not facts["troubles"]
        found.append(Measured(f"shares {first}/{second}", f"{off:.2%} off", "<= 1 % off, none failed", kept, facts))
    return found


async def live_changes(running: Service, size: Size) -> list[Measured]:
    """All weight from one version to the other, ten times: how long the old one still begins answers."""
    late = []
    callers = Callers(running.client)
    async with callers.at_rate(2 * size.rate, model=MODEL):
        for turn in range(10):
            now, before = ("2", "1") if turn % 2 else ("1", "2")
            await running.weigh(now, 100)
            await running.weigh(before, 0)
            changed = time.monotonic()
            await asyncio.sleep(2.5)
            after = [one.at - changed for one in callers.answered if one.at > changed and one.version == before]
            late.append(max(after, default=0.0))
    kept = max(late) <= 2 and not troubles(callers.answered)
    facts = {"late_s": late, "requests": len(callers.answered), "troubles": troubles(callers.answered)}
    return [Measured("a change is live", f"{max(late):.2f} s at the latest", "<= 2 s, none failed", kept, facts)]


BAD = {
    "broken": {"failing": 1.0},
    "broken one time in three": {"failing": 0.34},
    "breaking off": {"breaking": 0.5},
    "slow": {"first_token_s": 0.12},
    "refusing": {"refusing": 0.5},
    "wrong about its sources": {"lying": 0.6},
}


async def bad_canaries(running: Service, size: Size) -> list[Measured]:
    """One request in ten to a version that is told to misbehave, until it is taken back by itself."""
    found = []
    await running.weigh("1", 100)
    search = {"type": "file_search", "vector_store_ids": [await running.documents()]}
    for name, told in BAD.items():
        asked_with = {"tools": [search]} if "lying" in told else {}
        await asyncio.to_thread(tell, "chat-2", **asdict(Told()) | told)
        await running.register("2", "chat-2", check=False, weight=0)
        await running.enable("2")
        callers, before = Callers(running.client), await asyncio.to_thread(asked_of, "chat-2")
        await running.start("2", (10, 50, 100), 600)
        async with callers.at_rate(3 * size.rate, model=MODEL, **asked_with):
            begun = time.monotonic()
            await ended(running, 240)
            decided = time.monotonic()
            await asyncio.sleep(5)
        after = await running.latest()
        served = [one for one in callers.answered if one.version == "2"]
        late = max((one.at - decided for one in served if one.at > decided), default=0.0)
        mishaps = troubles(callers.answered)
        tried = await asyncio.to_thread(asked_of, "chat-2") - before
        # An answer that breaks off after its first words cannot be taken over by another version.
        unharmed = name == "breaking off" or not mishaps
        kept = after["state"] == "rolled_back" and tried < 200 and late <= 5 and unharmed
        facts = {
            "rollout": after["id"],
            "state": after["state"],
            "reason": after["reason"],
            "canary_requests": tried,
            "seconds": decided - begun,
            "late_s": late,
            "troubles": mishaps,
        }
        asked = "rolled back before 200, gone within 5 s" + ("" if name == "breaking off" else ", none failed")
        reason = f"{after['state']} after {tried} requests of the canary, {decided - begun:.0f} s"
        said = f"{reason}; gone {late:.1f} s later"
        found.append(Measured(f"a canary that is {name}", said, asked, kept, facts))
    await asyncio.to_thread(tell, "chat-2", **asdict(Told()))
    return found


async def whole_cycle(running: Service, size: Size) -> list[Measured]:
    """Start, steps, promotion and rollback under constant load, with streams that last over all of it."""
    await running.weigh("1", 100)
    await running.register("2", "chat-2", check=True, weight=0)
    callers, long = Callers(running.client), Callers(running.client)
    begun = time.monotonic()
    async with (
        callers.at_rate(2 * size.rate, model=MODEL),
        long.at_rate(0.5, model=MODEL, max_tokens=size.stream_tokens),
    ):
        await running.start("2", (5, 25, 50, 100), size.hold_s)
        promoted = await ended(running, 600)
        await asyncio.sleep(size.hold_s)
        await running.act("rollback")
        back = time.monotonic()
        await asyncio.sleep(5)
    answered = callers.answered + long.answered
    late = max((one.at - back for one in answered if one.version == "2" and one.at > back), default=0.0)
    cut = sum(one.words < size.stream_tokens for one in long.answered)
    kept = promoted["state"] == "promoted" and not troubles(answered) and not cut and late <= 5
    facts = {
        "state": promoted["state"],
        "reason": promoted["reason"],
        "requests": len(answered),
        "streams": len(long.answered),
        "stream_s": max((one.ended - one.at for one in long.answered), default=0.0),
        "cut": cut,
        "late_s": late,
        "troubles": troubles(answered),
        "seconds": time.monotonic() - begun,
        "timeline": timeline(callers.answered, begun),
    }
    said = f"{promoted['state']}, {sum(facts['troubles'].values())} of {len(answered)} failed, {cut} streams cut"
    return [Measured("start, promote, roll back", said, "0 failed, streams of 60 s included", kept, facts)]


async def dead_database(running: Service, size: Size) -> list[Measured]:
    """PostgreSQL killed under load, changed weights after it is back."""
    await running.enable("2")  # the canary before it may have been taken back
    await running.weigh("1", 100)
    await running.weigh("2", 0)
    callers = Callers(running.client)
    async with callers.at_rate(2 * size.rate, model=MODEL):
        await asyncio.sleep(2)
        await asyncio.to_thread(running.database.kill)
        refused = (await running.client.get("/v1/registry/history")).status_code
        await asyncio.sleep(10)
        await asyncio.to_thread(running.database.start)
        back = time.monotonic()
        await until(lambda: changed(running), 30)
        written = time.monotonic()
        await asyncio.sleep(6)
    seen = min((one.at for one in callers.answered if one.at > back and one.version == "2"), default=back + 99) - back
    stale = max((one.at for one in callers.answered if one.version == "1"), default=back) - back
    kept = not troubles(callers.answered) and seen <= 5 and stale <= 5 and refused == 503
    facts = {
        "requests": len(callers.answered),
        "troubles": troubles(callers.answered),
        "written_s": written - back,
        "seen_s": seen,
        "old_until_s": stale,
        "status_while_dead": refused,
    }
    failed = sum(facts["troubles"].values())
    said = f"{failed} of {len(callers.answered)} failed; a change seen {max(seen, stale):.1f} s after it is back"
    return [Measured("the database killed and back", said, "0 failed, seen <= 5 s after", kept, facts)]


async def changed(running: Service) -> bool:
    """All weight to version 2, once the database takes it."""
    try:
        await running.weigh("2", 100)
        await running.weigh("1", 0)
    except AssertionError:
        return False
    return True


async def many_operators(running: Service, size: Size) -> list[Measured]:
    """Ten at once, each with versions of their own and one that all of them change."""

    async def operate(number: int) -> None:
        for turn in range(5):
            await running.register(f"o{number}-{turn}", "chat-1", check=False, weight=0, why=f"operator {number}")
            mark = f"{number}.{turn}"
            await running.register("shared", "chat-1", check=False, weight=0, why=mark, owner=mark)

    begun = time.monotonic()
    await asyncio.gather(*map(operate, range(OPERATORS)))
    seconds = time.monotonic() - begun
    asked = {"model": MODEL, "limit": 1000}
    listed = (await running.client.get("/v1/registry/models", params=asked)).json()["data"]
    rows = (await running.client.get("/v1/registry/history", params=asked)).json()["data"]
    own = {entry["version"] for entry in listed if entry["version"].startswith("o")}
    shared = [row for row in reversed(rows) if row["version"] == "shared"]
    unbroken = all(after["before"] == before["after"] for before, after in zip(shared, shared[1:], strict=False))
    kept = len(own) == 5 * OPERATORS and len(shared) == 5 * OPERATORS and unbroken
    said = f"{len(own)} of {5 * OPERATORS} there, {len(shared)} changes of one entry in one chain: {unbroken}"
    return [Measured("ten operators at once", said, "no lost update", kept, {"seconds": seconds})]


def timeline(answered: list[Answered], begun: float) -> dict[str, list[float]]:
    """Seconds at which each version was asked."""
    found: dict[str, list[float]] = {}
    for one in sorted(answered, key=lambda one: one.at):
        found.setdefault(one.version, []).append(round(one.at - begun, 2))
    return found


async def ended(running: Service, within_s: float) -> dict[str, Any]:
    """The newest rollout once it is not running any more, or as it stands after so many seconds."""

    async def has_ended() -> bool:
        return str((await running.latest())["state"]) != "running"

    await until(has_ended, within_s)
    return await running.latest()


async def until(done: Callable[[], Awaitable[bool]], within_s: float, every_s: float = 0.2) -> None:
    for _ in range(int(within_s / every_s)):
        if await done():
            return
        await asyncio.sleep(every_s)


async def settled(running: Service) -> None:
    """Until the last change is live everywhere: what is counted after it is counted by it."""
    await asyncio.sleep(2)


SCENARIOS: dict[str, Scenario] = {
    "shares": exact_shares,
    "live": live_changes,
    "canaries": bad_canaries,
    "cycle": whole_cycle,
    "operators": many_operators,
    "database": dead_database,
}


async def measure(running: Service, size: Size, names: list[str]) -> list[Measured]:
    await running.register("1", "chat-1", check=True, weight=100)
    await running.register("2", "chat-2", check=True, weight=0)
    found: list[Measured] = []
    for name in names:
        print(f"{name} ...", flush=True)
        for one in await SCENARIOS[name](running, size):
            print(f"  {'kept  ' if one.kept else 'MISSED'} {one.name}: {one.measured} (asked: {one.asked})", flush=True)
            found.append(one)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    with TemporaryDirectory(prefix="manta-") as folder, service(Path(folder)) as running:
        found = asyncio.run(measure(running, size, options.only))
    write(options.out, asdict(size), [asdict(one) for one in found], keeps=options.only != list(SCENARIOS))
    print(json.dumps({one.name: one.measured for one in found}, indent=2))
    return 0 if all(one.kept for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
