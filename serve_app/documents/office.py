"""What Word and PowerPoint files have in common: a ZIP archive of XML."""

import io
import zipfile
import zlib
from typing import Any

from serve_app.documents.document import Refusal

MOST_UNPACKED_BYTES = 200 * 2**20
MOST_PARTS = 10_000
DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, SyntaxError, ValueError, KeyError, IndexError, AttributeError, TypeError,
    NotImplementedError, EOFError, OSError, zlib.error,
)  # fmt: skip
"""What both libraries raise for a damaged file, beside errors of their own; lxml's syntax errors are SyntaxErrors."""


def check_archive(content: bytes, *, part: str, noun: str, extension: str) -> None:
    """Before anything is unpacked: `zipfile` never yields more than the size an entry declares. Raises Refusal."""
    try:
        parts = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as exc:
        raise Refusal(f"the {noun} is damaged ({exc})") from exc
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MOST_UNPACKED_BYTES or len(parts) > MOST_PARTS:
        raise Refusal(
            f"the {noun} unpacks to {unpacked / 2**20:.0f} MiB in {len(parts)} parts; "
            f"at most {MOST_UNPACKED_BYTES // 2**20} MiB in {MOST_PARTS} parts are read"
        )
    if part not in {entry.filename for entry in parts}:
        raise Refusal(f"the name ends in {extension} but the content is another kind of archive").coded(
            "unsupported_file"
        )
    if any(entry.flag_bits & 1 for entry in parts):
        raise Refusal(f"the {noun} is protected by a password; save it as plain {extension}")


def check_part(root: Any, noun: str) -> None:
    """Entities are not resolved, so the text around one would be lost; the format itself forbids them."""
    if root.getroottree().docinfo.internalDTD is not None:
        raise Refusal(f"the {noun} declares entities of its own, which no office program writes; save it anew")
