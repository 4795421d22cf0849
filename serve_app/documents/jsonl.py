import json
from pathlib import PurePosixPath
from typing import Any

from serve_app.documents.document import Document, Reading, Refusal
from serve_app.documents.markdown import read_markdown
from serve_app.sight import FIELDS

LONGEST = 512
"""Characters of an attribute, as in OpenAI's API."""
_TEXT_FIELDS = ("text", "content", "body")
_NAMED_REFUSALS = 20
_LONGEST_SOURCE = 2_048
"""Characters; every excerpt carries it."""


def read_jsonl(text: str, source: str) -> Reading:
    """One document per line, its text read as Markdown. Bad lines are skipped while others are good."""
    documents: list[Document] = []
    skipped: list[str] = []
    # not splitlines(): JSON strings may hold U+2028 and its like
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            documents.append(_read_line(line, f"{source}#{number}"))
        except Refusal as refused:
            skipped.append(f"line {number}: {refused}")
    if not documents:
        raise Refusal(skipped[0] if skipped else "the file is empty")
    more = len(skipped) - _NAMED_REFUSALS
    return Reading(
        documents=tuple(documents),
        skipped=(*skipped[:_NAMED_REFUSALS], *([f"and {more} more lines"] if more > 0 else [])),
    )


def _read_line(line: str, fallback: str) -> Document:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise Refusal(f"not JSON ({exc})") from exc
    if not isinstance(fields, dict):
        raise Refusal(f"a JSON object is expected, not {type(fields).__name__}")
    text = next((fields[name] for name in _TEXT_FIELDS if isinstance(fields.get(name), str)), None)
    if text is None or not text.strip():
        raise Refusal("no text; a line needs a non-empty string in `text`, `content` or `body`")
    source = _source(fields) or fallback
    if len(source) > _LONGEST_SOURCE:
        raise Refusal(
            f"its source has {len(source)} characters; `url`, `source` and `path` have {_LONGEST_SOURCE} at most"
        )
    document = read_markdown(
        text, source, _string(fields, "title") or _string(fields, "name") or PurePosixPath(source).stem
    )
    if not document.blocks:
        raise Refusal("no text; it holds only markup")
    return Document(
        source=source,
        title=_string(fields, "title") or _string(fields, "name") or document.title,
        blocks=document.blocks,
        attributes={name: _string(fields, name)[:LONGEST] for name in ("id", "url", "name") if _string(fields, name)}
        | _terms(fields),
    )


def _terms(fields: dict[str, Any]) -> dict[str, str]:
    """Who may see the line. What cannot be read refuses the line: left out or cut, it would show it to everybody."""
    given = {name: fields[name] for name in FIELDS if fields.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str) or not 0 < len(value.strip()) <= LONGEST:
            raise Refusal(
                f"`{name}` must be a text of 1 to {LONGEST} characters, such as 'legal,finance' or '2027-01-31'"
            )
    return given


def _source(fields: dict[str, Any]) -> str:
    """What tells this document from the others: a URL, else where it lies (`source` may name a whole collection)."""
    place = [_string(fields, "source"), _string(fields, "path")]
    return _string(fields, "url") or "/".join(part for part in place if part) or _string(fields, "id")


def _string(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
