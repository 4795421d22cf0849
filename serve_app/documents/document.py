"""What a file becomes when it has been read: documents made of blocks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["prose", "code", "table"]
RefusalCode = Literal["unsupported_file", "invalid_file", "server_error"]
"""OpenAI's codes for a file that could not be ingested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch that belongs together: a paragraph, a list, a code block, a table (one row per line)."""

    text: str
    kind: Kind = "prose"
    heading: tuple[str, ...] = ()
    """The headings above, outermost first."""
    page: int | None = None
    """From 1, where the format has pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    source: str
    title: str
    blocks: tuple[Block, ...]
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)
    """What the file says of this document alone: `id` and `url` of a line of JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that one file gave."""

    documents: tuple[Document, ...]
    skipped: tuple[str, ...] = ()
    """One sentence for each part that could not be read while the rest could."""


class Refusal(Exception):
    """A file that cannot be read; the message is one sentence for its owner."""

    code: RefusalCode = "invalid_file"

    def coded(self, code: RefusalCode) -> "Refusal":
        self.code = code
        return self


def heading_path(headings: tuple[str, ...]) -> str:
    return " > ".join(headings)


_UNSEEN = dict.fromkeys([*range(9), *range(0x0E, 0x20), *range(0x7F, 0xA0), 0xAD, 0x200B, 0xFEFF])
_UNSEEN |= dict.fromkeys([0x0B, 0x0C, 0x85], "\n")


def legible(text: str) -> str:
    """The text of a document without control characters, which would move a terminal, and without the marks where a
    word may break, which would hide it from a search for words."""
    return cleaned(text.translate(_UNSEEN))


def cleaned(text: str) -> str:
    """Without what neither JSON nor a database can hold: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
