import io
import re
from collections.abc import Iterator
from typing import Any

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from serve_app.documents.document import Document, Refusal
from serve_app.documents.headings import Outline

_HYPHENATED = re.compile(r"(\w)-\n([a-z])")
_PARAGRAPH = re.compile(r"\n\s*\n")


def read_pdf(content: bytes, source: str, title: str) -> Document:
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refusal("the PDF is protected by a password; save a copy without one")
        pages = [page.extract_text() for page in reader.pages]
        bookmarks = list(_bookmarks(reader, reader.outline, ()))
        stated = reader.metadata.title if reader.metadata else None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as exc:
        # pypdf answers a damaged structure with whatever the access to it raised
        raise Refusal(f"the PDF is damaged ({str(exc).strip() or type(exc).__name__})") from exc
    if not any(text.strip() for text in pages):
        raise Refusal("the PDF has no text, only images; run character recognition (OCR) on it first")
    outline = Outline()
    for number, text in enumerate(pages, start=1):
        outline.page = number
        _read_page(outline, text, [path for page, path in bookmarks if page == number])
    return Document(source=source, title=str(stated or "").strip() or title, blocks=outline.finish())


def _read_page(outline: Outline, text: str, starting: list[tuple[str, ...]]) -> None:
    """`starting` are the bookmarks of this page: each opens where its title stands, or at the top if it does not."""
    lines = text.splitlines()
    stands = {_folded(line): at for at, line in reversed(list(enumerate(lines)))}
    begins = sorted((stands.get(_folded(path[-1]), 0), path) for path in starting)
    done = 0
    for at, path in begins:
        _add(outline, lines[done:at])
        for level, heading in enumerate(path, start=1):
            outline.open(level, heading)
        done = at + 1 if at in stands.values() and lines and _folded(lines[at]) == _folded(path[-1]) else max(done, at)
    _add(outline, lines[done:])


def _add(outline: Outline, lines: list[str]) -> None:
    for paragraph in _PARAGRAPH.split("\n".join(lines)):
        outline.add(_HYPHENATED.sub(r"\1\2", paragraph))


def _folded(line: str) -> str:
    return "".join(line.split()).casefold()


def _bookmarks(reader: PdfReader, entries: list[Any], above: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(page, path) of each entry of the outline; pypdf puts an entry's children in a list behind it."""
    last = above
    for entry in entries:
        if isinstance(entry, list):
            yield from _bookmarks(reader, entry, last)
            continue
        last = (*above, " ".join(str(entry.title).split()))
        page = reader.get_destination_page_number(entry)
        if page is not None and last[-1]:
            yield page + 1, last
