import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import docx
from docx.opc.exceptions import OpcError
from docx.oxml.parser import parse_xml

from serve_app.documents.document import Document, Reading, Refusal
from serve_app.documents.headings import Outline, table_rows
from serve_app.documents.office import DAMAGE, check_archive, check_part
from serve_app.documents.wordml import Note, W, boxes_in, children, hidden_in, notes_in, rows_of, text_of, value

_HEADING = re.compile(r"^heading (\d)$", re.IGNORECASE)
_CODE_STYLES = ("code", "preformatted", "listing", "macro")
_BODY_LEVEL = 9
"""The outline level of running text; below are those of headings, from 0."""
_REPEATED_CHARACTERS = 200
"""A cell merged downwards is said in each row it covers, up to this length; a longer one in the first."""


def read_docx(content: bytes, source: str, title: str) -> Reading:
    """Paragraphs, lists and tables in order; text boxes and notes behind the paragraph they belong to.

    What stands at the head and the foot of each page is read once, at the end. Comments and deletions are not read.
    """
    check_archive(content, part="word/document.xml", noun="Word document", extension=".docx")
    try:
        opened = docx.Document(io.BytesIO(content))
        check_part(opened.element, "Word document")
        outline = Outline()
        reader = _Reader(outline, _styles(opened), dict(_notes(opened)))
        reader.read(opened.element.body)
        outline.say_bare()
        outline.headings.clear()
        for text in dict.fromkeys(_page_frames(opened)):
            outline.add(text)
        stated = str(opened.core_properties.title or "").strip()
    except (*DAMAGE, OpcError) as exc:
        raise Refusal(f"the Word document is damaged ({type(exc).__name__}: {exc})") from exc
    document = Document(source=source, title=stated or outline.first_title or title, blocks=outline.finish())
    skipped = ("hidden text was left out",) if reader.left_out else ()
    return Reading(documents=(document,), skipped=skipped)


@dataclass(frozen=True, slots=True)
class _Style:
    name: str
    level: int | None
    """Of a heading, from 1."""


@dataclass(slots=True)
class _Reader:
    """Lines of one list, and of one listing, stay together."""

    outline: Outline
    styles: dict[str, _Style]
    notes: dict[Note, str]
    left_out: bool = False
    code: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)

    def read(self, element: Any) -> None:
        for child in children(element):
            if child.tag == f"{W}p":
                self._paragraph(child)
            else:
                self._table(child)
        self._flush()

    def _paragraph(self, paragraph: Any) -> None:
        text = text_of(paragraph)
        style = self.styles.get(value(paragraph, "pPr", "pStyle") or "", _Style("", None))
        level = _level(value(paragraph, "pPr", "outlineLvl")) or style.level
        if level:
            self._flush()
            self.outline.open(level, text)
        elif any(word in style.name for word in _CODE_STYLES):
            self._end_list()
            self.code.append(text)
        elif style.name.startswith("list") or value(paragraph, "pPr", "numPr", "numId") not in (None, "0"):
            self._end_code()
            self.listed.append(f"{'  ' * _depth(paragraph)}- {' '.join(text.split())}" if text.strip() else "")
        else:
            self._flush()
            self.outline.add(text)
        self._asides(paragraph)

    def _asides(self, paragraph: Any) -> None:
        self.left_out = self.left_out or hidden_in(paragraph)
        said = [self.notes.get(note, "") for note in notes_in(paragraph)]
        boxes = list(boxes_in(paragraph))
        if any(said) or boxes:
            self._flush()
        for text in said:
            self.outline.add(text)
        for box in boxes:
            self.read(box)

    def _table(self, table: Any) -> None:
        self._flush()
        rows = [list(rows_of(row, f"{W}tc")) for row in rows_of(table)]
        if [len(row) for row in rows] == [1]:
            # a frame around some text
            self.read(rows[0][0])
            return
        self.outline.add(table_rows(list(self._rows(rows))), "table")
        for cell in (cell for row in rows for cell in row):
            self._inside(cell)

    def _rows(self, rows: list[list[Any]]) -> Iterator[list[str]]:
        above: dict[int, str] = {}
        for row in rows:
            texts: list[str] = []
            column = 0
            for cell in row:
                text = " ".join(text_of(child) for child in children(cell) if child.tag == f"{W}p")
                is_below = value(cell, "tcPr", "vMerge") in ("", "continue")
                texts.append(above.get(column, "") if is_below and not text.strip() else text)
                above[column] = texts[-1] if len(texts[-1]) <= _REPEATED_CHARACTERS else ""
                column += _whole(value(cell, "tcPr", "gridSpan")) or 1
            yield texts

    def _inside(self, cell: Any) -> None:
        """What a line of a table cannot hold stands behind the table: other tables, boxes, notes."""
        for child in children(cell):
            if child.tag == f"{W}p":
                self._asides(child)
            else:
                self._table(child)

    def _flush(self) -> None:
        self._end_code()
        self._end_list()

    def _end_code(self) -> None:
        code = "\n".join(self.code)
        self.code.clear()
        self.outline.add(f"```\n{code}\n```" if code.strip() else "", "code")

    def _end_list(self) -> None:
        lines = [line for line in self.listed if line]
        self.listed.clear()
        self.outline.add("\n".join(lines))


def _styles(opened: Any) -> dict[str, _Style]:
    """By id: Word writes the names of its own styles in English, the ids in the user's language."""
    found: dict[str, _Style] = {}
    for style in opened.styles.element.findall(f"{W}style"):
        name = str(value(style, "name") or "").lower()
        heading = _HEADING.match(name)
        level = int(heading.group(1)) if heading else 1 if name == "title" else None
        found[style.get(f"{W}styleId", "")] = _Style(name, level or _level(value(style, "pPr", "outlineLvl")))
    return found


def _notes(opened: Any) -> Iterator[tuple[Note, str]]:
    for kind, part in _parts(opened, "footnote", "endnote"):
        for note in part.findall(f"{W}{kind}"):
            text = "\n".join(text_of(paragraph) for paragraph in note.iter(f"{W}p")).strip()
            if note.get(f"{W}type", "normal") == "normal" and text:
                yield (kind, note.get(f"{W}id", "")), f"Note: {text}"


def _page_frames(opened: Any) -> Iterator[str]:
    for _, part in _parts(opened, "header", "footer"):
        yield "\n".join(filter(None, (text_of(paragraph).strip() for paragraph in part.iter(f"{W}p"))))


def _parts(opened: Any, *kinds: str) -> Iterator[tuple[str, Any]]:
    """(kind, root) of the other parts of the document."""
    for relation in opened.part.rels.values():
        kind = relation.reltype.rpartition("/")[2].removesuffix("s")
        if kind in kinds and not relation.is_external:
            root = parse_xml(relation.target_part.blob)
            check_part(root, "Word document")
            yield kind, root


def _level(outline_level: str | None) -> int | None:
    """From 1; None for running text."""
    found = _whole(outline_level) if outline_level else None
    return None if found is None or found >= _BODY_LEVEL else found + 1


def _depth(paragraph: Any) -> int:
    return min(_whole(value(paragraph, "pPr", "numPr", "ilvl")) or 0, _BODY_LEVEL)


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < _BODY_LEVEL else None
