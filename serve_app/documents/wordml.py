"""The text of WordprocessingML as a reader of the document sees it."""

from collections.abc import Iterator
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_MATHS_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_SIGNS = {f"{W}tab": "\t", f"{W}ptab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
_UNSEEN = {f"{W}del", f"{W}moveFrom", f"{W}instrText", f"{W}delText", f"{W}pPr", f"{W}sdtPr", f"{W}txbxContent"}
"""What was deleted, codes, properties; a text box is read as paragraphs of its own."""
_NOTES = {f"{W}footnoteReference": "footnote", f"{W}endnoteReference": "endnote"}
Note = tuple[str, str]
"""Kind and id of a note that a paragraph refers to."""


def children(element: Any) -> Iterator[Any]:
    """The paragraphs and tables of a body, a cell or a text box, content controls and tracked insertions opened."""
    for child in element:
        if child.tag in (f"{W}p", f"{W}tbl"):
            yield child
        elif child.tag in (f"{W}sdt", f"{W}sdtContent", f"{W}ins", f"{W}moveTo", f"{W}customXml", f"{W}smartTag"):
            yield from children(child)
        elif child.tag == f"{_MC}AlternateContent":
            yield from children(_chosen(child))


def text_of(paragraph: Any) -> str:
    """Without what was deleted and what is hidden; a line break is a new line."""
    return "".join(_texts(paragraph)).strip("\n")


def notes_in(paragraph: Any) -> list[Note]:
    """What stands at the foot of the page for this paragraph, in order."""
    return [(_NOTES[one.tag], one.get(f"{W}id", "")) for one in paragraph.iter(*_NOTES)]


def boxes_in(paragraph: Any) -> Iterator[Any]:
    """The text boxes anchored in it; one that is drawn twice, for two ages of Word, comes once."""
    if next(paragraph.iter(f"{W}txbxContent"), None) is None:
        return
    for child in _seen(paragraph):
        if child.tag == f"{W}txbxContent":
            yield child
        else:
            yield from boxes_in(child)


def hidden_in(paragraph: Any) -> bool:
    return any(_is_hidden(mark.getparent().getparent()) for mark in paragraph.iter(f"{W}vanish"))


def rows_of(table: Any, tag: str = f"{W}tr") -> Iterator[Any]:
    """The rows of a table or, with the tag `tc`, the cells of a row."""
    for child in table:
        if child.tag == tag:
            yield child
        elif child.tag in (f"{W}sdt", f"{W}sdtContent", f"{W}ins", f"{W}customXml"):
            yield from rows_of(child, tag)


def value(element: Any, *path: str) -> str | None:
    """The `val` of the element at this path below; "" where it is there without one, None where it is not."""
    found = element.find("/".join(f"{W}{name}" for name in path))
    return None if found is None else str(found.get(f"{W}val", ""))


def _texts(element: Any) -> Iterator[str]:
    for child in _seen(element):
        if child.tag in (f"{W}t", _MATHS_TEXT):
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _UNSEEN and not (child.tag == f"{W}r" and _is_hidden(child)):
            yield from _texts(child)


def _seen(element: Any) -> Iterator[Any]:
    """What is below, of alternatives the one that is drawn."""
    if element.tag == f"{_MC}AlternateContent":
        yield from _chosen(element)
    else:
        yield from element


def _chosen(alternatives: Any) -> Any:
    choice = alternatives.find(f"{_MC}Choice")
    return choice if choice is not None else alternatives.find(f"{_MC}Fallback") if len(alternatives) else alternatives


def _is_hidden(run: Any) -> bool:
    said = value(run, "rPr", "vanish")
    return said is not None and said not in ("0", "false", "off")
