"""A library killed at any moment, and what the next process finds: run as `python -m tests.unit.killed_ingestion`.

Each attempt forks: one child does a day's work and kills itself (SIGKILL) at a given turn of its event loop, which is
between any two of its steps; another child opens what is left and looks. Prints how many turns were tried, and each
broken promise as one line of JSON.
"""

import asyncio
import hashlib
import json
import os
import pickle
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.memory import MemoryIndex
from serve_app.adapters.milvus import MilvusIndex
from serve_app.documents.records import Paging, Wish
from serve_app.errors import NotFound
from serve_app.ingestion import INDEXED_AT_ONCE
from serve_app.library import Library
from serve_app.ports import Chunk, Query
from serve_app.settings import MilvusSettings, RetrieverSettings
from serve_app.turn import Caller, Passage
from tests.unit.documents import InlineParser, bag_of_words

TENANT = "ann"
ALL = 2_000
SIZES = {"kept": 3, "guide v1": 4, "guide v2": 5, "fresh": 3, "gone": 3, "loose": 3, "marked": 3, "twice": 3}
SIZES |= {"large": INDEXED_AT_ONCE + 9}
RED, BLUE = Wish(attributes={"team": "red"}), Wish(attributes={"team": "blue"})


def lines_of(document: str) -> list[str]:
    """The texts of its chunks: each has words that no other has."""
    numbers = (int.from_bytes(hashlib.sha256(f"{document} {at}".encode()).digest()[:6], "big") for at in range(ALL))
    return [f"sky {document} x{next(numbers)} y{next(numbers)} z{next(numbers)}" for _ in range(SIZES[document])]


def content_of(document: str) -> bytes:
    return "\n".join(json.dumps({"text": text}) for text in lines_of(document)).encode()


def name_of(document: str) -> str:
    return f"{document.split()[0]}.jsonl"


class KeptIndex(MemoryIndex):
    """MemoryIndex that survives its process. Half of what it is given is kept one turn before the other half."""

    def __init__(self, path: Path) -> None:
        super().__init__(pickle.loads(path.read_bytes()) if path.exists() else {})
        object.__setattr__(self, "path", path)

    async def upsert(self, chunks: Sequence[Chunk], embeddings: NDArray[np.float32]) -> None:
        for half in (slice(None, len(chunks) // 2), slice(len(chunks) // 2, None)):
            await super().upsert(chunks[half], embeddings[half])
            self._keep()
            await asyncio.sleep(0)

    async def delete(self, tenant: str, store: str, file_id: str | None = None) -> None:
        for key, (chunk, _) in list(self._rows.items()):
            if (chunk.tenant, chunk.store) == (tenant, store) and file_id in (None, chunk.file_id):
                del self._rows[key]
                self._keep()
                await asyncio.sleep(0)

    def _keep(self) -> None:
        written = self.path.with_suffix(".part")  # type: ignore[attr-defined]
        written.write_bytes(pickle.dumps(self._rows))
        written.replace(self.path)  # type: ignore[attr-defined]


class Doomed(asyncio.SelectorEventLoop):
    """Kills the process before the turn `last`."""

    def __init__(self, last: int | None) -> None:
        super().__init__()
        self.turns = 0
        self._last = last

    def _run_once(self) -> None:
        if self.turns == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.turns += 1
        super()._run_once()  # type: ignore[misc]


@dataclass(frozen=True)
class Ledger:
    """What the library was asked, and what it promised, in the order of both: it outlives the process."""

    path: Path

    def note(self, what: str, document: str, file_id: str = "") -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps([what, document, file_id]) + "\n")

    def read(self, what: str) -> dict[str, str]:
        """Documents and their files of which this was noted."""
        lines = map(json.loads, self.path.read_text().splitlines()) if self.path.exists() else ()
        return {document: file_id for kind, document, file_id in lines if kind == what}


def opened(folder: Path, kind: str) -> tuple[Library, MemoryIndex | MilvusIndex]:
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{folder}/catalog.db", files_path=str(folder / "files")
    )
    index: MemoryIndex | MilvusIndex
    if kind == "lite":
        index = MilvusIndex(MilvusSettings(uri=f"{folder}/milvus.db"), 384)
    else:
        index = KeptIndex(folder / "index.pickle")
    return Library(Catalog(settings.catalog_url), index, bag_of_words, settings, InlineParser()), index


