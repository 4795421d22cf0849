import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pypdf import PageObject, PdfReader
from pypdf.errors import PyPdfError

from serve_app.documents.document import Document, Reading, Refusal
from serve_app.documents.headings import Outline

_HYPHENATED = re.compile(r"(\w)[-\u00ad]\n([a-z\u00df-\u00f6\u00f8-\u00ff])")
_PARAGRAPH = re.compile(r"\n\s*\n")
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_DAMAGE = (
    PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, NotImplementedError,
    AssertionError, OverflowError, ZeroDivisionError,
)  # fmt: skip
"""pypdf answers a damaged structure with whatever the access to it raised."""


def read_pdf(content: bytes, source: str, title: str) -> Reading:
    """Page by page, under the bookmarks. What a page draws as a table is read as its lines.

    A page that cannot be read, and one of images alone, is named among the skipped parts. Raises Refusal.
    """
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refusal("the PDF is protected by a password; save a copy without one")
        pages = list(reader.pages)
    except _DAMAGE as exc:
        raise Refusal(f"the PDF is damaged ({str(exc).strip() or type(exc).__name__})") from exc
    texts: list[str] = []
    damaged: dict[int, str] = {}
    for number, page in enumerate(pages, start=1):
        try:
            texts.append(page.extract_text().translate(_LIGATURES))
        except _DAMAGE as exc:
            texts.append("")
            damaged[number] = str(exc).strip() or type(exc).__name__
    empty = [at for at, text in enumerate(texts, start=1) if not text.strip() and at not in damaged]
    drawn = [at for at in empty if _has_images(pages[at - 1])]
    if not any(text.strip() for text in texts):
        raise _nothing(damaged)
    outline = Outline()
    bookmarks = _bookmarks_of(reader)
    for number, text in enumerate(texts, start=1):
        outline.page = number
        _read_page(outline, text, bookmarks.get(number, []))
    skipped = [f"{_pages(list(damaged))} cannot be read ({next(iter(damaged.values()))})"] if damaged else []
    skipped += [f"{_pages(drawn)} without text, only images; run character recognition (OCR) on it"] if drawn else []
    document = Document(source=source, title=_stated(reader) or title, blocks=outline.finish())
    return Reading(documents=(document,), skipped=tuple(skipped))


def _nothing(damaged: dict[int, str]) -> Refusal:
    if damaged:
        return Refusal(f"the PDF is damaged ({next(iter(damaged.values()))})")
    return Refusal("the PDF has no text, only images; run character recognition (OCR) on it first")


def _pages(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
    return f"page{'s' if len(numbers) > 1 else ''} {shown}"


def _has_images(page: PageObject) -> bool:
    try:
        return bool(page.images.keys())
    except _DAMAGE:
        return True


def _stated(reader: PdfReader) -> str:
    try:
        return str((reader.metadata and reader.metadata.title) or "").strip()
    except _DAMAGE:
        return ""


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


def _bookmarks_of(reader: PdfReader) -> dict[int, list[tuple[str, ...]]]:
    """Paths by page; none where the outline is damaged, since the text is whole without it."""
    found: dict[int, list[tuple[str, ...]]] = {}
    try:
        for page, path in _bookmarks(reader, reader.outline, ()):
            found.setdefault(page, []).append(path)
    except (*_DAMAGE, RecursionError):
        return {}
    return found


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
