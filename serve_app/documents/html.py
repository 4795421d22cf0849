import re
from collections.abc import Iterator

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector
from bs4.element import NavigableString, PreformattedString

from serve_app.documents.document import Document, Reading
from serve_app.documents.headings import Outline, table_rows

_UNREAD = [
    "script", "style", "noscript", "template", "nav", "svg", "iframe", "object", "embed", "applet", "canvas", "audio",
    "video", "input", "select", "button", "textarea", "datalist", "head",
]  # fmt: skip
"""What runs, what is drawn and what is filled in."""
_FRAME = ["header", "footer", "aside"]
"""Furniture around a page; within an article they hold its heading, its notes and its remarks."""
_CONTENT = ["main", "article", "section", "blockquote"]
_LEVELS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BREAKS = {
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li", "main",
    "ol", "p", "section", "summary", "table", "td", "th", "tr", "ul",
}  # fmt: skip
_SEPARATE = {
    "article", "aside", "blockquote", "body", "details", "div", "dl", "figure", "form", "main", "ol", "p", "section",
    "table", "ul",
}  # fmt: skip
_UNSHOWN = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0(?:\.0+)?%?\s*(?:;|!|$)"
    r"|font-size\s*:\s*0(?:\.0+)?(?:px|pt|r?em|%)?\s*(?:;|!|$))",
    re.IGNORECASE,
)
_PERMALINKS = {"¶", "#", "§", "🔗"}
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def declares_encoding(content: bytes) -> bool:
    return not content.startswith(_BYTE_ORDER_MARKS) and bool(
        EncodingDetector.find_declared_encoding(content, is_html=True)
    )


def read_html(content: bytes | str, source: str, title: str) -> Reading:
    """What a reader of the page sees: nothing that runs, no comment, no element that is hidden where it stands.

    Rules of a style sheet are not applied.
    """
    soup = BeautifulSoup(content, "lxml")
    titled = " ".join(soup.title.get_text().split()) if soup.title else ""
    left_out = _strip(soup)
    mains, articles = soup.find_all("main"), soup.find_all("article")
    body = mains[0] if len(mains) == 1 else articles[0] if len(articles) == 1 and not mains else soup.body or soup
    outline = Outline()
    _Walk(outline).read(body)
    document = Document(source=source, title=titled or outline.first_title or title, blocks=outline.finish())
    return Reading(documents=(document,), skipped=(f"hidden elements were left out: {left_out}",) if left_out else ())


def read_fragment(markup: str, outline: Outline) -> None:
    """HTML within another format, under the headings open there."""
    soup = BeautifulSoup(markup, "lxml")
    _strip(soup)
    _Walk(outline).read(soup)


def _strip(soup: BeautifulSoup) -> int:
    """Take out what is not to be read; how many elements with text were hidden."""
    for tag in soup(_UNREAD):
        tag.decompose()
    for tag in soup(_FRAME):
        # a page's own heading often stands in its <header>
        if not tag.decomposed and tag.find_parent(_CONTENT) is None and not (tag.name == "header" and tag.find("h1")):
            tag.decompose()
    hidden = 0
    for tag in soup.find_all(_is_hidden):
        if not tag.decomposed:
            hidden += bool(tag.get_text().strip())
            tag.decompose()
    for link in soup("a"):
        if link.get_text().strip() in _PERMALINKS:
            link.decompose()
    return hidden


def _is_hidden(tag: Tag) -> bool:
    """A tab that is not open is there to be opened, and what a browser's own search opens is there to be found."""
    if tag.get("role") == "tabpanel" or tag.get("hidden") == "until-found":
        return False
    return tag.has_attr("hidden") or bool(_UNSHOWN.search(str(tag.get("style") or "")))


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
            self._outline.open(_LEVELS[tag.name], _text(tag))
        elif tag.name == "pre":
            self._flush()
            code = _text(tag).strip("\n")
            self._outline.add(f"```\n{code}\n```" if code.strip() else "", "code")
        elif tag.name == "table" and _is_data(tag):
            self._table(tag)
        else:
            self._running(tag)

    def _table(self, table: Tag) -> None:
        self._flush()
        for caption in table.find_all("caption"):
            self._outline.add(" ".join(caption.get_text(" ").split()))
        self._outline.add(table_rows(list(_rows(table))), "table")

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


def _text(tag: Tag) -> str:
    """As `get_text`, with the lines as they are seen."""
    for line_break in tag("br"):
        line_break.replace_with("\n")
    return tag.get_text()


def _is_data(table: Tag) -> bool:
    """Not a table that only lays a page out."""
    return table.find(["table", "h1", "h2", "h3", "pre"]) is None


def _rows(table: Tag) -> Iterator[list[str]]:
    for row in table.find_all("tr"):
        yield [cell.get_text(" ") for cell in row.find_all(["th", "td"])]
