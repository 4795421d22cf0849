"""Where an answer may be cut while it streams: a pure function of the text, so that its deltas do not matter.

No finding crosses a seam. A seam stands between two words unless both may belong to one number, and between two
characters of a script without white space.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from serve_app.rules import UNSPACED

WORD = re.compile(rf"[{UNSPACED}](?:[^\s{UNSPACED}]++[{UNSPACED}]?)*+|(?:[^\s{UNSPACED}]++[{UNSPACED}]?)++")
UNSPACED_PAIR = re.compile(rf"[{UNSPACED}](?=[{UNSPACED}])")
DIGIT = re.compile(r"\d")
GAP = re.compile(r"[^\S\n\v\f\r\x1c-\x1e\x85\u2028\u2029]{0,4}")
CONNECTOR = re.compile(r"[-+()./\u2013\u2014]{1,3}|[A-Z0-9]{1,4}|ext\.?|x")
"""A word without a digit that may stand inside a number: `555 - 1234`, `1234 ext. 12`, `GB29 NWBK 6016`."""
LONG = 20
"""Letters of a word from which it may be a key, though no digit stands in it."""
ALERT = re.compile(rf"[\d@]|-----B|[\w-]{{{LONG}}}")
"""Without one of these every word stands alone and none can be a finding."""
PAUSE = re.compile(r"[\n\r\u3002\uff01\uff1f]|(?<=[^\W\d_]{3}[.!?])\s")
"""Ends a sentence; a name or an address does not go on behind it."""
KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]{0,40}(?:\Z|PRIVATE(?:\Z| (?:\Z|K(?:\Z|E(?:\Z|Y)))))")
KEY_ENDS = re.compile(r"-----END [A-Z ]{0,40}KEY(?: BLOCK)?-----")


def _continues_a_number(word: str) -> bool:
    return DIGIT.search(word) is not None or CONNECTOR.fullmatch(word) is not None


@dataclass(frozen=True, slots=True)
class Units:
    spans: tuple[tuple[int, int], ...]
    """Stretches that are decided and may hold a finding, in order; everything else before `rest` is plain."""
    rest: int
    """From here on the text is still open."""


def last_seam(text: str) -> int:
    """Start of the unfinished last word of a text without ALERT; the text's length when no word is unfinished."""
    if not text or text[-1].isspace():
        return len(text)
    word = text.rsplit(None, 1)[-1]
    start = len(text) - len(word)
    if not word.isascii():
        for pair in UNSPACED_PAIR.finditer(word):
            start = len(text) - len(word) + pair.end()
    return start


def units(text: str, *, at_end: bool) -> Units:
    """The decided units of a text that begins at a seam. `at_end`: nothing follows it, so all of it is decided."""
    found = _numbers_and_words(text, at_end=at_end)
    key = KEY_BEGINS.search(text) if "-----B" in text else None
    if key is None:
        return found
    start = _word_start(text, key.start())
    start = next((a for a, b in found.spans if a <= start < b), start)
    spans = tuple(span for span in found.spans if span[1] <= start)
    ending = KEY_ENDS.search(text, key.end())
    if ending is None:
        return Units((*spans, (start, len(text))), len(text)) if at_end else Units(spans, min(found.rest, start))
    after = units(text[ending.end() :], at_end=at_end)
    later = tuple((a + ending.end(), b + ending.end()) for a, b in after.spans)
    return Units((*spans, (start, ending.end()), *later), ending.end() + after.rest)


def sentences(text: str, found: Units, *, at_end: bool) -> Units:
    """The decided sentences of a text with these units; none ends within a unit."""
    ends = [pause.end() for pause in PAUSE.finditer(text, 0, found.rest)]
    ends = [end for end in ends if not any(a < end < b for a, b in found.spans)]
    if at_end and ends[-1:] != [len(text)]:
        ends.append(len(text))
    return Units(tuple(pairwise([0, *ends])), ends[-1] if ends else 0)


def _word_start(text: str, position: int) -> int:
    while position > 0 and not text[position - 1].isspace() and not UNSPACED_PAIR.match(text, position - 1):
        position -= 1
    return position


def _numbers_and_words(text: str, *, at_end: bool) -> Units:
    spans: list[tuple[int, int]] = []
    number: tuple[int, int] | None = None  # that may still go on
    for word in WORD.finditer(text):
        finished = at_end or word.end() < len(text)
        begin = word.start()
        if number is not None and GAP.fullmatch(text, number[1], begin):
            begin = number[0]
            if finished and _continues_a_number(word[0]):
                number = (begin, word.end())
                continue
        if not finished:
            return Units((*spans, number) if number is not None and begin != number[0] else tuple(spans), begin)
        if number is not None:
            spans.append(number)
        number = word.span() if DIGIT.search(word[0]) else None
        if number is None and ALERT.search(word[0]):
            spans.append(word.span())
    if number is None:
        return Units(tuple(spans), len(text))
    may_go_on = not at_end and GAP.fullmatch(text, number[1]) is not None
    return Units(tuple(spans), number[0]) if may_go_on else Units((*spans, number), len(text))
