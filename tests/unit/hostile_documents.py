"""Files that nobody wrote in good faith, each by what it does to its reader."""

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping

from tests.unit.documents import word_document

NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)
_TENFOLD = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
LAUGHS = f"<!DOCTYPE x [<!ENTITY a0 'ha'>{_TENFOLD}]>"
"""Eleven entities, each ten times the one before: 2 x 10^11 characters."""


def rezipped(whole: bytes, changes: Mapping[str, Callable[[str], str]], added: Mapping[str, str | bytes]) -> bytes:
    """An archive with some of its parts changed and others added."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name in changes:
                new.writestr(name, changes[name](old.read(name).decode()))
            elif name not in added:
                new.writestr(name, old.read(name))
        for name, content in added.items():
            new.writestr(name, content)
    return written.getvalue()


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def word(body: str, before: str = "") -> bytes:
    """A Word document with this body, and what stands before its first element."""
    document = f"{before}<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>"
    return rezipped(word_document(), {}, {"word/document.xml": document})


def lying(whole: bytes, name: str, size: int) -> bytes:
    """An archive that says of one part, in both its directories, that it unpacks to `size` bytes."""
    changed = bytearray(whole)
    for mark, of_size, of_name in ((b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)):
        at = changed.find(mark)
        while at >= 0:
            if changed[at + of_name : at + of_name + len(name)] == name.encode():
                changed[at + of_size : at + of_size + 4] = size.to_bytes(4, "little")
            at = changed.find(mark, at + 4)
    return bytes(changed)


def pdf_of(*objects: bytes) -> bytes:
    """A PDF of these objects, numbered from 1; the first is its catalog."""
    written = b"%PDF-1.7\n"
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return written + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer <</Size %d /Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (size, table, size, len(written))
    )


def page_of(content: bytes, *more: bytes, filters: bytes = b"", resources: bytes = b"", pages: int = 1) -> bytes:
    """A PDF whose pages all draw `content`; its font is object 5, `more` begins at 6."""
    stream = b"<</Length %d %s>>stream\n%s\nendstream" % (len(content), filters, content)
    return pdf_of(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (b"3 0 R " * pages, pages),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>%s>>>>" % resources,
        stream,
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *more,
    )


SHOWN = b"BT /F1 12 Tf 72 720 Td (Hello world) Tj ET"


def deflated(content: bytes) -> bytes:
    return zlib.compress(content, 9)
