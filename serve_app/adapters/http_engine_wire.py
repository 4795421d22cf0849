"""What an OpenAI-compatible server sends, taken apart and checked: it is not ours, and may send anything."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic refuses Python 3.11's own

LONGEST_EVENT_BYTES = 4 * 2**20
LARGEST_ANSWER_BYTES = 64 * 2**20
"""Of an answer that came whole: an answer with 20 logprobs for each of 16,000 tokens takes half of it."""
DONE = b"[DONE]"
NO_EVENT = b""

_others_stay = with_config(ConfigDict(extra="allow"))


@_others_stay
class _Function(TypedDict, total=False):
    arguments: str | None


@_others_stay
class _Call(TypedDict, total=False):
    index: int
    function: _Function | None


@_others_stay
class _Said(TypedDict, total=False):
    content: str | None
    tool_calls: list[_Call] | None
    function_call: _Function | None


@_others_stay
class _Choice(TypedDict, total=False):
    index: int
    finish_reason: str | None
    delta: _Said | None
    message: _Said | None
    text: str | None


@_others_stay
class _Usage(TypedDict, total=False):
    prompt_tokens: int | None
    completion_tokens: int | None


@_others_stay
class _Chunk(TypedDict, total=False):
    choices: list[_Choice] | None
    usage: _Usage | None


CHUNK: TypeAdapter[Any] = TypeAdapter(_Chunk)
"""What is read of a response object or a chunk has its type; everything else stays in it as it came."""


@dataclass
class EventReader:
    """Server-sent events out of bytes, wherever those were cut: their data, as WHATWG's standard reads it."""

    _held: list[bytes] = field(default_factory=list)
    """Of a line that goes on."""
    _data: list[bytes] = field(default_factory=list)
    """Lines of an event that goes on."""
    _bytes: int = 0
    """Taken since the last event was whole."""

    def take(self, piece: bytes) -> list[bytes]:
        """Data of the events that are now whole. Raises ValueError when one is longer than LONGEST_EVENT_BYTES."""
        self._bytes += len(piece)
        if self._bytes > LONGEST_EVENT_BYTES:
            raise ValueError(f"an event of more than {LONGEST_EVENT_BYTES} bytes")
        if b"\n" not in piece and b"\r" not in piece:
            self._held.append(piece)
            return []
        text = b"".join((*self._held, piece))
        lines = text.splitlines(keepends=True)
        # A carriage return at the end may be half of a line's end.
        self._held = [] if text.endswith(b"\n") else [lines.pop()]
        found = [data for line in lines if (data := self._line(line.rstrip(b"\r\n")))]
        if found:
            self._bytes = sum(map(len, self._held)) + sum(map(len, self._data))
        return found

    def end(self) -> list[bytes]:
        """Data of a last event that no empty line ended: some servers forget it."""
        rest = self._line(b"".join(self._held).rstrip(b"\r"))
        self._held = []
        last = self._line(b"")
        return [data for data in (rest, last) if data]

    def _line(self, line: bytes) -> bytes:
        """Data of the event that this line ends, if any."""
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            return data
        return NO_EVENT


@dataclass
class Completeness:
    """Whether an answer that streams came to its end, or its connection merely closed."""

    done: bool = False
    _finished: dict[int, bool] = field(default_factory=dict)

    def saw(self, chunk: Mapping[str, Any]) -> None:
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            self._finished[index] = self._finished.get(index, False) or bool(choice.get("finish_reason"))

    def check(self) -> None:
        """Raises ValueError."""
        if not self._finished:
            raise ValueError("an answer without a choice")
        if not (self.done or all(self._finished.values())):
            raise ValueError("an answer that breaks off: neither [DONE] nor a finish_reason came")


async def streamed_chunks(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Mapping[str, Any], None]:
    """The chunks of a stream, up to `[DONE]` or the end. Raises ValueError for what is no such stream."""
    reader, completeness = EventReader(), Completeness()
    async for piece in pieces:
        for data in reader.take(piece):
            if data == DONE:
                completeness.done = True
                completeness.check()
                return
            chunk = parsed(data)
            completeness.saw(chunk)
            yield chunk
    for data in reader.end():
        completeness.done = completeness.done or data == DONE
        if data != DONE:
            chunk = parsed(data)
            completeness.saw(chunk)
            yield chunk
    completeness.check()


async def whole_chunk(pieces: AsyncIterator[bytes]) -> Mapping[str, Any]:
    """The one response object. Raises ValueError for what is none, or too large."""
    chunk = parsed(await gathered(pieces, LARGEST_ANSWER_BYTES))
    if not chunk.get("choices") and "error" not in chunk:
        raise ValueError("an answer without a choice")
    return chunk


async def gathered(pieces: AsyncIterator[bytes], most: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            raise ValueError(f"an answer of more than {most} bytes")
    return bytes(body)


def parsed(data: bytes) -> Mapping[str, Any]:
    """Raises ValueError, without repeating what came: it is logged."""
    try:
        chunk: dict[str, Any] = CHUNK.validate_json(data)
    except ValueError:
        raise ValueError("an answer that is not one of OpenAI's API") from None
    # Some give an error without the object around it.
    return {"error": chunk} if chunk.get("object") == "error" else chunk
