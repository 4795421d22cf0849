"""Bytes of a file -> documents, or a refusal in one sentence."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from serve_app.documents.code import LANGUAGES, read_code
from serve_app.documents.document import Block, Document, Reading, Refusal, legible
from serve_app.documents.headings import LONGEST_HEADING

EXTENSIONS = (
    ".md", ".markdown", ".txt", ".html", ".htm", ".pdf", ".docx", ".pptx", ".csv", ".tsv", ".jsonl", *LANGUAGES,
)  # fmt: skip
KINDS = "Markdown, text, HTML, PDF, DOCX, PPTX, CSV, JSONL and code"
_OFFICE = {".docx": "Word document", ".pptx": "presentation"}
_SIGNATURES = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"PK\x05\x06": "an empty ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old or password-protected Office document",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xfd7zXZ": "an xz archive",
    b"RIFF": "a sound, a film or an image",
    b"{\\rtf": "an RTF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
}
_MOST_NULS = 0.01
"""Of the bytes of a text: fewer, and not at its start, are damage and are left out."""
_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def parse(name: str, content: bytes) -> Reading:
    """Read `content` as its name's extension says. Raises Refusal."""
    extension = PurePosixPath(name).suffix.lower()
    if extension not in EXTENSIONS:
        raise Refusal(
            f"{extension or 'a name without an extension'} is not a kind of document that is read; "
            f"the kinds are {KINDS}: {' '.join(EXTENSIONS)}"
        ).coded("unsupported_file")
    if not content.strip():
        raise Refusal("the file is empty")
    _check_content(extension, content)
    try:
        reading = _READERS[extension](content, name, PurePosixPath(name).stem)
    except RecursionError as exc:
        raise Refusal("it is nested too deeply") from exc
    documents = tuple(_cleaned(document) for document in reading.documents)
    if not any(document.blocks for document in documents):
        raise Refusal("there is no text in it" + "".join(f"; {reason}" for reason in reading.skipped))
    return replace(reading, documents=documents)


def decode(content: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or Windows-1252 where the result looks like a text. Raises Refusal."""
    encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as exc:
        wrong = Refusal(f"it is not {encoding.upper()} text (byte {exc.start}); save it as UTF-8")
    if b"\x00" in content:
        raise wrong
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as exc:
        raise wrong from exc
    foreign = sum(character > "\x7f" for character in text)
    strange = sum(character < " " and character not in "\t\n\r\f" for character in text)
    if strange or foreign > 0.2 * len(text) or _is_mostly_utf8(content):
        raise wrong
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_mostly_utf8(content: bytes) -> bool:
    """A damaged UTF-8 text would be read as Windows-1252 with every other umlaut wrong."""
    text = content.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - damaged > damaged


def _check_content(extension: str, content: bytes) -> None:
    found = next((what for mark, what in _SIGNATURES.items() if content.startswith(mark)), None)
    office = _OFFICE.get(extension)
    if office and content.startswith(b"\xd0\xcf\x11\xe0"):
        old = extension[:-1]
        raise Refusal(f"the {office} is protected by a password, or is an old {old}; save it as plain {extension}")
    if office and content.startswith(b"PK\x03\x04"):
        return
    if extension == ".pdf" and b"%PDF-" in content[:1024]:
        return
    if found is None and (office or extension == ".pdf"):
        found = "something else"
    is_text = content[:2] in _ENCODINGS or (
        b"\x00" not in content[:4096] and content.count(b"\x00") <= _MOST_NULS * len(content)
    )
    if found is None and not is_text:
        found = "binary"
    if found:
        raise Refusal(f"the name ends in {extension} but the content is {found}").coded("unsupported_file")


# Imported where they are used: a worker that reads Markdown needs none of the other libraries.
def _markdown(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.markdown import read_markdown

    return Reading(documents=(read_markdown(decode(content), source, title),))


def _text(content: bytes, source: str, title: str) -> Reading:
    blocks = tuple(
        Block(text=text) for text in map(str.strip, re.split(r"\n(?:[^\S\n]*+\n)++", decode(content))) if text
    )
    return Reading(documents=(Document(source=source, title=title, blocks=blocks),))


def _html(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.html import declares_encoding, read_html

    page = content if declares_encoding(content) else decode(content)
    return read_html(page, source, title)


def _pdf(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.pdf import read_pdf

    return read_pdf(content, source, title)


def _docx(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.docx import read_docx

    return read_docx(content, source, title)


def _pptx(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.pptx import read_pptx

    return Reading(documents=(read_pptx(content, source, title),))


def _csv(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.csv import read_csv

    return Reading(documents=(read_csv(decode(content), source, title),))


def _code(content: bytes, source: str, _title: str) -> Reading:
    return Reading(documents=(read_code(decode(content), source),))


def _jsonl(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.jsonl import read_jsonl

    return read_jsonl(decode(content), source)


_READERS: dict[str, Callable[[bytes, str, str], Reading]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
    ".pptx": _pptx,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    **dict.fromkeys(LANGUAGES, _code),
}


def _cleaned(document: Document) -> Document:
    """Every excerpt carries its title: one of the length of a text is a text."""
    title = " ".join(legible(document.title).split())
    blocks = [
        replace(block, text=text, heading=tuple(legible(part) for part in block.heading))
        for block in document.blocks
        if (text := legible(block.text)).strip()
    ]
    if len(title) > LONGEST_HEADING:
        blocks.insert(0, Block(text=title))
        title = title[:LONGEST_HEADING]
    return replace(document, source=legible(document.source), title=title, blocks=tuple(blocks))
