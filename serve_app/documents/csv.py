import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from serve_app.documents.document import Block, Document, Refusal
from serve_app.documents.headings import table_rows

DELIMITERS = ",;\t|"
MOST_ROWS = 100_000
"""25,000 excerpts, half a minute of one core. The header is not counted."""
MOST_COLUMNS = 16_384
"""A spreadsheet has no more."""
MOST_CELL_CHARACTERS = 128 * 2**10
_SAMPLE = 64 * 2**10
_BLOCK_CHARACTERS = 600
"""About what one excerpt holds, so that the rows a heading names are the rows of the excerpt."""
_REPEATED_CHARACTERS = 2_000
"""A header row beyond stands once, at the top: no excerpt could hold it beside a row."""


def read_csv(text: str, source: str, title: str) -> Document:
    """A table in blocks, the header row above each, under a heading that names its rows as a spreadsheet numbers them.

    Raises Refusal for what is no table of text, and for one that is too large to be cut and searched by rows.
    """
    csv.field_size_limit(MOST_CELL_CHARACTERS)
    rows = _rows(text)
    first = next(rows, None)
    if first is None:
        raise Refusal("there is no text in it")
    header, unread = ([], [first]) if _looks_like_values(first[1]) else (first[1], [])
    header = header or [f"column {number}" for number in range(1, len(first[1]) + 1)]
    head = table_rows([header])
    above = f"{head}\n" if len(head) <= _REPEATED_CHARACTERS else ""
    blocks = [Block(text=f"{above}{body}", kind="table", heading=(span,)) for span, body in _grouped(unread, rows)]
    if not above or not blocks:
        blocks.insert(0, Block(text=head, kind="table"))
    return Document(source=source, title=title, blocks=tuple(blocks))


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of the rows that hold something; an empty row has a number, too."""
    number = 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)), start=1):
            if number > MOST_ROWS + 1:
                raise Refusal(f"the table has more than {MOST_ROWS} rows; split it into several files")
            if len(cells) > MOST_COLUMNS:
                raise Refusal(f"row {number} has {len(cells)} columns; at most {MOST_COLUMNS} are read")
            if any(cell.strip() for cell in cells):
                yield number, cells
    except csv.Error as exc:
        raise Refusal(
            f"row {number + 1} cannot be read ({exc}): a cell has at most {MOST_CELL_CHARACTERS} characters, "
            "and quotes must be closed"
        ) from exc


def _delimiter(text: str) -> str:
    """The one that gives the most rows of a sample the same number of columns, more than one; else a comma.

    Not `csv.Sniffer`: its expressions take 4 s on 60 KiB of quotes, and it takes letters for delimiters.
    """
    sample = text[:_SAMPLE]
    whole = sample[: sample.rfind("\n") + 1] if len(text) > _SAMPLE else sample

    def regularity(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(cells) for cells in csv.reader(io.StringIO(whole, newline=""), delimiter=delimiter) if cells]
        except csv.Error:
            return 0, 0
        width, rows = Counter(widths).most_common(1)[0] if widths else (1, 0)
        return (rows / len(widths), width) if width > 1 else (0, 0)

    best = max(DELIMITERS, key=regularity)
    return best if regularity(best)[0] else ","


def _looks_like_values(cells: list[str]) -> bool:
    """A first row with a number, or with nothing, in a cell is no header."""
    return any(not cell.strip() or cell.strip().lstrip("+-").replace(".", "").isdigit() for cell in cells)


def _grouped(unread: list[tuple[int, list[str]]], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[str, str]]:
    """(heading, rows as text) of as many rows as an excerpt holds."""
    lines: list[str] = []
    first = last = 0
    size = 0
    for number, cells in chain(unread, rows):
        line = table_rows([cells])
        if lines and size + len(line) > _BLOCK_CHARACTERS:
            yield _range(first, last), "\n".join(lines)
            lines, size = [], 0
        first = first if lines else number
        last = number
        lines.append(line)
        size += len(line)
    if lines:
        yield _range(first, last), "\n".join(lines)


def _range(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"rows {first} to {last}"
