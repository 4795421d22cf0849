from collections.abc import Iterator

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, PageElement, PreformattedString

from serve_app.documents.document import Document
from serve_app.documents.headings import Outline, table_rows

_FURNITURE = ["script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "svg", "iframe"]
_LEVELS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BREAKS = {
    "address", "article", "blockquote", "body", "br", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "hr",
    "html", "li", "main", "ol", "p", "section", "summary", "ul",
}  # fmt: skip
_SEPARATE = {"article", "blockquote", "body", "details", "div", "dl", "figure", "main", "ol", "p", "section", "ul"}


def read_html(content: bytes | str, source: str, title: str) -> Document:
    soup = BeautifulSoup(content, "lxml")
    titled = " ".join(soup.title.get_text().split()) if soup.title else ""
    for tag in soup(_FURNITURE):
        # a page's own heading often stands in its <header>
        if not (tag.name == "header" and tag.find("h1")):
            tag.decompose()
    body = soup.find("main") or soup.find("article") or soup.body or soup
    outline = Outline()
    _Walk(outline).read(body)
    blocks = outline.finish()
    return Document(source=source, title=titled or outline.first_title or title, blocks=blocks)


class _Walk:
    """Reads a tree in order; running text is held until an element ends it."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._held: list[str] = []

    def read(self, root: Tag) -> None:
        self._inside(root)
        self._flush()

    def _inside(self, parent: Tag) -> None:
        for child in parent.children:
            if isinstance(child, Tag):
                self._element(child)
            elif isinstance(child, NavigableString) and not isinstance(child, PreformattedString):
                self._held.append(str(child))

    def _element(self, tag: Tag) -> None:
        if tag.name in _LEVELS:
            self._flush()
            self._outline.open(_LEVELS[tag.name], tag.get_text())
        elif tag.name == "pre":
            self._flush()
            code = tag.get_text().strip("\n")
            self._outline.add(f"```\n{code}\n```" if code.strip() else "", "code")
        elif tag.name == "table" and _is_data(tag):
            self._flush()
            self._outline.add(table_rows(list(_rows(tag))), "table")
        else:
            self._running(tag)

    def _running(self, tag: Tag) -> None:
        if tag.name in _SEPARATE:
            self._flush()
        elif tag.name in _BREAKS:
            self._held.append("\x1f")
        if tag.name == "li":
            self._held.append("- ")
        self._inside(tag)
        if tag.name in _SEPARATE and tag.name != "p":
            self._flush()
        elif tag.name in _BREAKS:
            self._held.append("\x1f")

    def _flush(self) -> None:
        lines = (" ".join(line.split()) for line in "".join(self._held).split("\x1f"))
        self._held.clear()
        self._outline.add("\n".join(line for line in lines if line and line != "-"))


def _is_data(table: Tag) -> bool:
    """Not a table that only lays a page out."""
    return table.find(["table", "h1", "h2", "pre"]) is None


def _rows(table: Tag) -> Iterator[list[str]]:
    for row in table.find_all("tr"):
        cells: list[PageElement] = list(row.find_all(["th", "td"]))
        yield [cell.get_text(" ") for cell in cells]
