"""The unit of training, its stable split, and the project's own sentence templates."""

import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDS = 5
"""Every text is judged by heads trained on the four folds that do not hold it or its near-duplicates."""

EXPANSIONS = 14
"""Most sentences made of one template."""

_SLOT = re.compile(r"\{([^{}]*)\}")
_NOT_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    positive: bool
    source: str
    group: str = ""
    """Near-duplicates share it and fall into the same fold: a template, or the first letters of the text."""

    @property
    def fold(self) -> int:
        """Stable: it depends on the group or the text alone, never on what else is in the data."""
        return zlib.crc32(self.key.encode("utf-8", "replace")) % FOLDS

    @property
    def key(self) -> str:
        return self.group or f"{self.source}/{_NOT_LETTERS.sub('', self.text.lower())[:60]}"


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


def written(name: str, positive: bool) -> list[Example]:
    return [
        Example(text, positive, f"manta-{name}", group=template)
        for _, template, texts in templates(name)
        for text in texts
    ]
