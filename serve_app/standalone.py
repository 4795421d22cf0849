"""What a question means by itself: a follow-up takes along what the turns before it were about. No model is asked."""

import re
from collections.abc import Sequence

from serve_app.turn import Message

TURNS = 10
"""Most messages looked back at."""
MOST_CHARACTERS = 600
"""Of what is taken along: the encoder reads about 1,200 characters, and the question itself must weigh most."""
FEW = 2
"""A question with fewer words of its own is about what was said before: `Why?`, `And on Windows?`"""

_REFERS = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|he|she|him|her|his|there|ones?|same|former|latter|above"
    r"|previous|instead|else|too|again|another|other|both|either|neither|such"
    r"|es|ihn|ihm|dies(?:e[rsnm]?)?|dessen|dort|dazu|damit|dafür|davon|darin|daran|auch|stattdessen)\b",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\s*(?:and|or|but|so|then|also|why|what about|how about|what if|for example|und|oder|aber|dann|warum|wieso"
    r"|was ist mit|wie ist es mit)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]{3,}")
_EMPTY = frozenset(
    _WORD.findall("""
    and but the for with what which who whom whose when where why how does did can could should would will are was were
    about you your please tell give show explain more und oder aber wie was wer wann wo warum kann können soll bitte mir
    der die den dem das ein eine einen mit für von
    """)
)


def standalone(messages: Sequence[Message]) -> str:
    """The last user message, led by the earlier ones it refers to; as it stands when it refers to none.

    Only users' words are taken along: what an engine said may be wrong, and what a document says is found again.
    """
    asked = [message.text for message in messages[-TURNS:] if message.role == "user" and message.text.strip()]
    if not asked:
        return messages[-1].text if messages else ""
    taken = [asked.pop()]
    while asked and refers(taken[-1]) and sum(map(len, taken[1:])) < MOST_CHARACTERS:
        taken.append(asked.pop())
    before = "\n".join(reversed(taken[1:]))[-MOST_CHARACTERS:]
    return f"{before}\n{taken[0]}" if before else taken[0]


def refers(question: str) -> bool:
    """Whether a question needs the turns before it to be understood."""
    own = [word for word in _WORD.findall(_REFERS.sub(" ", question).lower()) if word not in _EMPTY]
    if len(own) < FEW or _GOES_ON.match(question):
        return True
    return len(own) < 8 and _REFERS.search(question) is not None
