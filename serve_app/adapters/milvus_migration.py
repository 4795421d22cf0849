"""The chunks of the collection in use, embedded anew into the next one; then the alias moves.

Everything but the embedding is carried over as it stands. The old collection is only read, so that a service may go on
searching in it, and a migration that was interrupted goes on where it was: chunks that are there as they should be
are not embedded again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient, MilvusException

from serve_app.adapters.milvus_collection import Unfit, check, create, numbered, versions
from serve_app.adapters.milvus_connection import connect_blocking, reason, release
from serve_app.adapters.milvus_expression import ATTRIBUTE, termed
from serve_app.adapters.milvus_rows import PLAIN, row
from serve_app.errors import RetrieverUnavailable
from serve_app.milvus_settings import MilvusSettings
from serve_app.ports import Chunk
from serve_app.sight import Terms

PAGE = 500
"""Chunks read, embedded and written at a time: at most so many are embedded twice after an interruption."""
LEGACY = 0
"""Number that a collection gets which carried the configured name itself."""
SAMPLE = 20
"""Chunks that are read back and embedded once more before the alias moves."""
SAME = 0.99
"""Least cosine of two embeddings of one text: batches of another length change the last digits only."""
TERMS = tuple(termed(Terms()))
COLUMNS = PLAIN | {"body", "dense", "sparse", "$meta"}

Old = Mapping[str, Any]
Encode = Callable[[tuple[str, ...]], Awaitable[NDArray[np.float32]]]
Told = Callable[[int, int], None]
"""Hears of chunks done, of all."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did. `source` and `target` are the same where there was nothing to do."""

    source: str
    target: str
    chunks: int
    embedded: int
    dropped: tuple[str, ...]


async def migrate(
    settings: MilvusSettings, token: str | None, encode: Encode, told: Told, *, drop_old: bool = False
) -> Migrated:
    """Raises RetrieverUnavailable when Milvus cannot be reached, Unfit when this cannot be migrated."""
    try:
        client = await asyncio.to_thread(connect_blocking, settings, token or "")
        try:
            return await Migration(client, settings, encode).run(told, drop_old=drop_old)
        finally:
            client.close()
    except (MilvusException, grpc.RpcError, OSError) as exc:
        raise RetrieverUnavailable(f"migrate: Milvus at {settings.uri} answers: {reason(exc)}") from exc
    finally:
        await asyncio.to_thread(release, settings)


