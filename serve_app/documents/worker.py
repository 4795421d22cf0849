"""The process that reads documents: a hostile or broken one can end it, but not the service.

Started by `ParserProcess` as `python -m serve_app.documents.worker`. It imports a format's library when the first such
file comes. Over its standard streams go frames: four bytes of length, big-endian, then JSON.
"""

import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from serve_app.documents.chunk import excerpts
from serve_app.documents.document import Refusal, legible
from serve_app.documents.parse import parse
from serve_app.documents.stamps import stamped
from serve_app.documents.tokens import token_count

FRAME_BYTES = 4
BATCH = 64
"""Excerpts in a frame."""
LONGEST_REASON = 500
"""Characters of a refusal."""
WAITING = 3
"""The deadline counts this process's own time; since it gives way to others, the clock may show so many times of it."""
SPENT_BYTES = 512 * 2**20
"""A worker that has once held more is replaced before the next file: what it freed is in pieces."""
TOO_LARGE: dict[str, Any] = {
    "refused": "reading it takes more memory than a document may use; split it into several files",
    "code": "invalid_file",
    "is_spent": True,
}


def main() -> None:
    tokenizer_path, most_tokens, memory_bytes, deadline_s = sys.argv[1:]
    frames_out = os.fdopen(os.dup(1), "wb")
    # a library that prints must not write into the frames
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # questions are answered on the same cores
    os.nice(5)
    count = token_count(Path(tokenizer_path))
    while (request := read_frame(sys.stdin.buffer.read)) is not None:
        signal.setitimer(signal.ITIMER_PROF, float(deadline_s))
        # ends this process even when the one that would kill it is gone
        signal.setitimer(signal.ITIMER_REAL, float(deadline_s) * WAITING + 5)
        most = min(int(most_tokens), request["most_tokens"] or int(most_tokens))
        try:
            for answer in _answers(request, partial(_read, count=count, most_tokens=most)):
                write_frame(frames_out, answer)
        except MemoryError:
            write_frame(frames_out, TOO_LARGE)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answers(
    request: dict[str, Any], read: Callable[[str, Path], Iterator[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    try:
        yield from read(request["name"], Path(request["path"]))
    except Refusal as refused:
        yield _last(refused=_sentence(str(refused)), code=refused.code)
    except MemoryError:
        yield TOO_LARGE
    except Exception as exc:  # noqa: BLE001 - whatever a library raised, the owner of the file learns that it is unreadable
        yield _last(refused=_sentence(f"it could not be read ({type(exc).__name__}: {exc})"), code="invalid_file")


def _sentence(reason: str) -> str:
    """A library may quote the document in what it says: one line, of a bounded length."""
    line = " ".join(legible(reason).split())
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."


def _read(name: str, path: Path, *, count: Callable[[str], int], most_tokens: int) -> Iterator[dict[str, Any]]:
    content = path.read_bytes()
    reading = stamped(parse(name, content), content, time.time())
    del content
    batch: list[dict[str, Any]] = []
    for document in reading.documents:
        for excerpt in excerpts(document, count=count, most_tokens=most_tokens):
            batch.append(asdict(excerpt))
            if len(batch) == BATCH:
                yield {"excerpts": batch}
                batch = []
    yield _last(excerpts=batch, skipped=[_sentence(reason) for reason in reading.skipped])


def _last(**said: Any) -> dict[str, Any]:
    """The last frame about a file."""
    # not `getrusage`, whose maximum a child takes over from the replica that started it
    status = Path("/proc/self/status").read_text()
    most_held_bytes = int(status.partition("VmHWM:")[2].split()[0]) * 2**10
    return {**said, "is_spent": most_held_bytes > SPENT_BYTES}


def read_frame(read: Callable[[int], bytes]) -> dict[str, Any] | None:
    """The next frame; None when the stream has ended, even within a frame."""
    length = read(FRAME_BYTES)
    body = read(int.from_bytes(length, "big")) if len(length) == FRAME_BYTES else b""
    if not body or len(body) < int.from_bytes(length, "big"):
        return None
    frame: dict[str, Any] = json.loads(body)
    return frame


def write_frame(stream: BinaryIO, frame: dict[str, Any]) -> None:
    body = json.dumps(frame).encode()
    stream.write(len(body).to_bytes(FRAME_BYTES, "big") + body)
    stream.flush()


if __name__ == "__main__":
    main()
