"""Bytes of a file -> documents, or a refusal in one sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from serve_app.documents.code import LANGUAGES, read_code
from serve_app.documents.document import Block, Document, Reading, Refusal, cleaned

EXTENSIONS = (
    ".md", ".markdown", ".txt", ".html", ".htm", ".pdf", ".docx", ".pptx", ".csv", ".tsv", ".jsonl", *LANGUAGES,
)  # fmt: skip
KINDS = "Markdown, text, HTML, PDF, DOCX, PPTX, CSV, JSONL and code"
_OFFICE = {".docx": "Word document", ".pptx": "presentation"}
_SIGNATURES = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"\xd0\xcf\x11\xe0": "an old or password-protected Office document",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x7fELF": "a program",
}
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
    if not any(document.blocks for document in reading.documents):
        raise Refusal("there is no text in it")
    return replace(reading, documents=tuple(_cleaned(document) for document in reading.documents))


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
    if strange or foreign > 0.2 * len(text):
        raise wrong
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
    if found is None and b"\x00" in content[:4096] and content[:2] not in _ENCODINGS:
        found = "binary"
    if found:
        raise Refusal(f"the name ends in {extension} but the content is {found}").coded("unsupported_file")


# Imported where they are used: a worker that reads Markdown needs none of the other libraries.
def _markdown(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.markdown import read_markdown

    return Reading(documents=(read_markdown(decode(content), source, title),))


def _text(content: bytes, source: str, title: str) -> Reading:
    blocks = tuple(Block(text=text.strip()) for text in decode(content).split("\n\n") if text.strip())
    return Reading(documents=(Document(source=source, title=title, blocks=blocks),))


def _html(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.html import read_html

    return Reading(documents=(read_html(content, source, title),))


def _pdf(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.pdf import read_pdf

    return Reading(documents=(read_pdf(content, source, title),))


def _docx(content: bytes, source: str, title: str) -> Reading:
    from serve_app.documents.docx import read_docx

    return Reading(documents=(read_docx(content, source, title),))


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
    return replace(
        document,
        source=cleaned(document.source),
        title=cleaned(document.title),
        blocks=tuple(
            replace(block, text=cleaned(block.text), heading=tuple(cleaned(part) for part in block.heading))
            for block in document.blocks
        ),
    )
