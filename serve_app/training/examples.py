"""The unit of training, its stable split, and the project's own sentence templates."""

import random
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serve_app.heads import HARMS
from serve_app.lexicon import WINDOW

FOLDS = 3
"""Every text is judged by heads trained on the folds that do not hold it or its near-duplicates."""

EXPANSIONS = 7
"""Most sentences made of one template."""

Labels = Mapping[str, bool]
"""By output of the heads; an output that is not named is not known."""

CLEAN: Labels = {"attack": False, "harm": False, **dict.fromkeys(HARMS, False)}
INJECTION: Labels = {"attack": True, "jailbreak": False}
JAILBREAK: Labels = {"attack": True, "jailbreak": True}

WRITTEN: Mapping[str, Labels] = {
    "attacks": INJECTION,
    "benign": CLEAN,
    "harms": {"attack": False, "harm": True},
    "harmless": CLEAN,
    "easy": {**CLEAN, "difficulty": False},
    "hard": {**CLEAN, "difficulty": True},
}
"""Files of sentence templates beside this one. The families of `harms` are its categories."""
PERSONAS = ("persona", "suppression")
"""Families of `attacks` that are jailbreaks."""
EITHER = ("languages", "planted", "smuggling")
"""Families of `attacks` that hold both."""

_SLOT = re.compile(r"\{([^{}]*)\}")
_NOT_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    labels: Labels
    source: str
    group: str = ""
    """Near-duplicates share it and fall into the same fold: a template, or the first letters of the text."""
    weight: float = 1.0

    @property
    def fold(self) -> int:
        """Stable: it depends on the group or the text alone, never on what else is in the training."""
        return zlib.crc32(self.key.encode("utf-8", "replace")) % FOLDS

    @property
    def key(self) -> str:
        return self.group or f"{self.source}/{_NOT_LETTERS.sub('', self.text.lower())[:60]}"


def kind_of(name: str) -> Labels:
    """Labels of a harm whose category is known."""
    return {"attack": False, "harm": True, **{other: other == name for other in HARMS}}


def templates(name: str) -> Iterator[tuple[str, str, list[str]]]:
    """(family, template, sentences) of the file `name`.txt beside this one.

    A line is a template, `{a|b|}` in it a choice, `¦` a literal bar; `# name` starts a family.
    """
    family = ""
    for line in Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            family = line[2:]
        elif line:
            yield family, line, sentences(line)


def sentences(template: str) -> list[str]:
    """Up to EXPANSIONS different sentences, the same on every machine."""
    choice = random.Random(zlib.crc32(template.encode()))
    made = {_SLOT.sub(lambda slot: choice.choice(slot.group(1).split("|")), template) for _ in range(EXPANSIONS)}
    return sorted(re.sub(r" +([.,;?])", r"\1", text).replace("¦", "|").strip() for text in made)


def written(name: str) -> list[Example]:
    """Examples from one of the files that WRITTEN names."""
    return [
        Example(text, _labels(name, family), f"manta-{name}", group=template)
        for family, template, texts in templates(name)
        for text in texts
    ]


def _labels(name: str, family: str) -> Labels:
    if name == "harms":
        return kind_of(family)
    if name == "attacks" and family in PERSONAS:
        return JAILBREAK
    return {"attack": True} if name == "attacks" and family in EITHER else WRITTEN[name]


def planted(examples: list[Example], most: int) -> list[Example]:
    """Short attacks between stretches of the pages among the examples, and such stretches alone: what windows show.

    An attack and its page are of one fold.
    """
    chance = random.Random(0)
    pages = [example for example in examples if example.source.startswith("pages-")]
    guests = [e for e in examples if e.labels.get("attack") and len(e.text) < 220 and e.source != "cyberseceval"]
    made = []
    for guest in guests[:: max(1, len(guests) // most)]:
        if hosts := [page for page in pages if page.fold == guest.fold]:
            made.append(_between(chance, chance.choice(hosts), guest))
    for page in pages:
        for _ in range(min(4, 1 + len(page.text) // WINDOW)):
            start = chance.randrange(max(1, len(page.text) - WINDOW))
            made.append(Example(page.text[start : start + WINDOW], CLEAN, "windows-of-pages", page.key))
    return made


def _between(chance: random.Random, page: Example, guest: Example) -> Example:
    start = chance.randrange(max(1, len(page.text) - 500))
    middle = start + chance.choice((0, 40, 90, 150))
    end = middle + chance.choice((0, 40, 90, 150))
    gap = chance.choice((" ", "\n", ". "))
    text = f"{page.text[start:middle]}{gap}{guest.text}{gap}{page.text[middle:end]}"
    return Example(text, guest.labels, "planted", guest.key)
