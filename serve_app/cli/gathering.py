"""Which files the paths on the command line mean."""

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_app.cli.uploading import Outcome
from serve_app.documents.parse import EXTENSIONS, KINDS

MOST_UNPACKED_BYTES = 512 * 2**20
_PIECE_BYTES = 2**20
_PACKED = ".jsonl.gz"
_MADE = {"node_modules", "__pycache__", "site-packages"}
"""Folders of code that a tool put there."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    name: str
    """What citations will call it: its path below the folder the command runs in, or below the folder named."""

    def content(self) -> bytes:
        """Unpacked where it is packed. Raises OSError, and ValueError with a sentence, when it cannot be read."""
        if not self.path.name.endswith(_PACKED):
            return self.path.read_bytes()
        try:
            return _unpacked(self.path)
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise ValueError(f"the gzip archive is damaged ({exc})") from exc


@dataclass(frozen=True, slots=True)
class Found:
    files: tuple[LocalFile, ...]
    faults: tuple[Outcome, ...]
    ignored: int
    """Files of kinds that are not read, in folders."""


def gather(paths: tuple[Path, ...], working: Path) -> Found:
    files: dict[Path, LocalFile] = {}
    faults: list[Outcome] = []
    ignored = 0
    for path in paths:
        if path.is_dir():
            for inside in _walk(path):
                if _readable_kind(inside):
                    files.setdefault(inside.resolve(), LocalFile(inside, _name(inside, path.resolve().parent, working)))
                else:
                    ignored += 1
        elif not path.exists():
            faults.append(Outcome(str(path), skipped="there is no such file or folder"))
        elif not _readable_kind(path):
            faults.append(Outcome(str(path), skipped=f"not a kind that is read, which are {KINDS}"))
        else:
            files.setdefault(path.resolve(), LocalFile(path, _name(path, path.parent, working)))
    return Found(tuple(files.values()), tuple(faults), ignored)


def _readable_kind(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS or path.name.endswith(_PACKED)


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder in a stable order; hidden ones, links to folders and what tools made are left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _MADE)
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _name(path: Path, below: Path, working: Path) -> str:
    whole, working = path.resolve(), working.resolve()
    if whole.is_relative_to(working):
        below = working
    name = whole.relative_to(below.resolve()) if whole.is_relative_to(below.resolve()) else Path(whole.name)
    return name.as_posix().removesuffix(".gz")


def _unpacked(path: Path) -> bytes:
    content = bytearray()
    with gzip.open(path) as stream:
        while piece := stream.read(_PIECE_BYTES):
            content += piece
            if len(content) > MOST_UNPACKED_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_UNPACKED_BYTES // 2**20} MiB; split it")
    return bytes(content)
