"""Cuts a passage of Markdown or plain text into the units an answer may quote: nothing smaller makes sense alone."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from textwrap import dedent
from typing import Literal

Kind = Literal["sentence", "item", "step", "code", "row"]
_Block = Literal["blank", "rule", "comment", "fence", "heading", "underlined", "table", "item", "text"]

FENCE = re.compile(r"\s*(?:>\s?)*(`{3,}|~{3,})")
HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(.+?)\s*#*\s*$")
BOLD_LINE = re.compile(r"\s*\*\*[^*]+\*\*:?\s*$")
UNDERLINE = re.compile(r"(=|-|~|\^){3,}\s*$")
RULE = re.compile(r"\s*([-*_=~]\s*){3,}$|\s*(:{3,}|!{3}|\.\. \S+::|\+\+\+)")
COMMENT_END = re.compile(r"-->|\}\}|%\}")
ITEM = re.compile(r"(\s*)(?:[-*+]|(\d+)[.)])\s+\S")
QUOTE = re.compile(r"^\s*>\s?(\[!\w+\]\s*$)?", re.MULTILINE)
TAG = (
    r"<!--.*?-->|</?(?:div|p|br|img|span|a|details|summary|center|table|tr|td|th|thead|tbody|ul|ol|li|hr|h\d)\b[^<>]*>"
)
EDGE_TAGS = re.compile(rf"^(?:\s|\[!\w+\]|{TAG})+|(?:\s|{TAG})+$", re.DOTALL | re.IGNORECASE)
LINK = re.compile(r"!?\[(?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*+\](?:\([^)]*\)|\[[^\]]*\])?|https?://\S+")
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img\b", re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]{2,}")

BOUNDARY = re.compile(r"[.!?][\"'”’)\]*_`]*\s+(?=[^\W_a-z]|[a-z]{1,4}[A-Z]|[\"'“‘(\[*`<_])")
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|approx|resp|fig|figs|eq|ref|no|vol|dr|mr|mrs|ms|prof|st|inc|ltd|co|[A-Z])\.)\W*$",
    re.IGNORECASE,
)
CONTENTS = re.compile(r"\btable of contents$|(^|> )contents$", re.IGNORECASE)
FEWEST_WORDS = 3
"""Shorter prose ("See below.", a stray table cell) says nothing by itself."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of a passage, verbatim but for whitespace, quote prefixes and the HTML tags around it."""

    text: str
    kind: Kind
    heading: str
    """Headings inside the passage above the unit: `Operations > Rollback`."""
    block: int
    """Number of its paragraph, list, table or code block, growing down the passage."""
    leads: bool = False
    """Introduces the next block: a sentence before its list, a step before its command."""
    head: str = ""
    """First row of a table, without which the others cannot be read."""


def units(text: str) -> tuple[Unit, ...]:
    """The quotable units of a passage in reading order.

    Headings are context, not units. Front matter, comments, badges, bare links, tables of contents and
    introductions to something that is not in the passage are left out.
    """
    found: list[Unit] = []
    path: list[tuple[int, str]] = []
    block, previous = 0, ""
    for kind, lines in _blocks(_body(text).split("\n")):
        if kind == "blank":
            continue
        if kind in ("heading", "underlined"):
            path = _below(path, lines)
        if kind != previous or kind != "item":
            block += 1
        previous = kind
        heading = " > ".join(title for _, title in path)
        found += [Unit(text, kind, heading, block, head=head) for text, kind, head in _MAKERS[kind](lines)]
    return _linked(found)


def _body(text: str) -> str:
    """The text less its front matter."""
    return re.sub(r"\A\s*---\n(?:[\w-]+:.*\n|\s+.*\n)+---[ \t]*(?:\n|\Z)", "", text)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[_Block, Sequence[str]]]:
    at = 0
    while at < len(lines):
        kind = _kind(lines, at)
        end = _ENDS.get(kind, _next_line)(lines, at)
        yield kind, lines[at:end]
        at = end


def _kind(lines: Sequence[str], at: int) -> _Block:
    line = lines[at]
    following = lines[at + 1] if at + 1 < len(lines) else ""
    claims: tuple[tuple[_Block, object], ...] = (
        ("blank", not line.strip()),
        ("fence", FENCE.match(line)),
        ("comment", line.lstrip().startswith(("<!--", "{{", "{%"))),
        ("heading", HEADING.match(line) or BOLD_LINE.match(line)),
        ("table", line.lstrip().startswith("|")),
        ("rule", RULE.match(line)),
        ("item", ITEM.match(line)),
        ("underlined", UNDERLINE.match(following) and not line.startswith(" ")),
    )
    return next((kind for kind, claimed in claims if claimed), "text")


def _next_line(lines: Sequence[str], at: int) -> int:
    return at + 1


def _after_fence(lines: Sequence[str], at: int) -> int:
    opening = FENCE.match(lines[at])
    mark = opening[1] if opening else "```"
    closing = re.compile(rf"\s*(?:>\s?)*{re.escape(mark[0])}{{{len(mark)},}}\s*$")
    return next((n + 1 for n in range(at + 1, len(lines)) if closing.match(lines[n])), len(lines))


def _after_comment(lines: Sequence[str], at: int) -> int:
    return next((n + 1 for n in range(at, len(lines)) if COMMENT_END.search(lines[n])), at + 1)