async def add(library: Library, store: str, ledger: Ledger, document: str, wish: Wish | None = None) -> str:
    ledger.note("sent", document)
    file = await library.create_file(TENANT, name_of(document), content_of(document), "assistants")
    ledger.note("stored", document, file.id)
    await library.attach(TENANT, store, file.id, *([wish] if wish else []))
    ledger.note("attached", document, file.id)
    return file.id


async def yesterday(folder: Path, kind: str) -> None:
    """What is in the store before the day whose end is to be bad."""
    library, index = opened(folder, kind)
    await library.open()
    store = await library.ensure_default_store(TENANT)
    ledger = Ledger(folder / "yesterday")
    for document in ("kept", "guide v1", "gone", "loose"):
        await add(library, store.id, ledger, document)
    await add(library, store.id, ledger, "marked", RED)
    await library.drained()
    await library.close()
    await closed(index)


async def today(folder: Path, kind: str) -> None:
    ledger, before = Ledger(folder / "today"), Ledger(folder / "yesterday").read("attached")
    library, index = opened(folder, kind)
    await library.open()
    store = (await library.ensure_default_store(TENANT)).id
    await add(library, store, ledger, "guide v2")
    await add(library, store, ledger, "large")
    ledger.note("deleting", "gone")
    await library.delete_file(TENANT, before["gone"])
    ledger.note("deleted", "gone")
    await asyncio.gather(add(library, store, ledger, "twice"), add(library, store, ledger, "twice"))
    ledger.note("detaching", "loose")
    await library.detach(TENANT, store, before["loose"])
    ledger.note("detached", "loose")
    ledger.note("marking", "marked")
    await library.attach(TENANT, store, before["marked"], BLUE)
    ledger.note("marked", "marked")
    await add(library, store, ledger, "fresh")
    await library.drained()
    await library.close()
    await closed(index)


async def closed(index: MemoryIndex | MilvusIndex) -> None:
    if isinstance(index, MilvusIndex):
        await index.close()


def allowed(ledger: Ledger, document: str) -> set[frozenset[str]]:
    """The sets of documents that a search may find of one name, given what was asked and what was promised."""
    nothing, whole = frozenset[str](), frozenset({document})
    ends = {"gone": ("deleting", "deleted"), "loose": ("detaching", "detached")}
    match document:
        case "kept":
            return {whole}
        case "gone" | "loose":
            begun, done = ends[document]
            return {nothing} if ledger.read(done) else {whole, nothing} if ledger.read(begun) else {whole}
        case "marked":
            return {whole, nothing} if ledger.read("marking") else {whole}
        case "guide":
            asked = "guide v2" in ledger.read("stored")
            return {frozenset({"guide v1"})} | ({frozenset({"guide v2"})} if asked else set())
    return {whole, nothing} if document in ledger.read("stored") else {nothing}


async def everything(search: Callable[[Query], Coroutine[Any, Any, Any]], **more: Any) -> tuple[Passage, ...]:
    query = Query.of(
        Caller(TENANT, "k"), text="sky", embedding=(await bag_of_words(("sky",)))[0], stores=(), top_k=ALL, **more
    )
    found = await search(query)
    return found if isinstance(found, tuple) else found.passages


def wrongs(found: Sequence[Passage], ledger: Ledger) -> Iterator[str]:
    """What is wrong with what one search found."""
    told = Counter(passage.text for passage in found)
    yield from (f"twice: {text}" for text, times in told.items() if times > 1)
    seen: dict[str, set[str]] = {document.split()[0]: set() for document in SIZES}
    for document in SIZES:
        texts = set(lines_of(document))
        if texts & told.keys():
            seen[document.split()[0]].add(document)
        if texts & told.keys() and not texts <= told.keys():
            yield f"half: {document} has {len(texts & told.keys())} of {len(texts)} chunks"
    for name, documents in seen.items():
        if (may := allowed(ledger, name)) and documents not in may:
            yield f"{name}: {sorted(documents)} is none of {[sorted(one) for one in may]}"
    teams = {str(passage.attributes.get("team")) for passage in found if "marked" in passage.text}
    if len(teams) > 1 or (ledger.read("marked") and "red" in teams):
        yield f"marked: found under {sorted(teams)}"


