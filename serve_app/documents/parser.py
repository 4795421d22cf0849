import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from serve_app.documents.chunk import Excerpt
from serve_app.documents.document import Refusal
from serve_app.documents.worker import WAITING, read_frame, write_frame

READ_BYTES = 1 << 16
_ENDING_S = 1.0
"""Between the end of what a worker says and its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    excerpts: tuple[Excerpt, ...]
    skipped: tuple[str, ...] = ()
    """One sentence for each part of the file that could not be read while the rest could."""


class Parser(Protocol):
    async def parse(self, name: str, path: Path, most_tokens: int | None = None) -> Parsed:
        """Read the bytes at `path` as the kind of document `name` says. Raises Refusal.

        `most_tokens` makes the excerpts smaller than they would be; it never makes them larger.
        """
        ...

    async def close(self) -> None: ...


class ParserProcess:
    """Reads documents in one process of its own, started for the first, kept for the next, ended when idle.

    A plain child with pipes rather than `multiprocessing`: a spawned child of that kind imports its parent's main
    module, and that of a Serve replica is Ray. Files are read one at a time.
    """

    def __init__(
        self,
        *,
        tokenizer_path: Path,
        chunk_tokens: int,
        deadline_s: float,
        memory_bytes: int = 2 * 2**30,
        idle_s: float = 30,
    ) -> None:
        self._arguments = [str(tokenizer_path), str(chunk_tokens), str(memory_bytes), str(deadline_s)]
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def parse(self, name: str, path: Path, most_tokens: int | None = None) -> Parsed:
        async with self._turn:
            if self._idle:
                self._idle.cancel()
            try:
                return await asyncio.to_thread(self._exchange, name, path, most_tokens)
            except asyncio.CancelledError:
                self._stop()
                raise
            finally:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._stop)

    async def close(self) -> None:
        if self._idle:
            self._idle.cancel()
        await asyncio.to_thread(self._stop)

    def _exchange(self, name: str, path: Path, most_tokens: int | None) -> Parsed:
        process = self._running()
        asked = {"name": name, "path": str(path.resolve()), "most_tokens": most_tokens}
        try:
            parsed = self._answered(process, asked)
        except TimeoutError as exc:
            self._stop()
            raise self._too_long() from exc
        except BrokenPipeError:
            parsed = None
        if parsed is None:
            raise self._ended(process)
        return parsed

    def _answered(self, process: subprocess.Popen[bytes], asked: dict[str, Any]) -> Parsed | None:
        """None when the worker ends before it has answered. Raises TimeoutError, and BrokenPipeError when it has."""
        incoming = _Incoming(process, time.monotonic() + self._deadline_s * WAITING)
        excerpts: list[Excerpt] = []
        # a heading of 4 KiB above 70,000 excerpts is kept once
        known: dict[str, str] = {}
        if process.stdin is None:
            raise BrokenPipeError
        write_frame(process.stdin, asked)  # type: ignore[arg-type]
        while (frame := read_frame(incoming.read)) is not None:
            if frame.get("is_spent"):
                self._stop()
            if "refused" in frame:
                raise Refusal(frame["refused"]).coded(frame["code"])
            excerpts.extend(_excerpt(fields, known) for fields in frame["excerpts"])
            if "skipped" in frame:
                return Parsed(excerpts=tuple(excerpts), skipped=tuple(frame["skipped"]))
        return None

    def _ended(self, process: subprocess.Popen[bytes]) -> Refusal:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)
        self._stop()
        if process.returncode == -signal.SIGPROF:
            return self._too_long()
        return Refusal(f"reading it ended the parser (exit status {process.returncode})")

    def _too_long(self) -> Refusal:
        return Refusal(f"reading it took longer than {self._deadline_s:g} s; split it into several files")

    def _running(self) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "serve_app.documents.worker", *self._arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=_environment(os.environ),
                )
            return self._process

    def _stop(self) -> None:
        with self._guard:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


class _Incoming:
    """The worker's output, read until a deadline."""

    def __init__(self, process: subprocess.Popen[bytes], expires_at: float) -> None:
        if process.stdout is None:
            raise BrokenPipeError
        self._descriptor = process.stdout.fileno()
        self._expires_at = expires_at

    def read(self, size: int) -> bytes:
        """`size` bytes, or fewer when the worker has ended. Raises TimeoutError."""
        parts: list[bytes] = []
        while size > 0:
            ready = select.poll()
            ready.register(self._descriptor, select.POLLIN | select.POLLHUP)
            if not ready.poll(max(0, self._expires_at - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(self._descriptor, min(size, READ_BYTES))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _excerpt(fields: dict[str, Any], known: dict[str, str]) -> Excerpt:
    for name in ("lead", "source", "title", "heading"):
        fields[name] = known.setdefault(fields[name], fields[name])
    return Excerpt(**fields)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """The worker finds the same packages; it gets no secrets to lose."""
    kept = {name: own[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR") if name in own}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONUTF8": "1",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
    }
