"""Documents -> excerpts small enough for the encoder, cut where the document is cut."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from serve_app.documents.document import Block, Document, heading_path

Count = Callable[[str], int]
"""Tokens of a text, as the encoder counts them, without its own special tokens."""

_SENTENCE_END = re.compile(
    r"(?<=[.!?\u3002\uff01\uff1f])[\"')\]]*\s+(?=[\"'(\[`*]?[A-Z0-9\u00c0-\uffff])"  # a full stop, then a capital
    r"|\n\s*\n|\n(?=\s*(?:[-*+\u2022]|\d+[.)])\s)|(?<=[.!?:;])\n"  # lines: other breaks only wrap a sentence
)
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|vs|cf|Dr|Mr|Mrs|Ms|No|Fig|approx)\.[\"')\]]*$")

_LONGEST_ABBREVIATION = 16
"""Characters looked back on: to the start of the sentence would be the square of a text of abbreviations."""
_MOST_TOKENS_A_CHARACTER = 3
"""A syllable of Hangul is three."""
_WORD_CHARACTERS = 2
"""For each token, in a word of hundreds of characters: nobody reads it as one."""
_WIDEST_GAP = 200
"""Blanks kept between two words of a text that has to be cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What will be one chunk, before it is anybody's."""

    text: str
    lead: str
    """Title and headings: encoded before the text, so that a section is found by its name."""
    source: str
    title: str
    heading: str
    page: int | None
    attributes: Mapping[str, str | float | bool]

    @property
    def encoded(self) -> str:
        return f"{self.lead}\n{self.text}" if self.lead else self.text


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    tokens: int
    joint: str
    """What joins it to the piece before."""


def excerpts(document: Document, *, count: Count, most_tokens: int) -> Iterator[Excerpt]:
    """Cut one document so that title, headings and text of each excerpt together have at most `most_tokens`.

    Blocks under the same headings (and on the same page) share excerpts, blocks under different ones never do.
    Nothing is dropped: what is larger than an excerpt is cut at rows, lines, sentences, words, then characters.
    """
    for (heading, page), blocks in groupby(document.blocks, key=lambda block: (block.heading, block.page)):
        lead = _lead(document.title, heading, count, most_tokens // 3)
        room = most_tokens - count(lead)
        for text in _packed(_pieces(blocks, count, room), room):
            yield Excerpt(
                text=text,
                lead=lead,
                source=document.source,
                title=document.title,
                heading=heading_path(heading),
                page=page,
                attributes=document.attributes,
            )


def sentences(text: str) -> list[str]:
    """The text in pieces that end where a sentence or an item of a list ends."""
    return [sentence for _, sentence in _joined_sentences(text) if sentence]


def _joined_sentences(text: str) -> Iterator[tuple[str, str]]:
    """(what joins it to the one before, sentence)."""
    start, joint = 0, ""
    for end in _SENTENCE_END.finditer(text):
        said = text[max(start, end.start() - _LONGEST_ABBREVIATION) : end.end()].rstrip()
        if "\n" not in end.group() and _ABBREVIATION.search(said):
            continue
        yield joint, text[start : end.end()].strip()
        start, joint = end.end(), "\n" if "\n" in end.group() else " "
    yield joint, text[start:].strip()


def _lead(title: str, heading: tuple[str, ...], count: Count, most_tokens: int) -> str:
    """Title and headings within `most_tokens`: the outermost are given up first, the nearest last."""
    parts = heading if heading and heading[0] == title else (title, *heading)
    parts = tuple(part for part in parts if part)
    while parts and count(heading_path(parts)) > most_tokens:
        parts = parts[1:]
    return heading_path(parts)


def _packed(pieces: Iterable[_Piece], room: int) -> Iterator[str]:
    text, tokens = "", 0
    for piece in pieces:
        if text and tokens + piece.tokens > room:
            yield text
            text, tokens = "", 0
        text = text + piece.joint + piece.text if text else piece.text
        # signs that are nothing to the encoder would fill an excerpt without end
        tokens += max(1, piece.tokens)
    if text:
        yield text


def _pieces(blocks: Iterable[Block], count: Count, room: int) -> Iterator[_Piece]:
    for block in blocks:
        tokens = count(block.text)
        if tokens <= room:
            yield _Piece(block.text, tokens, "\n\n")
        elif block.kind == "prose":
            yield from _prose(block.text, count, room)
        else:
            yield from _lines(block, count, room)


def _prose(text: str, count: Count, room: int) -> Iterator[_Piece]:
    before = "\n\n"
    for joint, sentence in _joined_sentences(text):
        if not sentence:
            continue
        for part in _fitting(sentence, count, room):
            yield _Piece(part, count(part), before or joint)
            before = ""
            joint = " "


def _lines(block: Block, count: Count, room: int) -> Iterator[_Piece]:
    """Parts of a listing or a table, each a listing or a table again: with its fences, with its header row."""
    lines = block.text.split("\n")
    fenced = block.kind == "code" and len(lines) > 1 and lines[0].startswith("```")
    head = lines[0] if fenced or block.kind == "table" else ""
    tail = lines[-1] if fenced else ""
    frame = count(head) + count(tail)
    if frame > room // 2:
        head, tail, frame = "", "", 0
    body = lines[1 if head else 0 : -1 if tail else None]
    stretches = _stretches(body, count, room - frame) if block.kind == "code" else body
    parts = (part for line in stretches for part in _fitting(line, count, room - frame))
    for text in _packed((_Piece(part, count(part), "\n") for part in parts), room - frame):
        framed = "\n".join(part for part in (head, text.strip("\n"), tail) if part)
        if text.strip():
            yield _Piece(framed, count(framed), "\n\n")


def _stretches(lines: list[str], count: Count, room: int) -> Iterator[str]:
    """What stands between blank lines, whole where it fits, the blank lines with what is above them; else its lines."""
    for stretch in re.split(r"(?<=\n\n)(?=[^\n])", "\n".join(lines)):
        stretch = stretch.removesuffix("\n")
        yield from (stretch,) if count(stretch) <= room else stretch.split("\n")


def _fitting(text: str, count: Count, room: int) -> Iterator[str]:
    """The text, whole where it fits, else cut between words, else within them."""
    if count(text) <= room:
        yield text
        return
    # stripped: for a gap at the end, each of its places would be tried as the start of a word
    spaced = (f"{gap[:_WIDEST_GAP]}{word}" for gap, word in re.findall(r"(\s*)(\S+)", text.rstrip()))
    words = (
        part for some in _gathered(spaced, room // _MOST_TOKENS_A_CHARACTER) for part in _halved(some, count, room)
    )
    yield from _packed((_Piece(word, count(word), "") for word in words), room)


def _gathered(words: Iterable[str], most_characters: int) -> Iterator[str]:
    """Neighbouring words in one: a line of 50 MB has ten million of them, and each would be counted."""
    held = ""
    for word in words:
        if held and len(held) + len(word) > most_characters:
            yield held
            held = ""
        held += word
    if held:
        yield held


def _halved(word: str, count: Count, room: int) -> Iterator[str]:
    # one longer than any language has is cut before it is counted, or all of it would be counted at each halving
    if len(word) < 2 or (len(word) <= _WORD_CHARACTERS * room and count(word) <= room):
        yield word
        return
    middle = len(word) // 2
    yield from _halved(word[:middle], count, room)
    yield from _halved(word[middle:], count, room)
