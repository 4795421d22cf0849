"""What a reader sees of a passage: units with all they cannot be read without, and the marker of their source."""

import re
from collections.abc import Sequence

from serve_app.sentences import Unit

Run = tuple[int, tuple[Unit, ...]]
"""1-based number of a passage, and units of it in reading order."""

SAME_QUESTION = 0.5
"""Share of the question's words in a heading from which on "Yes" below it answers this question and not another."""
FEWEST_WORDS = 4
MARKER_LIKE = re.compile(r"\[(\d{1,3})\]")
POINTER = re.compile(
    r"\b(?:refer to|see|learn more|check out|for (?:more|further|details)|stay tuned|visit)\b", re.IGNORECASE
)
ANNOUNCEMENT = re.compile(
    r"\b(?:this|the (?:present|following|current)) (?:topic|guide|tutorial|page|section|document|article|study|paper|"
    r"post|chapter)\b|\bin this (?:topic|guide|tutorial|page|section|document|article|study|paper|post|chapter)\b|"
    r"\b(?:aims?|purpose|objectives?|goals?) (?:of|was|were|is|are|to)\b|^(?:\W|\w{1,3}\))*to (?:determine|examine|"
    r"assess|evaluate|investigate|compare|describe|analy[sz]e|study|explore|identify|test)\b|"
    r"\bwe (?:investigated|examined|assessed|evaluated|studied|aimed|sought|compared|explored)\b|\bwhether\b",
    re.IGNORECASE,
)
"""It says what the text is about to answer, not the answer."""
COMMAND = re.compile(r"[`~]{3,}\s*(?:\w|\n\s*\$ )")
"""A code block that says its language or opens with a prompt; the others are mostly output."""
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)
VERDICT = re.compile(r"\W*(?:yes|no)\b", re.IGNORECASE)
DEPENDENT = re.compile(
    r"\W*(?:for (?:example|instance)|however|therefore|thus|hence|otherwise|in (?:this|that|these|such) cases?|"
    r"as a result|also|then|instead|in addition|additionally|furthermore|moreover|but|and|or|so|it|its|they|their|"
    r"this|that|these|those|similarly|likewise|here|finally|next|on the other hand|to do (?:so|this|that))\b(?!:)",
    re.IGNORECASE,
)


def weakness(siblings: Sequence[Unit], order: int) -> float:
    """What a reader would miss in the unit if it stood alone: it points elsewhere, announces, or breaks off."""
    unit = siblings[order]
    if unit.kind == "code":
        return 0.1 if COMMAND.match(unit.text) else 0.25
    flaws = (
        (0.15, POINTER.search(unit.text)),
        (0.1, ANNOUNCEMENT.search(unit.text)),
        (0.1, _leans(unit) and not _goes_on(siblings, order)),
        (0.1, unit.text.endswith("?")),
        (0.1, unit.kind == "sentence" and unit.text[-1].isalnum()),
        (0.15, not unit.leads and len(unit.text.split()) < FEWEST_WORDS),
    )
    return sum(weight for weight, present in flaws if present)


def misplaced(unit: Unit, heading: float) -> bool:
    """A "Yes" answers the question of its heading, of which `heading` is the share that was asked now."""
    return VERDICT.match(unit.text) is not None and heading < SAME_QUESTION


def whole(siblings: Sequence[Unit], orders: Sequence[int]) -> tuple[Unit, ...]:
    """The units at `orders` with what they cannot be read without, in reading order."""
    wanted = set().union(*(_whole(siblings, order) for order in orders))
    return tuple(siblings[order] for order in sorted(wanted))


def following(siblings: Sequence[Unit], order: int) -> list[int]:
    """Orders of the block that the unit introduces."""
    if not siblings[order].leads or order + 1 == len(siblings):
        return []
    block = siblings[order + 1].block
    return [n for n in range(order + 1, len(siblings)) if siblings[n].block == block]


