"""What every chunk tells of the document it is from, for filters: language, hash and time."""

import hashlib
from dataclasses import replace

from serve_app.documents.document import Document, Reading
from serve_app.documents.language import language_of


def stamped(reading: Reading, content: bytes, now: float) -> Reading:
    """The documents with `language` (en, de, other), `content_hash` (SHA-256 of the file) and `ingested_at` (seconds).

    What a document says of itself goes before what is guessed here.
    """
    facts: dict[str, str | int] = {"content_hash": hashlib.sha256(content).hexdigest(), "ingested_at": int(now)}
    return replace(reading, documents=tuple(_stamped(document, facts) for document in reading.documents))


def _stamped(document: Document, facts: dict[str, str | int]) -> Document:
    language = language_of(block.text for block in document.blocks if block.kind != "code")
    return replace(document, attributes={"language": language, **document.attributes, **facts})