def _after_run(lines: Sequence[str], at: int) -> int:
    """Where lines of one kind end."""
    kind = _kind(lines, at)
    return next((n for n in range(at + 1, len(lines)) if _kind(lines, n) != kind), len(lines))


def _after_item(lines: Sequence[str], at: int) -> int:
    """An item owns what is indented below it, and the unindented rest of its paragraph."""
    end, n = at + 1, at + 1
    while n < len(lines):
        line = lines[n]
        if not line.strip():
            n += 1
            continue
        lazy = n == end and _kind(lines, n) == "text"
        if _indent(line) <= _indent(lines[at]) and not lazy:
            break
        n = _after_fence(lines, n) if FENCE.match(line) else n + 1
        end = n
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _below(path: Sequence[tuple[int, str]], lines: Sequence[str]) -> list[tuple[int, str]]:
    """The heading path once this heading is met."""
    match = HEADING.match(lines[0])
    if match:
        level, title = len(match[1]), match[2]
    elif len(lines) > 1:
        level, title = "=-~^".index(lines[1][0]) + 1, lines[0].strip()
    else:
        level, title = 7, lines[0].strip().strip("*:")
    title = re.sub(r"\s*\{[#.][^}]*\}|<[^>]*>", "", title).strip()
    return [*(above for above in path if above[0] < level), (level, title)]


_Made = list[tuple[str, Kind, str]]


def _sentences(lines: Sequence[str]) -> _Made:
    return [(text, "sentence", "") for text in split(_plain("\n".join(lines)))]


def _items(lines: Sequence[str]) -> _Made:
    match = ITEM.match(lines[0])
    text = dedent("\n".join(lines)).strip()
    return [(text, "step" if match and match[2] else "item", "")]


def _code(lines: Sequence[str]) -> _Made:
    """A block that was cut between two passages is left out: half a command is worse than none."""
    text = dedent("\n".join(re.sub(r"^\s*>\s?", "", line) if _quoted(lines) else line for line in lines)).strip()
    closed = len(lines) > 2 and FENCE.match(lines[-1]) is not None
    balanced = all(text.count(opening) == text.count(closing) for opening, closing in ("{}", "[]"))
    return [(text, "code", "")] if closed and balanced else []


def _quoted(lines: Sequence[str]) -> bool:
    return all(line.lstrip().startswith(">") for line in lines)


def _rows(lines: Sequence[str]) -> _Made:
    rows = [line.strip() for line in lines if not set(line) <= set("|:- \t")]
    head = rows[0] if len(rows) > 1 else ""
    return [(row, "row", head) for row in rows[1 if head else 0 :]]


def _nothing(lines: Sequence[str]) -> _Made:
    return []


_ENDS: Mapping[_Block, Callable[[Sequence[str], int], int]] = {
    "fence": _after_fence,
    "comment": _after_comment,
    "underlined": lambda _lines, at: at + 2,
    "table": _after_run,
    "item": _after_item,
    "text": _after_run,
}
_MAKERS: Mapping[_Block, Callable[[Sequence[str]], _Made]] = {
    "blank": _nothing,
    "rule": _nothing,
    "comment": _nothing,
    "heading": _nothing,
    "underlined": _nothing,
    "fence": _code,
    "table": _rows,
    "item": _items,
    "text": _sentences,
}


def split(paragraph: str) -> list[str]:
    """The sentences of one paragraph. Never cuts inside `code`, after an abbreviation or after an initial."""
    cuts = [0]
    for match in BOUNDARY.finditer(paragraph):
        before = paragraph[cuts[-1] : match.end()]
        if before.count("`") % 2 == 0 and not ABBREVIATION.search(before):
            cuts.append(match.end())
    ends = [*cuts[1:], len(paragraph)]
    return [part for start, end in zip(cuts, ends, strict=True) if (part := EDGE_TAGS.sub("", paragraph[start:end]))]


def _plain(paragraph: str) -> str:
    return " ".join(EDGE_TAGS.sub("", QUOTE.sub("", paragraph)).split())


def _linked(found: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units worth quoting, each knowing whether it introduces what follows it.

    An introduction at the very end of the passage still leads: the next passage may hold what it introduces.
    """
    worthy = [unit for unit in found if _says_something(unit)]
    leads = {n for n, (unit, later) in enumerate(pairwise(worthy)) if _introduces(unit, later)}
    if worthy and worthy[-1] == found[-1] and worthy[-1].text.endswith(":"):
        leads.add(len(worthy) - 1)
    linked = [replace(unit, leads=n in leads) for n, unit in enumerate(worthy)]
    return tuple(u for u in linked if u.leads or u.kind != "sentence" or not u.text.endswith((":", ",")))


def _introduces(unit: Unit, later: Unit) -> bool:
    if unit.heading != later.heading or unit.block == later.block:
        return False
    if unit.kind in ("code", "row") or later.kind == "sentence":
        return False
    return later.kind == "code" or unit.text.endswith(":")


def _says_something(unit: Unit) -> bool:
    if CONTENTS.search(unit.heading):
        return False
    if unit.kind == "code":
        return True
    words = len(WORD.findall(LINK.sub(" ", unit.text)))
    if unit.kind == "sentence":
        return words >= FEWEST_WORDS and not IMAGE.match(unit.text) and not _is_listing(unit.text)
    return words >= 1


def _is_listing(text: str) -> bool:
    """Data or code that no fence announced."""
    return 10 * sum(text.count(symbol) for symbol in '{}[]"=<>|\\') > len(text)
