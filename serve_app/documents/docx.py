import io
import re

import docx
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph

from serve_app.documents.document import Document, Refusal
from serve_app.documents.headings import Outline, table_rows
from serve_app.documents.office import DAMAGE, check_archive

_HEADING = re.compile(r"^heading (\d)$", re.IGNORECASE)
_CODE_STYLES = ("code", "preformatted", "listing", "macro")


def read_docx(content: bytes, source: str, title: str) -> Document:
    check_archive(content, part="word/document.xml", noun="Word document", extension=".docx")
    try:
        opened = docx.Document(io.BytesIO(content))
        outline = Outline()
        reader = _Reader(outline)
        for element in opened.iter_inner_content():
            reader.read(element)
        reader.flush()
        stated = str(opened.core_properties.title or "").strip()
    except (*DAMAGE, OpcError) as exc:
        raise Refusal(f"the Word document is damaged ({type(exc).__name__}: {exc})") from exc
    return Document(source=source, title=stated or outline.first_title or title, blocks=outline.finish())


class _Reader:
    """Lines of one list, and of one listing, stay together."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._code: list[str] = []
        self._listed: list[str] = []

    def read(self, element: Paragraph | Table) -> None:
        if isinstance(element, Table):
            self.flush()
            self._outline.add(table_rows([_cells(row) for row in element.rows]), "table")
            return
        style = str(element.style.name or "") if element.style else ""
        heading = _HEADING.match(style)
        if heading or style == "Title":
            self.flush()
            self._outline.open(int(heading.group(1)) if heading else 1, element.text)
        elif any(word in style.lower() for word in _CODE_STYLES):
            self._code.append(element.text)
        elif style.startswith("List"):
            self._listed.append(f"- {element.text}")
        else:
            self.flush()
            self._outline.add(element.text)

    def flush(self) -> None:
        code = "\n".join(self._code)
        self._outline.add(f"```\n{code}\n```" if code.strip() else "", "code")
        self._outline.add("\n".join(self._listed))
        self._code.clear()
        self._listed.clear()


def _cells(row: object) -> list[str]:
    """A merged cell is one cell, though the row names it once per column it covers."""
    seen: list[object] = []
    texts: list[str] = []
    for cell in getattr(row, "cells", ()):
        if all(cell._tc is not other for other in seen):
            seen.append(cell._tc)
            texts.append(cell.text)
    return texts
