"""Operators of a registry, each in a process of its own."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from serve_app.adapters.registry_backend import as_json, backend
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.adapters.registry_schema import upgrade
from serve_app.registry.entry import Environment, ModelEntry
from serve_app.registry.snapshot import Change, Snapshot

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def entry(
    model: str = "chat", version: str = "1", environment: Environment = "production", **fields: Any
) -> ModelEntry:
    return ModelEntry(
        model=model, version=version, environment=environment, endpoint="serve://chat", engine="vllm", **fields
    )


async def on(url: str, act: Callable[[Connection], object]) -> object:
    """Behind every store's back."""
    place = backend(url)
    async with place.engine(as_json, statement_s=5).execution_options(**place.writing).begin() as connection:
        return await connection.run_sync(act)


def registering(*entries: ModelEntry, who: str = "ann", why: str = "") -> Callable[[Snapshot], Change]:
    return lambda _: Change(action="register", who=who, why=why, put=entries)


def started(act: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    process = PROCESSES.Process(target=act, args=arguments, daemon=True)
    process.start()
    return process


def together(count: int, act: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Exit statuses of so many processes that begin at once; each is told its number before the arguments."""
    gate = PROCESSES.Barrier(count)
    processes = [started(act, gate, number, *arguments) for number in range(count)]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def open_registry(gate: Barrier, _number: int, url: str) -> None:
    async def work() -> None:
        store = DatabaseRegistryStore(url)
        await asyncio.to_thread(gate.wait, 60)
        assert (await store.snapshot()).revision == 0
        await store.close()

    asyncio.run(work())


def register_many(gate: Barrier, number: int, url: str, count: int) -> None:
    """Each time a version of its own, and one more token for the entry that all of them write to."""

    def decide_for(step: int) -> Callable[[Snapshot], Change]:
        def decide(snapshot: Snapshot) -> Change:
            shared = snapshot.find(("shared", "1", "production"))
            assert shared is not None
            counted = replace(shared, context_tokens=shared.context_tokens + 1)
            own = entry(f"model-{number}", str(step))
            return Change(action="register", who=f"operator-{number}", put=(own, counted))

        return decide

    async def work() -> None:
        store = DatabaseRegistryStore(url)
        await store.snapshot()
        await asyncio.to_thread(gate.wait, 60)
        for step in range(count):
            await store.change(decide_for(step))
        await store.close()

    asyncio.run(work())


def stop_inside_a_change(reached: Event, url: str, how: signal.Signals) -> None:
    """By the given signal, when models are written and their audit is not."""

    class Stopping:
        def __str__(self) -> str:
            reached.set()
            os.kill(os.getpid(), how)
            return "went on"

    def decide(_: Snapshot) -> Change:
        return Change(action="register", who="ann", put=(entry("unfinished"),), figures={"figure": Stopping()})

    asyncio.run(DatabaseRegistryStore(url).change(decide))


def upgrade_registry(url: str, versions: Path) -> None:
    asyncio.run(upgrade(url, versions))


def write_versions(folder: Path, shipped: Path, scripts: Sequence[str]) -> Path:
    """A folder of migrations: those shipped, and one more for each script, the body of its `upgrade`."""
    folder.mkdir()
    for path in shipped.glob("revision_*.py"):
        (folder / path.name).write_text(path.read_text())
    first = len(list(folder.iterdir()))
    for number, body in enumerate(scripts, start=first + 1):
        head = f'from alembic import op\nimport os, signal\nrevision = "{number}"\ndown_revision = "{number - 1}"\n'
        (folder / f"revision_{number}.py").write_text(f"{head}\n\ndef upgrade():\n    {body}\n")
    return folder
