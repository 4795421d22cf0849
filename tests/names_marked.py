"""Sentences whose names are marked in the text: `[PERSON Jane Doe] lives in [GPE Leeds].`"""

import re
from pathlib import Path

from serve_app.training.names_verdicts import Span

MARK = re.compile(r"\[([A-Z_]+) ([^\]]+)\]")


def sentences(path: Path) -> list[tuple[str, list[Span]]]:
    """Text and spans of every line of the file; `\\n` in a line is a line break of the text."""
    return [parsed(line.replace("\\n", "\n")) for line in path.read_text(encoding="utf-8").splitlines()]


def parsed(marked: str) -> tuple[str, list[Span]]:
    text, spans, position = "", [], 0
    for mark in MARK.finditer(marked):
        text += marked[position : mark.start()]
        spans.append(Span(mark[1], len(text), len(text) + len(mark[2])))
        text += mark[2]
        position = mark.end()
    return text + marked[position:], spans