def opening(siblings: Sequence[Unit]) -> tuple[Unit, ...]:
    """The list, table or code a passage begins with, if it does: what the passage before it may have introduced."""
    if not siblings or siblings[0].kind == "sentence":
        return ()
    block = [n for n, unit in enumerate(siblings) if unit.block == siblings[0].block]
    return whole(siblings, block)


def _whole(siblings: Sequence[Unit], order: int) -> set[int]:
    run = _steps(siblings, order)
    for _ in range(2):  # An introduction leads to its items, and an item to its command.
        run.update(n for member in sorted(run) for n in following(siblings, member))
    first = min(run)
    start = next(n for n, unit in enumerate(siblings) if unit.block == siblings[first].block)
    if start and siblings[start].kind != "sentence" and siblings[start - 1].leads:
        run.add(start - 1)
    elif _leans(siblings[first]) and _goes_on(siblings, first):
        run.add(first - 1)
    return run


def _steps(siblings: Sequence[Unit], order: int) -> set[int]:
    """The unit; where it is a step, all steps of the procedure and the commands between them."""
    first = order - 1 if siblings[order].kind == "code" and order and siblings[order - 1].leads else order
    if siblings[first].kind != "step":
        return {order}
    last = first
    while first and _continues(siblings[first - 1], siblings[order]):
        first -= 1
    while last + 1 < len(siblings) and _continues(siblings[last + 1], siblings[order]):
        last += 1
    return set(range(first, last + 1))


def _continues(unit: Unit, step: Unit) -> bool:
    return unit.kind in ("step", "code") and unit.heading == step.heading


def _leans(unit: Unit) -> bool:
    """A sentence that opens with "It" or "For example" leans on the one before it."""
    return unit.kind == "sentence" and DEPENDENT.match(unit.text) is not None


def _goes_on(siblings: Sequence[Unit], order: int) -> bool:
    """The unit before stands in the same paragraph."""
    return order > 0 and siblings[order - 1].block == siblings[order].block


def quoted(picked: Sequence[Run], passages: int) -> str:
    """The answer as Markdown: the units of each passage, closed by its marker `[1]`."""
    return "\n\n".join(_run(number, units, passages) for number, units in picked)


def quoted_whole(text: str, number: int, passages: int) -> str:
    """All of a passage with its marker."""
    code = [match.span() for match in CODE.finditer(text)]
    spaced = MARKER_LIKE.sub(
        lambda m: m[0] if any(start <= m.start() < end for start, end in code) else _spaced(m, passages), text
    )
    return spaced + _closing(spaced) + f"[{number}]"


def _closing(text: str) -> str:
    """On the last line of a code block or a table a marker would break the Markdown."""
    return "\n\n" if text.endswith(("```", "~~~", "|")) else " "


def _run(number: int, units: Sequence[Unit], passages: int) -> str:
    parts: list[str] = []
    before: Unit | None = None
    for unit in units:
        continued = before is not None and before.block == unit.block
        parts.append("" if before is None else (" " if unit.kind == "sentence" else "\n") if continued else "\n\n")
        parts.append(_table_head(unit.head) if unit.head and not continued else "")
        parts.append(unit.text if unit.kind == "code" else MARKER_LIKE.sub(lambda m: _spaced(m, passages), unit.text))
        before = unit
    apart = "\n\n" if units[-1].kind == "row" else _closing(units[-1].text)
    return "".join(parts) + apart + f"[{number}]"


def _table_head(row: str) -> str:
    """The header row and the line that makes Markdown of it, which documents from other formats lack."""
    return f"{row}\n|{' --- |' * (row.count('|') - 1)}\n"


def _spaced(match: re.Match[str], passages: int) -> str:
    """A footnote `[2]` of the document must not read as our marker for the second passage."""
    return f"[ {match[1]} ]" if 1 <= int(match[1]) <= passages else match[0]
