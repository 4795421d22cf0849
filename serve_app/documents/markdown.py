import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from serve_app.documents.document import Document, Refusal
from serve_app.documents.headings import Outline, table_rows

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_OPENING = re.compile(r"<(script|style|template|noscript|iframe|textarea)\b(?![^>]*/>)", re.IGNORECASE)
"""What stands between such a tag and its end is not read."""
_DEEPEST = 40
"""Levels of lists and quotations, two for each list; what is deeper, the parser leaves out without a word."""
_PARSER = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable(["table", "strikethrough"])
_CONTAINERS = {"bullet_list_open", "ordered_list_open", "blockquote_open"}


def read_markdown(text: str, source: str, title: str) -> Document:
    front = _FRONT_MATTER.match(text)
    titled = _FRONT_TITLE.search(front.group(1)) if front else None
    tokens = _PARSER.parse(text[front.end() :] if front else text)
    if max((token.level for token in tokens), default=0) >= _DEEPEST - 1:
        raise Refusal("it is nested too deeply")
    outline = Outline()
    position = 0
    while position < len(tokens):
        position = _take(tokens, position, outline)
    blocks = outline.finish()
    return Document(
        source=source, title=(titled.group(1) if titled else "") or outline.first_title or title, blocks=blocks
    )


def _take(tokens: list[Token], position: int, outline: Outline) -> int:
    """Hand the top-level element that starts at `position` to the outline; the position behind it."""
    token = tokens[position]
    end = _end(tokens, position)
    inside = tokens[position : end + 1]
    match token.type:
        case "heading_open":
            outline.open(int(token.tag[1]), _inline(tokens[position + 1]))
        case "fence" | "code_block":
            outline.add(_code(token), "code")
        case "table_open":
            outline.add(table_rows(_rows(inside)), "table")
        case "html_block":
            _read_html(token.content, outline)
        case kind if kind in _CONTAINERS:
            _take_container(inside, outline)
        case "paragraph_open":
            outline.add(_inline(tokens[position + 1]))
    return end + 1


def _end(tokens: list[Token], position: int) -> int:
    if tokens[position].nesting != 1:
        return position
    level = tokens[position].level
    return next(at for at in range(position + 1, len(tokens)) if tokens[at].nesting == -1 and tokens[at].level == level)


def _take_container(inside: list[Token], outline: Outline) -> None:
    """A list or quotation: its lines stay one block, the code and the tables in it are blocks of their own."""
    lines: list[str] = []
    markers = _Markers()
    position = 0
    while position < len(inside):
        token = inside[position]
        end = position
        if token.type in {"fence", "code_block", "table_open", "html_block"}:
            end = _end(inside, position)
            outline.add("\n".join(lines))
            lines.clear()
            _take(inside, position, outline)
        elif token.type == "inline":
            text = _inline(token)
            lines.extend([markers.lead() + text] if text else [])
        else:
            markers.see(token)
        position = end + 1
    outline.add("\n".join(lines))


class _Markers:
    """What stands before the next line of a nested list."""

    def __init__(self) -> None:
        self._ordered: list[bool] = []
        self._marker = ""

    def see(self, token: Token) -> None:
        if token.type in {"bullet_list_open", "ordered_list_open"}:
            self._ordered.append(token.type == "ordered_list_open")
        elif token.type in {"bullet_list_close", "ordered_list_close"}:
            self._ordered.pop()
        elif token.type == "list_item_open":
            self._marker = f"{token.info}{token.markup} " if self._ordered[-1] else "- "

    def lead(self) -> str:
        """The marker once, then blanks of its width for the item's other paragraphs."""
        indent = "  " * max(0, len(self._ordered) - 1)
        marker, self._marker = self._marker, " " * len(self._marker)
        return indent + marker


def _code(token: Token) -> str:
    language = token.info.split()[0] if token.info.strip() else ""
    return f"```{language}\n{token.content.rstrip()}\n```" if token.content.strip() else ""


def _rows(inside: list[Token]) -> list[list[str]]:
    rows: list[list[str]] = []
    for before, token in pairwise(inside):
        if before.type == "tr_open":
            rows.append([])
        if before.type in {"th_open", "td_open"}:
            rows[-1].append(_inline(token))
    return rows


def _inline(token: Token) -> str:
    """Plain text of a line: links by their text, images by their description, code in backticks."""
    parts: list[str] = []
    unread = ""
    for child in token.children or ():
        if child.type == "html_inline":
            unread, text = _after_tag(child.content.lower(), unread)
            parts.append(text)
            continue
        if unread:
            continue
        match child.type:
            case "code_inline":
                parts.append(f"`{child.content}`")
            case "softbreak":
                parts.append(" ")
            case "hardbreak":
                parts.append("\n")
            case "image" | "text":
                parts.append(child.content)
    return "".join(parts).strip()


def _after_tag(tag: str, unread: str) -> tuple[str, str]:
    """(the element whose text is not read from here on, what the tag itself stands for)."""
    if unread:
        return ("" if tag.startswith(f"</{unread}") else unread), ""
    opening = _OPENING.match(tag)
    return (opening.group(1) if opening else ""), "\n" if tag.startswith("<br") else ""


def _read_html(markup: str, outline: Outline) -> None:
    # imported where it is used: most Markdown holds none
    from serve_app.documents.html import read_fragment

    read_fragment(markup, outline)
