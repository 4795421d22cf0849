"""A file as its reader sees it, and where in the file each character of that stands."""

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONG_NUMBER = r"(?<![\w.+-])\d{7,}(?![\w.])"
LITERAL = re.compile(rf'"(?:[^"\\]|\\.)*+"|{LONG_NUMBER}', re.DOTALL)
JSON_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL
)
HTML_CHARACTER = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});|.", re.DOTALL)
CSV_CHARACTER = re.compile(r'""|.', re.DOTALL)
TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)[^<>]*>|<!--|-->|<!DOCTYPE[^<>]*>", re.IGNORECASE)
ATTRIBUTE = re.compile(r"=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>]+))")
INSIDE_A_LINE = re.compile(r"a|abbr|b|bdi|bdo|cite|code|em|font|i|kbd|label|mark|[qsu]|samp|small|span|strong|su[bp]")
"""Tags that do not end a line: what stands before and after them is read as one."""
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the file that is read as text; what lies between stretches is never changed."""

    start: int
    """In the file."""
    text: str
    """With the format's escapes undone."""
    places: tuple[int, ...] = ()
    """File position of each character and of the end; empty where characters stand in the file as they are read."""
    is_number: bool = False
    """JSON's: it can only be replaced whole, and by a string."""

    def place(self, offset: int) -> int:
        return self.places[offset] if self.places else self.start + offset

    @property
    def end(self) -> int:
        return self.place(len(self.text))


Part = Stretch | str
"""Strings are not in the file: they make a sentence of it, such as the column's name before a cell."""
Reader = Callable[[str], Iterator[Part]]


def plain(text: str) -> Iterator[Part]:
    yield Stretch(0, text)


def stretch(start: int, raw: str, character: re.Pattern[str], undone: Callable[[str], str]) -> Stretch:
    """`raw` as it is read; `character` finds one character as it is written, `undone` reads it."""
    letters: list[str] = []
    places: list[int] = []
    for match in character.finditer(raw):
        letters.append(undone(match[0]))
        # A reference may be two characters; the second stands where the reference ends.
        places += [start + match.start(), *[start + match.end()] * (len(letters[-1]) - 1)][: len(letters[-1])]
    return Stretch(start, "".join(letters), (*places, start + len(raw)))


def json_parts(text: str) -> Iterator[Part]:
    """Strings, keys among them, and numbers long enough to be somebody's: `key: value`, a blank line per object."""
    end = 0
    for match in LITERAL.finditer(text):
        yield _between(text[end : match.start()])
        end = match.end()
        if match[0][0] != '"':
            yield Stretch(match.start(), match[0], is_number=True)
        elif "\\" in match[0]:
            yield stretch(match.start() + 1, match[0][1:-1], JSON_CHARACTER, _json_character)
        else:
            yield Stretch(match.start() + 1, match[0][1:-1])


def _between(gap: str) -> str:
    if "}" in gap:
        return "\n\n"
    return ": " if ":" in gap else "\n"


def _json_character(written: str) -> str:
    if written[0] != "\\":
        return written
    read: str = json.loads(f'"{written}"')
    return "\ufffd" if "\ud800" <= read <= "\udfff" else read


def html_parts(text: str) -> Iterator[Part]:
    """The page's text, then the values of its attributes; comments and scripts are text."""
    end = 0
    tags = list(TAG.finditer(text))
    for tag in tags:
        yield _html_stretch(end, text[end : tag.start()])
        yield "" if INSIDE_A_LINE.fullmatch((tag[1] or "").lower()) else "\n"
        end = tag.end()
    yield _html_stretch(end, text[end:])
    for tag in tags:
        for value in ATTRIBUTE.finditer(tag[0]):
            yield "\n"
            group = value.lastindex or 1
            yield _html_stretch(tag.start() + value.start(group), value[group])


def _html_stretch(start: int, raw: str) -> Stretch:
    return stretch(start, raw, HTML_CHARACTER, html.unescape) if "&" in raw else Stretch(start, raw)


def csv_parts(text: str) -> Iterator[Part]:
    """Cells as `column: cell`, a blank line per row. Without a first row of names the cells stand alone."""
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    cell = re.compile(rf'(?:"((?:[^"]|"")*+)"|([^{re.escape(delimiter)}\r\n]*))({re.escape(delimiter)}|\r?\n|\r|\Z)')
    names: list[str] = []
    row = column = 0
    for match in cell.finditer(text):
        group = 1 if match[1] is not None else 2
        label = names[column] if row and column < len(names) else ""
        if match[group]:
            yield f"{label}: " if label else ""
            yield _csv_stretch(match.start(group), match[group])
            yield "\n"
        if row == 0:
            names.append(match[group].strip() if _is_name(match[group]) else "")
        column += 1
        if match[3] != delimiter:
            row, column = row + 1, 0
            yield "\n"


def _is_name(cell: str) -> bool:
    return "@" not in cell and len(cell) < 40 and not any(letter.isdigit() for letter in cell)


def _csv_stretch(start: int, raw: str) -> Stretch:
    return stretch(start, raw, CSV_CHARACTER, lambda written: written[0]) if '""' in raw else Stretch(start, raw)


READERS: dict[str, Reader] = {
    ".txt": plain,
    ".md": plain,
    ".csv": csv_parts,
    ".tsv": csv_parts,
    ".json": json_parts,
    ".jsonl": json_parts,
    ".html": html_parts,
    ".htm": html_parts,
}
"""By the file's ending."""