@dataclass(frozen=True, slots=True)
class Migration:
    """Its calls to Milvus block: a command runs it, not a service."""

    client: MilvusClient
    settings: MilvusSettings
    encode: Encode

    async def run(self, told: Told, *, drop_old: bool = False) -> Migrated:
        """Raises Unfit when there is nothing to migrate from, or when what was written is not what was read."""
        made = (await self.encode(("dimension",))).shape[1]
        if made != self.settings.dimension:
            raise Unfit(
                f"retriever.milvus.dimension: {self.settings.dimension} is not what the encoder makes; set it to {made}"
            )
        described = self._source()
        source = target = str(described["collection_name"])
        chunks, embedded = self._count(source), 0
        if not self._fits(described):
            target = numbered(self.settings, self._prepared(source))
            embedded = await self._copy(source, target, chunks, told)
            await self._verify(source, target)
            source = self._switch(source, target)
        dropped = tuple(self._older(target)) if drop_old else ()
        for name in dropped:
            self.client.drop_collection(name)
        return Migrated(source, target, chunks, embedded, dropped)

    def _source(self) -> Mapping[str, Any]:
        if not self.client.has_collection(self.settings.collection):
            raise Unfit(
                f"there is no collection {self.settings.collection!r} at {self.settings.uri}: nothing to migrate; "
                "the service makes one when it starts"
            )
        described: Mapping[str, Any] = self.client.describe_collection(self.settings.collection)
        self.client.load_collection(described["collection_name"])
        return described

    def _fits(self, described: Mapping[str, Any]) -> bool:
        try:
            check(described, self.settings)
        except Unfit:
            return False
        return True

    def _prepared(self, source: str) -> int:
        """The number of the collection to fill: one that an earlier run began, or a new one."""
        version = self._version(source) + 1
        for begun in [number for number in versions(self.client, self.settings) if number >= version]:
            if self._fits(self.client.describe_collection(numbered(self.settings, begun))):
                version = begun
                break
            self.client.drop_collection(numbered(self.settings, begun))
        else:
            create(self.client, self.settings, version)
        self.client.load_collection(numbered(self.settings, version))
        return version

    def _version(self, name: str) -> int:
        return LEGACY if name == self.settings.collection else int(name.rpartition("_")[2])

    async def _copy(self, source: str, target: str, total: int, told: Told) -> int:
        done = embedded = 0
        for page in self._pages(source):
            stale = self._stale(page, target)
            if stale:
                vectors = await self.encode(tuple(map(encoded, stale)))
                rows = [_moved(old, vector) for old, vector in zip(stale, vectors, strict=True)]
                await asyncio.to_thread(self.client.upsert, target, rows)
            done, embedded = done + len(page), embedded + len(stale)
            told(done, total)
        self.client.flush(target)
        return embedded

    def _pages(self, name: str) -> Iterator[list[Old]]:
        """Everything but vectors, in the order of the keys."""
        fields = {field["name"] for field in self.client.describe_collection(name)["fields"]}
        pages = self.client.query_iterator(
            name, batch_size=PAGE, output_fields=[*sorted(fields & PLAIN), "$meta"], consistency_level="Strong"
        )
        try:
            while page := pages.next():
                yield page
        finally:
            pages.close()

    def _stale(self, page: Sequence[Old], target: str) -> list[Old]:
        """Of a page what the target does not have as it is, the short ones first: a batch is as long as its longest."""
        known = self._found(page, target)
        stale = [old for old in page if not _is_same(old, known.get(old["pk"], {}))]
        if gone := [old["pk"] for old in stale if old["pk"] in known]:
            self.client.delete(target, ids=gone)
        return sorted(stale, key=lambda old: len(old["text"]))

    def _found(self, page: Sequence[Old], target: str, *more: str) -> dict[str, Old]:
        keys, fields = [old["pk"] for old in page], [*sorted(PLAIN), *more, "$meta"]
        found = self.client.query(target, ids=keys, output_fields=fields, consistency_level="Strong")
        return {new["pk"]: new for new in found}

    async def _verify(self, source: str, target: str) -> None:
        """Removes what is no longer in the source, and raises Unfit when the two still differ."""
        if self._count(target) != self._count(source):
            for page in self._pages(target):
                if gone := sorted({new["pk"] for new in page} - self._found(page, source).keys()):
                    self.client.delete(target, ids=gone)
        if (written := self._count(target)) != (read := self._count(source)):
            raise Unfit(
                f"collection {target!r} has {written} chunks, {source!r} has {read}: it changed meanwhile; "
                "stop the service, or what ingests into it, and run `manta migrate` again"
            )
        sample = next(self._pages(source), [])[:: PAGE // SAMPLE]
        known = self._found(sample, target, "dense") if sample else {}
        vectors = await self.encode(tuple(map(encoded, sample)))
        for old, vector in zip(sample, vectors, strict=True):
            if not _is_same(old, new := known.get(old["pk"], {})) or np.dot(vector, new["dense"]) < SAME:
                raise Unfit(
                    f"collection {target!r} holds another text or embedding of chunk {old['chunk']!r} than it should; "
                    "drop it and run `manta migrate` again"
                )

    def _switch(self, source: str, target: str) -> str:
        """The alias, in one call. Returns what the old collection is called from now on."""
        alias = self.settings.collection
        if source != alias:
            self.client.alter_alias(target, alias)
            return source
        legacy = numbered(self.settings, LEGACY)
        self.client.rename_collection(source, legacy)
        self.client.create_alias(target, alias)
        return legacy

    def _older(self, target: str) -> Iterator[str]:
        return (
            numbered(self.settings, version)
            for version in versions(self.client, self.settings)
            if version < self._version(target)
        )

    def _count(self, name: str) -> int:
        found = self.client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])


def encoded(old: Old) -> str:
    """What a chunk's embedding is of: the lead of title and headings, then the text, as `Excerpt.encoded`."""
    title, heading = old["title"], old["heading"]
    parts = [heading] if heading.split(" > ")[0] == title else [title, heading]
    lead = " > ".join(part for part in parts if part)
    return f"{lead}\n{old['text']}" if lead else str(old["text"])


def _moved(old: Old, vector: NDArray[np.float32]) -> dict[str, Any]:
    """The row as this version lays it out. Terms stand in columns that hold only digests: they are carried over."""
    attributes = {name.removeprefix(ATTRIBUTE): value for name, value in old.items() if name.startswith(ATTRIBUTE)}
    page = int(old["page"])
    chunk = Chunk(
        id=old["chunk"],
        tenant=old["tenant"],
        store=old["store"],
        file_id=old["file_id"],
        ordinal=int(old["ordinal"]),
        text=old["text"],
        source=old["source"],
        title=old["title"],
        heading=old["heading"],
        page=None if page < 0 else page,
        attributes=attributes,
        suspicion=old.get("suspicion"),
        terms=Terms() if "access" in old else Terms.of(attributes),
    )
    return row(chunk, vector) | {name: old[name] for name in TERMS if name in old}


def _is_same(old: Old, new: Old) -> bool:
    """Whether `new` is what `old` becomes; columns that only one version has are made of the others."""
    kept = {name: value for name, value in old.items() if name in PLAIN or name not in COLUMNS}
    return all(name in new and new[name] == value for name, value in kept.items()) and not any(
        name not in old for name in new if name not in COLUMNS
    )
