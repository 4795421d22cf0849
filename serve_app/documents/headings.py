"""The headings above the place a parser has reached."""

from dataclasses import dataclass, field

from serve_app.documents.document import Block, Kind

LONGEST_HEADING = 512
"""Characters. What is longer is a paragraph that looks like a heading: every excerpt carries its headings."""
DEEPEST = 9
"""Levels, as in Word; what is deeper stands on the ninth."""


@dataclass(slots=True)
class Outline:
    """Collects a document's blocks in reading order, each under the headings open at that point."""

    page: int | None = None
    blocks: list[Block] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    first_title: str = ""
    is_bare: bool = False
    """Nothing stands under the last heading yet."""

    def open(self, level: int, text: str) -> None:
        """A heading of `level` (1 is the highest) closes those of its own level and below."""
        text = " ".join(text.split())
        if not text:
            return
        if len(text) > LONGEST_HEADING:
            self.add(text)
            return
        level = min(level, DEEPEST)
        self.first_title = self.first_title or text
        if self.headings and level <= self.headings[-1][0]:
            self.say_bare()
        self.headings = [(depth, above) for depth, above in self.headings if depth < level]
        self.headings.append((level, text))
        self.is_bare = True

    def add(self, text: str, kind: Kind = "prose") -> None:
        text = text.strip("\n") if kind == "code" else text.strip()
        if text.strip():
            path = tuple(above for _, above in self.headings)
            self.blocks.append(Block(text=text, kind=kind, heading=path, page=self.page))
            self.is_bare = False

    def say_bare(self) -> None:
        """A heading with nothing under it is text: no other would carry it."""
        if self.is_bare:
            self.add(self.headings[-1][1])

    def finish(self) -> tuple[Block, ...]:
        """The blocks; a document of headings alone is its headings."""
        if not self.blocks and self.headings:
            self.add("\n".join(text for _, text in self.headings))
        self.say_bare()
        return tuple(self.blocks)


def table_rows(rows: list[list[str]]) -> str:
    """A table as text, one row per line, the first row its header."""
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows if any(row))
