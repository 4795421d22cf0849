import io
from collections.abc import Iterable, Iterator
from typing import Any

import pptx
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.exc import PythonPptxError
from pptx.oxml import parse_xml

from serve_app.documents.document import Document, Refusal
from serve_app.documents.headings import Outline, table_rows
from serve_app.documents.office import DAMAGE, check_archive, check_part

_TITLES = {PP_PLACEHOLDER.TITLE, PP_PLACEHOLDER.CENTER_TITLE, PP_PLACEHOLDER.VERTICAL_TITLE}
_UNSAID = {PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.HEADER}
_PARAGRAPH, _RUN = (f"{{http://schemas.openxmlformats.org/drawingml/2006/main}}{name}" for name in "pt")
_ALTERNATIVE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_ROW_EMU = 360_000
"""Shapes whose tops are within one centimetre of each other stand in one row, read from the left."""


def read_pptx(content: bytes, source: str, title: str) -> Document:
    """A slide is a page, its title the heading; its shapes are read from the top, then its diagrams, its notes last.

    Date, number, header and footer of a slide are not read, nor are comments.
    """
    check_archive(content, part="ppt/presentation.xml", noun="presentation", extension=".pptx")
    try:
        opened = pptx.Presentation(io.BytesIO(content))
        outline = Outline()
        for number, slide in enumerate(opened.slides, start=1):
            outline.page = number
            outline.headings.clear()
            _read_slide(slide, outline)
        stated = str(opened.core_properties.title or "").strip()
    except (*DAMAGE, PythonPptxError) as exc:
        raise Refusal(f"the presentation is damaged ({type(exc).__name__}: {exc})") from exc
    # what a new file of PowerPoint and of its imitators is called
    stated = "" if stated == "PowerPoint Presentation" else stated
    return Document(source=source, title=stated or outline.first_title or title, blocks=outline.finish())


def _read_slide(slide: Any, outline: Outline) -> None:
    check_part(slide.element, "presentation")
    shapes = list(_flat(slide.shapes))
    titles = [shape for shape in shapes if _placed_as(shape) in _TITLES]
    outline.open(1, " ".join(shape.text_frame.text for shape in titles))
    before = len(outline.blocks)
    for shape in shapes:
        if shape not in titles and _placed_as(shape) not in _UNSAID:
            _read_shape(shape, outline)
    for drawing in _drawings(slide):
        outline.add("\n".join(filter(None, map(_drawn, drawing.iter(_PARAGRAPH)))))
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text.strip()
        outline.add(f"Notes: {notes}" if notes else "")
    if len(outline.blocks) == before:
        # a slide that only announces the next ones is found by what it says, too
        outline.add("\n".join(heading for _, heading in outline.headings))


def _read_shape(shape: Any, outline: Outline) -> None:
    if getattr(shape, "has_table", False):
        outline.add(table_rows([[_text(cell.text) for cell in row.cells] for row in shape.table.rows]), "table")
    elif getattr(shape, "has_chart", False):
        if shape.chart.has_title and shape.chart.chart_title.has_text_frame:
            outline.add(_text(shape.chart.chart_title.text_frame.text))
        outline.add(table_rows(_chart_rows(shape.chart)), "table")
    elif shape.has_text_frame:
        lines = (_line(paragraph) for paragraph in shape.text_frame.paragraphs)
        outline.add("\n".join(line for line in lines if line.strip()))


def _drawings(slide: Any) -> Iterator[Any]:
    """What python-pptx has no shapes for: what only newer programs draw, and the texts of diagrams (SmartArt)."""
    yield from slide.element.iter(f"{_ALTERNATIVE}Choice")
    for relation in slide.part.rels.values():
        if relation.reltype.endswith("/diagramData") and not relation.is_external:
            root = parse_xml(relation.target_part.blob)
            check_part(root, "presentation")
            yield root


def _drawn(paragraph: Any) -> str:
    return _text("".join(run.text or "" for run in paragraph.iter(_RUN)))


def _line(paragraph: Any) -> str:
    """Deeper levels of a list keep their place under the first."""
    text = _text(paragraph.text)
    return f"{'  ' * (paragraph.level - 1)}- {text}" if paragraph.level and text else text


def _text(text: str) -> str:
    """PowerPoint's line break within a paragraph is a vertical tab."""
    return " ".join(text.split())


def _chart_rows(chart: Any) -> list[list[str]]:
    """The numbers behind a chart: a row per category, a column per series."""
    rows: list[list[str]] = []
    for plot in chart.plots:
        series = list(plot.series)
        rows.append(["", *(str(one.name) for one in series)])
        values = [list(one.values) for one in series]
        for at, category in enumerate(plot.categories):
            rows.append([str(category), *(_number(one[at]) if at < len(one) else "" for one in values)])
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _flat(shapes: Iterable[Any]) -> Iterator[Any]:
    """The shapes that hold something, groups opened, from the top and in a row from the left."""
    for shape in sorted(shapes, key=lambda one: ((one.top or 0) // _ROW_EMU, one.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _flat(shape.shapes)
        else:
            yield shape


def _placed_as(shape: Any) -> Any:
    return shape.placeholder_format.type if shape.is_placeholder else None
