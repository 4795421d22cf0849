"""Training text for the name model: templates filled with invented values, public rows, text without any name."""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from serve_app.training.names_values import Values

KINDS: Mapping[str, str] = {
    **dict.fromkeys(("person", "full", "first", "last", "lastfirst"), "PERSON"),
    **dict.fromkeys(("city", "country", "land", "state", "place"), "GPE"),
    **dict.fromkeys(
        (
            "street",
            "strasse",
            "streetname",
            "unit",
            "house",
            "box",
            "military",
            "zip",
            "plz",
            "address",
            "adresse",
            "block",
        ),
        "STREET_ADDRESS",
    ),
    **dict.fromkeys(("org", "firma"), "ORGANIZATION"),
    "phone": "PHONE_NUMBER",
    "county": "GPE",
}
"""What a slot's value is; the values of other slots are nobody's name."""

MENTIONS = (
    (" ", " agreed."),
    (" Later ", " called again."),
    ("\nThen ", " left."),
    (" I trust ", "."),
    (" ", " hat zugesagt."),
    (" Danach rief ", " an."),
    (" ", "'s answer was no."),
    (" We thank ", "."),
    (" Ich fragte ", "."),
    (" For ", " it was too late."),
)
"""What may stand around somebody's second mention."""

_CHOICE = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True)
class Labelled:
    text: str
    spans: tuple[tuple[int, int, str], ...] = ()
    """(start, end, kind), in order, not overlapping."""
    group: str = ""
    """Texts of one template; a group is never on both sides of a split."""

    def joined(self, other: "Labelled", between: str) -> "Labelled":
        shift = len(self.text) + len(between)
        moved = tuple((start + shift, end + shift, kind) for start, end, kind in other.spans)
        return replace(self, text=f"{self.text}{between}{other.text}", spans=(*self.spans, *moved))


def templates(*names: str) -> list[str]:
    """Lines of the files `names_<name>.txt` beside this one; `# ` begins a comment, unless choices follow in it."""
    lines: list[str] = []
    for name in names:
        text = Path(__file__).with_name(f"names_{name}.txt").read_text(encoding="utf-8")
        lines += [line for line in text.splitlines() if line and not re.fullmatch(r"# [a-zäöü ]+", line)]
    return lines


def filled(template: str, values: Values, choice: random.Random) -> Labelled:
    """One text of a template: `{a|b}` a choice, `<slot>` a value, `\\n` a new line."""
    plain = _CHOICE.sub(lambda found: choice.choice(found[1].split("|")), template).replace("\\n", "\n")
    text, spans, position = "", [], 0
    for slot in _SLOT.finditer(plain):
        text += plain[position : slot.start()]
        position = slot.end()
        for value, kind in parts(slot[1], values, choice):
            if kind:
                spans.append((len(text), len(text) + len(value), kind))
            text += value
    return Labelled(text + plain[position:], tuple(spans), template)


def parts(slot: str, values: Values, choice: random.Random) -> list[tuple[str, str]]:
    """Value and kind; several for an address on several lines, whose towns are places."""
    if slot != "block":
        return [(values.draw(slot), KINDS.get(slot, ""))]
    end = choice.choice(("\n", "\n", "\n ", ", ", "\n    ", " "))
    made = [(values.draw("street"), "STREET_ADDRESS"), (end, "")]
    if choice.random() < 0.4:
        made = [
            (values.draw("house"), "STREET_ADDRESS"),
            (" ", ""),
            *made,
            (values.draw("unit"), "STREET_ADDRESS"),
            (end, ""),
        ]
    order = choice.random()
    city, code = (values.draw("city"), "GPE"), (values.draw("zip"), "STREET_ADDRESS")
    if order < 0.35:
        return [*made, code, (" ", ""), city]
    if order < 0.7:
        county = (values.draw("county"), "GPE")
        return [*made, city, (choice.choice((", ", " ", "\n, ")), ""), county, (choice.choice((" ", "\n ")), ""), code]
    return [*made, city, (end, ""), (values.draw("country"), "GPE"), (" ", ""), code]


def disguised(example: Labelled, choice: random.Random) -> Labelled:
    """The same text as people type it: in lower case, in capitals, its names in capitals, with marks around it."""
    way = choice.random()
    if way < 0.07 and len(example.text.lower()) == len(example.text):
        return replace(example, text=example.text.lower())
    if way < 0.09 and len(example.text.upper()) == len(example.text):
        return replace(example, text=example.text.upper())
    if way < 0.14:
        return _shouted(example, choice.choice(("PERSON", "GPE", "GPE", "ORGANIZATION")))
    if way < 0.17 and "\n" not in example.text:
        opening, closing = choice.choice(
            (('"', '"'), ("- ", ""), ("* ", ""), ("> ", ""), ("(", ")"), ("„", "“"), ("1. ", ""))
        )
        moved = Labelled(opening).joined(example, "")
        return replace(moved, text=moved.text + closing, group=example.group)
    return replace(example, text=example.text.rstrip(".")) if way < 0.22 else example


def _shouted(example: Labelled, kind: str) -> Labelled:
    text = example.text
    for start, end, found in example.spans:
        value = text[start:end].upper()
        if found == kind and len(value) == end - start:
            text = text[:start] + value + text[end:]
    return replace(example, text=text)


def generated(names: tuple[str, ...], count: int, seed: int) -> Iterator[Labelled]:
    """`count` texts, each of one to four templates; some of what is drawn is used again further on."""
    choice = random.Random(seed)
    values = Values.of(seed)
    lines = templates(*names)
    plain = templates("negative")
    for number in range(count):
        first = disguised(filled(lines[number % len(lines)], values, choice), choice)
        while (more := choice.random()) < 0.4:
            other = filled(choice.choice(plain if more < 0.22 else lines), values, choice)
            between = choice.choice((" ", " ", "\n", "\n\n"))
            first = (
                first.joined(other, between)
                if choice.random() < 0.6
                else replace(other.joined(first, between), group=first.group)
            )
        yield first


def mentioned_again(example: Labelled, choice: random.Random) -> Labelled:
    """With a last sentence that names somebody of the text by the surname alone."""
    people = [
        example.text[start:end]
        for start, end, kind in example.spans
        if kind == "PERSON" and " " in example.text[start:end]
    ]
    if not people:
        return example
    last = choice.choice(people).split()[-1]
    before, after = choice.choice(MENTIONS)
    start = len(example.text) + len(before)
    return replace(
        example,
        text=f"{example.text}{before}{last}{after}",
        spans=(*example.spans, (start, start + len(last), "PERSON")),
    )