async def tomorrow(folder: Path, kind: str, report: Callable[[str], None]) -> None:
    """Open what the crash left, search from the first moment on, and hold the library to its promises."""
    ledger, before = Ledger(folder / "today"), Ledger(folder / "yesterday").read("attached")
    library, index = opened(folder, kind)
    await library.open()
    drained = asyncio.create_task(library.drained())
    moments = 0
    while moments == 0 or not drained.done():
        for wrong in wrongs(await everything(library.search), ledger):
            report(f"moment {moments}: {wrong}")
        moments += 1
        await asyncio.sleep(0.002 * moments)
    found = await everything(library.search)
    for wrong in wrongs(found, ledger):
        report(f"in the end: {wrong}")
    for wrong in await unkept(folder, library, found, ledger, before):
        report(wrong)
    known = set(before.values()) | set(ledger.read("attached").values()) | set(ledger.read("stored").values())
    for wrong in await left_over(library, index, known):
        report(wrong)
    await library.close()
    await closed(index)


async def unkept(
    folder: Path, library: Library, found: Sequence[Passage], ledger: Ledger, before: dict[str, str]
) -> list[str]:
    """Promises about single files that were not kept."""
    store = (await library.ensure_default_store(TENANT)).id
    wrong = []
    for document, file_id in ledger.read("stored").items():
        path = folder / "files" / file_id
        if not path.exists() or path.read_bytes() != content_of(document):
            wrong.append(f"lost: the bytes of {document}")
    for document, file_id in ledger.read("attached").items():
        place = await library.get_attached(TENANT, store, file_id)
        visible = sum(passage.file_id == file_id for passage in found)
        if (place.status, place.chunk_count, visible) != ("completed", SIZES[document], SIZES[document]):
            wrong.append(f"not done: {document} is {place.status}, {place.chunk_count} chunks, {visible} found")
    if ledger.read("marked") and not any(one.attributes.get("team") == "blue" for one in found):
        wrong.append("marked: not found under its new attributes")
    if ledger.read("deleted"):
        try:
            await library.get_file(TENANT, before["gone"])
            wrong.append("deleted: gone is still known")
        except NotFound:
            pass
    rows = {file.id for file in (await library.list_files(TENANT, Paging(limit=100))).records}
    disk = {path.name for path in (folder / "files").iterdir()}
    return wrong if rows == disk else [*wrong, f"bytes without a row, or the reverse: {sorted(rows ^ disk)}"]


async def left_over(library: Library, index: MemoryIndex | MilvusIndex, known: set[str]) -> list[str]:
    """Chunks of files that are not in the store, once what is hidden has had the time to be swept."""
    store = (await library.ensure_default_store(TENANT)).id
    attached = (await library.list_attached(TENANT, store, Paging(limit=100))).records
    wanted = {one.file_id: one.chunk_count for one in attached}
    held: Counter[str] = Counter()
    for _ in range(100):
        held = Counter(passage.file_id for passage in await everything(index.search))
        if held == wanted:
            return []
        await asyncio.sleep(0.02)
    return [f"the index holds {dict(held)} and not {wanted}"]


def forked(work: Callable[[], Coroutine[Any, Any, None]], last: int | None = None) -> tuple[int, int]:
    """(signal that ended it, turns it had) of a child that does this work on a loop of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        loop = Doomed(last)
        status = 1
        try:
            loop.run_until_complete(work())
            status = 0
        finally:
            # never back into what the parent is in the middle of
            if status:
                traceback.print_exc()
            os.write(writing, str(loop.turns).encode())
            os._exit(status)
    os.close(writing)
    turns = os.read(reading, 32)
    os.close(reading)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended > 0:
        raise RuntimeError("a child failed: see above")
    return -ended, int(turns or b"0")


def attempt(folder: Path, base: Path, kind: str, last: int | None) -> list[str]:
    """Kill at the turn `last`; what was wrong afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    forked(lambda: today(folder, kind), last)
    notes = folder / "wrong"
    notes.touch()

    def report(wrong: str) -> None:
        with notes.open("a") as stream:
            stream.write(json.dumps([last, wrong]) + "\n")

    forked(lambda: tomorrow(folder, kind, report))
    return notes.read_text().splitlines()


def main() -> None:
    kind, place, attempts = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    base, folder = place / "base", place / "folder"
    base.mkdir()
    # an index is as fresh as its opening: what was read for the ledger must not be shared by children
    forked(lambda: yesterday(base, kind))
    shutil.copytree(base, folder)
    _, turns = forked(lambda: today(folder, kind))
    lasts = sorted({turns * number // attempts for number in range(attempts)}) if attempts < turns else range(turns)
    wrong = [line for last in lasts for line in attempt(folder, base, kind, last)]
    sys.stdout.write("\n".join([json.dumps({"turns": turns, "tried": len(lasts)}), *wrong]) + "\n")


if __name__ == "__main__":
    main()
