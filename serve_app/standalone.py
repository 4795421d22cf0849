"""What a question means by itself: a follow-up takes along what the turns before it were about. No model is asked."""

import re
from collections.abc import Sequence

from serve_app.turn import Message

TURNS = 10
"""Most questions looked back at; behind them only the first, which says what the conversation is for."""
MOST_CHARACTERS = 600
"""Of what is taken along: the encoder reads about 1,200 characters, and the question itself must weigh most."""
FEW = 2
"""A question with fewer words of its own is about what was said before: `Why?`, `And on Windows?`"""
SHORT, SHORTER = 8, 4
"""A question with as many words of its own is understood in spite of a pronoun, or of one that may look within it."""

_REFERS = re.compile(
    r"\b(?:it|that|this|these|those|they|them|he|she|him|her|there|ones?|former|latter|above|previous|instead|else|too"
    r"|as well|again|es|ihn|ihm|dies(?:e[rsnm]?)?|das(?=\W*$)|man sie|dort|auch|stattdessen|nochmal"
    r"|(?:da|hier)(?:r?(?:an|auf|aus|in|um|unter|über)|bei|durch|für|gegen|hinter|in|mit|nach|neben|von|vor|zu|zwischen))\b",
    re.IGNORECASE,
)
_MAY_REFER = re.compile(
    r"\b(?:its|their|his|same|another|other|both|either|neither|such|dessen|deren)\b", re.IGNORECASE
)
"""Words that as often stand for something in their own sentence."""
_EXPLETIVE = re.compile(
    r"\b(?:(?:is|are|was|were|will|can|could) there(?: be)?|there (?:is|are)|gibt es|es gibt)\b", re.IGNORECASE
)
"""`There` and `es` that stand for nothing said before."""
_GOES_ON = re.compile(
    r"\s*(?:and|or|but|so|then|also|now|what about|how about|what if|for example|und|oder|aber|dann|jetzt"
    r"|was ist mit|wie ist es mit)\b",
    re.IGNORECASE,
)
_BREAKS_OFF = re.compile(
    r"\s*(?:in|at|on|for|with|without|from|only|just|more|why|which|show me the|give me the"
    r"|im|am|bei|für|mit|ohne|ab|nur|noch|mehr|warum|wieso|welche[rsnm]?)\b",
    re.IGNORECASE,
)
"""Openings of a question that says little else by itself."""
_OF_SOMETHING = re.compile(
    r"\b(?:what|who|was|wer) (?:is|are|were|sind|ist|waren?) (?:the|die|der|das)\b", re.IGNORECASE
)
"""`What are the side effects?` - of something."""
_DEFINED = re.compile(
    r"\s*(?:what|who|was|wer) (?:is|are|ist|sind) (?:an? |eine? )?[\w.-]{3,}\s*\??\s*$", re.IGNORECASE
)
"""`What is a segment?` names what it is about."""
_WORD = re.compile(r"[^\W_]{3,}")
_EMPTY = frozenset(
    _WORD.findall("""
    and but the for with what which who whom whose when where why how does did can could should would will are was were
    about you your please tell give show explain more many much long have has need must example
    und oder aber wie was wer wann wo warum kann können soll bitte mir der die den dem das ein eine einen mit für von
    sich man zeig zeige erkläre erklär genauer beispiel habe haben muss müssen brauche lange viel viele
    """)
)
_IDENTIFIER = re.compile(r"\w[A-Z]|\d")
"""`KubeRay`, `BM25`: a question with one is about that."""


def standalone(messages: Sequence[Message]) -> str:
    """The last user message, led by the earlier ones it refers to; as it stands when it refers to none.

    Only users' words are taken along: what an engine said may be wrong, and what a document says is found again.
    """
    said = [message.text for message in messages if message.role == "user" and message.text.strip()]
    if not said:
        return messages[-1].text if messages else ""
    # Behind the last turns only the first question is looked at: it is what the conversation is for.
    asked = said if len(said) <= TURNS else [said[0], *said[-TURNS:]]
    taken = [asked.pop()]
    while asked and refers(taken[-1]) and sum(map(len, taken[1:])) < MOST_CHARACTERS:
        taken.append(asked.pop())
    before = "\n".join(reversed(taken[1:]))[-MOST_CHARACTERS:]
    return f"{before}\n{taken[0]}" if before else taken[0]


def refers(question: str) -> bool:
    """Whether a question needs the turns before it to be understood."""
    plain = _EXPLETIVE.sub(" ", question)
    own = [word for word in _WORD.findall(_MAY_REFER.sub(" ", _REFERS.sub(" ", plain)).lower()) if word not in _EMPTY]
    if _GOES_ON.match(question):
        return True
    if len(own) < FEW:
        return _REFERS.search(plain) is not None or not _DEFINED.match(question)
    breaks_off = _BREAKS_OFF.match(question) or _OF_SOMETHING.search(question)
    if breaks_off and len(own) <= FEW and not _IDENTIFIER.search(question):
        return True
    found = _REFERS.search(plain), _MAY_REFER.search(plain)
    return any(match and len(own) < most for match, most in zip(found, (SHORT, SHORTER), strict=True))
