"""What a question says beyond its words: phrases in quotation marks, and identifiers, which mean only themselves."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve_app.turn import Passage

WORD = re.compile(r"\w+")

STOP_WORDS = frozenset(
    WORD.findall("""
    a about above after again all also am an and any are as at be because been before being below between both
    but by can cannot could did do does doing down during each either else ever every few for from further get
    had has have having he her here hers him his how i if in into is it its itself just let may me might mine
    more most must my myself neither no nor not of off on once only or other our ours out over own per please
    same shall she should so some such than that the their theirs them then there these they this those through
    to too under until up upon us very via was we were what when where whether which while who whom whose why
    will with within without would yet you your yours yourself
    """)
)
"""Words too common to tell two passages apart. Both indexes leave them out."""

Run = bytes
"""Words in lower case, UTF-8, with one blank around each: another run stands in it as it is, or does not."""

READ_CHARACTERS = 4_000
"""Of a question; its embedding has read about a third of them."""
MOST = 8
"""Phrases, and identifiers, that count."""

_STOP_WORDS = frozenset(word.encode() for word in STOP_WORDS)
_BLANKS = bytes(c if c >= 0x80 or chr(c).isalnum() or c == ord("_") else ord(" ") for c in range(256))
_SYMBOLS = re.compile(
    "[\u0080-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u3000-\u3004"
    "\u3008-\u3020\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]+"
)
"""What is no letter beyond ASCII, as far as it stands beside words."""
_QUOTED = re.compile(
    r"\"([^\"\n]{2,200})\"|[\u201c\u201e]([^\u201c\u201d\n]{2,200})[\u201c\u201d]|\u00ab([^\u00bb\n]{2,200})\u00bb"
)
_PIECE = re.compile(r"[^\s\"'`\u201c\u201d\u201e\u00ab\u00bb()\[\]{}<>,;|=]{3,120}")
_IDENTIFIER = re.compile(
    r"--?[a-z][\w-]+"  # a flag: --enable-leader-election
    r"|(?=\S*\d)(?=\S*[a-z])\w[\w.:/-]*"  # letters and digits: E1234, 0x80070005, v1.27.3, IL-6
    r"|\d+(?:\.\d+){2,}"  # 1.27.3
    r"|\w*[a-z0-9]_[a-z0-9]\w*|[a-z]\w+(?:(?:\.|::|/)[a-z_]\w+)+",  # max_num_seqs, foo.bar_baz, std::move
    re.IGNORECASE,
)
_CAMEL = re.compile(r"[A-Za-z]*[a-z][A-Z][A-Za-z]*")


@dataclass(frozen=True, slots=True)
class Wording:
    """In the order of the question, each once."""

    run: Run
    """All of it."""
    words: tuple[Run, ...]
    """Those that count."""
    phrases: tuple[Run, ...]
    identifiers: tuple[str, ...]
    """In lower case, with their punctuation."""
    counting: frozenset[bytes]
    """The words that count, without their blanks."""

    @classmethod
    def of(cls, question: str) -> "Wording":
        read = question[:READ_CHARACTERS]
        run = normalised(read)
        quoted = (normalised("".join(groups)) for groups in _QUOTED.findall(read))
        pieces = (piece.strip(".:!?*/") for piece in _PIECE.findall(read))
        counting = tuple(dict.fromkeys(word for word in run.split() if word not in _STOP_WORDS))
        return cls(
            run,
            tuple(b" %b " % word for word in counting),
            tuple(dict.fromkeys(phrase for phrase in quoted if phrase.strip()))[:MOST],
            tuple(dict.fromkeys(piece.lower() for piece in pieces if _is_identifier(piece)))[:MOST],
            frozenset(counting),
        )


def words(text: str) -> list[str]:
    """The words of a text that count, in order, in lower case."""
    return [word for word in WORD.findall(text.lower()) if word not in STOP_WORDS]


def normalised(text: str) -> Run:
    """One pass in C: a question reads a hundred passages, and a pattern takes four times as long for each."""
    lowered = text.lower()
    plain = lowered if lowered.isascii() else _SYMBOLS.sub(" ", lowered)
    return b" %b " % b" ".join(plain.encode("utf-8", "replace").translate(_BLANKS).split())


def named_in(lowered: str, identifier: str) -> bool:
    """Whether the identifier stands in a text in lower case, by itself: `v1.2` does not stand in `v1.27`."""
    start = lowered.find(identifier)
    while start >= 0:
        end = start + len(identifier)
        if not (_continues(lowered[start - 1 : start]) or _continues(lowered[end : end + 1])):
            return True
        start = lowered.find(identifier, start + 1)
    return False


def insisting(phrases: Sequence[Run], passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """The passages with more of the phrases before those with fewer, within each the better first; ties by id.

    With one phrase, those that have it score 0.5 and more and those without at most that, also where none has it.
    """
    if not phrases:
        return tuple(passages)
    counted = [(having(phrases, passage), passage) for passage in passages]
    # By the count first: a passage with the phrase and no score else has 0.5 as one without it and the best score.
    counted.sort(key=lambda pair: (-pair[0], -pair[1].score, pair[1].id))
    return tuple(replace(passage, score=(has + passage.score) / (len(phrases) + 1)) for has, passage in counted)


def having(phrases: Sequence[Run], passage: Passage) -> int:
    """How many of the phrases stand in a passage, its title or its headings."""
    parts = [normalised(part) for part in (passage.title, passage.heading, passage.text)]
    return sum(any(phrase in part for part in parts) for phrase in phrases)


def _is_identifier(piece: str) -> bool:
    return bool(_IDENTIFIER.fullmatch(piece) or _CAMEL.fullmatch(piece))


def _continues(character: str) -> bool:
    return character.isalnum() or character == "_"
