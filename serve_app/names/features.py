"""What the name model sees of each word: its letters, its lists, its neighbours, its line."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from serve_app.names.gazetteers import LONGEST_PLACE, Gazetteers
from serve_app.names.trade import trade
from serve_app.names.words import Word

Features = list[str]


class Seen(NamedTuple):
    """What a word adds, wherever it stands in a text, to its own features and to its neighbours'."""

    form: str
    shape: str
    flags: str
    own: Features
    before: tuple[str, ...]
    """To those of the word after it."""
    after: tuple[str, ...]
    before2: str
    after2: str


_JOINTS = (("j--", "j-+"), ("j+-", "j++"))
_NOTHING = Seen("?", "?", "-", [], ("-w?", "-s?", "-f-"), ("+w?", "+s?", "+f-"), "=w?", "*w?")


def features(words: Sequence[Word], lists: Gazetteers, lower: frozenset[str], seen: dict[str, Seen]) -> list[Features]:
    """One list of features per word of a stretch.

    `lower`: words the whole text writes in lower case somewhere: `Head Node` is no person where `a head node` stands
    nearby. `seen`: what earlier stretches of the same text had in them; it grows.
    """
    row: list[Seen] = [_NOTHING, _NOTHING]
    for word in words:
        if (known := seen.get(word.text)) is None:
            known = seen[word.text] = _seen(word.text, lists, lower)
        row.append(known)
    row += [_NOTHING, _NOTHING]
    made = []
    for place, line, joint, before2, before, here, after, after2 in zip(
        _places(words, lists), _lines(words), _joints(words), row, row[1:], row[2:], row[3:], row[4:], strict=False
    ):
        shape, flags = here.shape, here.flags
        found = [
            *here.own,
            *before.before,
            *after.after,
            before2.before2,
            after2.after2,
            line,
            f"{line}{shape}{flags}",
            f"{joint}{shape}{flags}",
            f"=s{before2.shape}{before.shape}",
            f"*s{after.shape}{after2.shape}",
            f"-+{before.shape}{shape}{after.shape}",
            f"-x{before.flags}{flags}{after.flags}",
            f"-b{before.form} {flags}{shape}",
            f"+b{after.form} {flags}{shape}",
            f"=b{before2.form} {before.form}",
            f"*b{after.form} {after2.form}",
        ]
        if place:
            found.append(place)
        made.append(found)
    return made


def _seen(word: str, lists: Gazetteers, lower: frozenset[str]) -> Seen:
    if not word.isascii():
        word = word.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text to crfsuite
    low = word.lower()
    shape = _shape(word)
    flags = lists.flags.get(low, "") + trade(low)
    if shape[0] in "XC" and low in lower:
        flags += "l"
    flags = flags or "-"
    form = re.sub(r"\d", "0", low) if shape[0] in "dm" else low[:24]
    own = ["w" + form, "s" + shape, "f" + flags, f"sf{shape}{flags}"]
    if shape[0] in "XxAC":
        own += ["p" + low[:2], "q" + low[:3], "e" + low[-2:], "r" + low[-3:], "t" + low[-4:], f"es{shape}{low[-3:]}"]
    before = ("-w" + form, "-s" + shape, "-f" + flags)
    after = ("+w" + form, "+s" + shape, "+f" + flags)
    return Seen(form, shape, flags, own, before, after, "=w" + form, "*w" + form)


def _shape(word: str) -> str:
    """X: Capitalised, A: capitals, C: CamelCase, x: lower case, d and length: digits, m: mixed; others themselves."""
    if word.isalpha():
        if word.islower():
            return "x1" if len(word) == 1 else "x"
        if len(word) == 1:
            return "X1"
        if word.isupper():
            return "A"
        return "X" if word[0].isupper() and word[1:].islower() else "C"
    if word.isdigit():
        return f"d{min(len(word), 7)}"
    if word[0].isalpha():
        return "m" if any(c.isdigit() or c == "_" for c in word) else ("X'" if word[0].isupper() else "x'")
    return "md" if word[0].isdigit() else word[:4]


def _places(words: Sequence[Word], lists: Gazetteers) -> list[str]:
    """Marks the words of a place name of several words."""
    marks = [""] * len(words)
    for i, word in enumerate(words):
        low = word.text.lower()
        if low not in lists.openings or marks[i]:
            continue
        phrase = low
        for size in range(1, LONGEST_PLACE):
            if i + size >= len(words):
                break
            phrase = f"{phrase} {words[i + size].text.lower()}"
            if phrase in lists.places:
                marks[i : i + size + 1] = ["GB"] + ["GI"] * size
    return marks


def _joints(words: Sequence[Word]) -> list[str]:
    """Whether each word stands apart from the one before it and the one after: `node-1` is three words, none apart."""
    apart = [True, *(right.start > left.end for left, right in pairwise(words)), True]
    return [_JOINTS[left][right] for left, right in pairwise(apart)]


def _lines(words: Sequence[Word]) -> list[str]:
    """The kind of line each word stands in: prose, a heading or list in Capitals, a short line, code or a table."""
    kinds: list[str] = []
    begin = 0
    for i in range(len(words) + 1):
        if i == len(words) or words[i].text == "\n":
            line = [word.text for word in words[begin:i]]
            kind = _line(line)
            kinds += [f"l{kind}{min(position, 2)}" for position in range(len(line))]
            kinds += ["l|"] if i < len(words) else []
            begin = i + 1
    return kinds


def _line(line: list[str]) -> str:
    letters = [word for word in line if word.isalpha()]
    if not letters:
        return "n"
    if line[0] == "#":
        return "h"
    if any(word in "`{}=<|$\\" or "_" in word for word in line):
        return "c"
    capital = sum(not word.islower() for word in letters)
    if len(letters) > 1 and capital == 0:
        return "x"
    size = "s" if len(letters) <= 5 else "p"
    return f"T{size}" if capital * 3 > len(letters) * 2 else size
