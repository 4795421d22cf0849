"""What a text says once decoded: what a language model can read and a pattern cannot.

A decoding counts only when it reads like language, so hashes, keys, tables and code give nothing. Every step is one
pass over the text, and all readings together are at most about ten times as long as the text.
"""

import base64
import binascii
import codecs
import html
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote

from serve_app.vocabulary import WORDS

Decoder = Callable[[str], str]

_TOKEN = re.compile(r"[^\W\d_]{2,}")
_SENTENCE = re.compile(r"[^\n.!?:\"“”«»`]+")
_LETTERS_AND_GAPS = re.compile(r"[^\W\d_]|[ \n,.!?']")

_BASE64 = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{16,}+(?:\r?\n[ \t>]{0,8}[A-Za-z0-9+/_-]{2,}+)*+={0,2}")
_BASE32 = re.compile(r"(?<![\w+/-])[A-Z2-7]{16,}+={0,6}")
_OCTET = r"(?:0x|\\x)?[0-9A-Fa-f]{2}"
_HEXADECIMAL = re.compile(rf"(?<![0-9A-Za-z]){_OCTET}(?:[ ,:;]{{0,2}}{_OCTET}){{7,}}+(?![0-9A-Za-z])")
_BINARY = re.compile(r"(?<!\d)[01]{8}(?:\s{0,2}[01]{8}){7,}+(?!\d)")
_DECIMAL = re.compile(r"(?<!\d)\d{2,3}(?:[ ,;]{1,2}\d{2,3}){9,}+(?!\d)")
_ESCAPED = re.compile(
    r"(?:\\u\{?[0-9A-Fa-f]{2,6}\}?|\\x[0-9A-Fa-f]{2}|\\[0-7]{3})(?:\s?\\[ux0-7]\{?[0-9A-Fa-f]{2,6}\}?){3,}+"
)
_ESCAPE = re.compile(r"\\u\{?([0-9A-Fa-f]{2,6})\}?|\\x([0-9A-Fa-f]{2})|\\([0-7]{3})")
_PERCENT = re.compile(r"(?<![^\s\"'<>(])[^\s%\"'<>]{0,60}(?:%[0-9A-Fa-f]{2}[^\s%]{0,60}){3,}+")
_ENTITY = re.compile(r"(?:&#[xX]?[0-9A-Fa-f]{2,6};[^\n&]{0,20}){4,}+")
_MORSE = re.compile(r"(?<![.\-–−_·•])[.\-–−_·•]{1,6}(?:[ /|\n]{1,3}[.\-–−_·•]{1,6}){7,}+")
_LEET = re.compile(r"(?<![\w@$!|])(?=[^\W\d_]{0,20}[0-9@$!|])[\w@$!|]{2,40}+")
_TAGGED = re.compile("[\U000e0020-\U000e007e]{8,}")
_SELECTED = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")

_MORSE_CODES = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----."
)
_MORSE_LETTERS = dict(zip(_MORSE_CODES.split(), "abcdefghijklmnopqrstuvwxyz0123456789", strict=True))
_DOTS_AND_DASHES = str.maketrans("·•–−_", "..---")
_LEET_LETTERS = tuple(str.maketrans("013456789@$!|", f"o{one}easgtbgasi{one}") for one in "il")
_ATBASH = str.maketrans("abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")


def readings(text: str) -> Iterator[str]:
    """What the text says when decoded, one string for each encoding that gives language: base64 and base32,
    hexadecimal, binary and decimal codes, escapes, percent signs, entities, Morse, rot13, atbash, mirror writing,
    leetspeak; inside a decoded text all of these once more.
    """
    yield from _deciphered(text)
    for parts in _decoded(text):
        decoded = "\n".join(parts)
        yield from _language(parts)
        yield from _deciphered(decoded)
        for inner in _decoded(decoded):
            yield from _language(inner)
            yield from _deciphered("\n".join(inner))


def smuggled(text: str) -> Iterator[str]:
    """What stands in characters no reader sees, tags and variation selectors. Takes the text as it was written."""
    if not text.isascii():
        tags = ("".join(chr(ord(c) - 0xE0000) for c in run[0]) for run in _TAGGED.finditer(text))
        octets = (_text(bytes(map(_selected, run[0]))) for run in _SELECTED.finditer(text))
        yield from _language((*tags, *octets))


def _selected(character: str) -> int:
    """The octet of a variation selector: the first sixteen stand apart from the other 240."""
    return ord(character) - 0xFE00 if character < "\uff00" else ord(character) - 0xE0100 + 16


def _decoded(text: str) -> Iterator[list[str]]:
    """What each encoding gives for the pieces of the text that have its shape; that may be no language."""
    for hint, pattern, decode in _ENCODINGS:
        if hint in text:
            parts = [part for piece in pattern.finditer(text) if (part := decode(piece[0]))]
            if parts:
                yield parts


def _language(parts: Iterable[str]) -> Iterator[str]:
    """The parts that read like language, as one text; nothing when none does."""
    found = "\n".join(part for part in parts if _reads(part))
    if found:
        yield found


def _reads(text: str) -> bool:
    words = _TOKEN.findall(text.lower())
    share = len(_LETTERS_AND_GAPS.findall(text)) / len(text) if words else 0.0
    common = sum(word in WORDS for word in words)
    if len(words) >= 2 and share >= 0.7 and 4 * common >= len(words):
        return True
    return share >= 0.9 and (len(words) >= 4 or (not text.isascii() and len(text) >= 6))


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return ""


def _from_base64(piece: str) -> str:
    lines = re.sub(r"[ \t>=]", "", piece).translate(_URL_SAFE).split()
    return _unbased("".join(lines)) or "\n".join(filter(None, map(_unbased, lines)))


_URL_SAFE = str.maketrans("-_", "+/")


def _unbased(digits: str) -> str:
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    return _text(binascii.a2b_base64(digits + "=" * (-len(digits) % 4)))


def _from_base32(piece: str) -> str:
    digits = piece.rstrip("=")
    digits = digits[: len(digits) - (len(digits) % 8 in (1, 3, 6))]
    return _text(base64.b32decode(digits + "=" * (-len(digits) % 8)))


def _from_hexadecimal(piece: str) -> str:
    return _text(bytes.fromhex(re.sub(r"0x|\\x|[ ,:;]", "", piece)))


def _from_binary(piece: str) -> str:
    return _text(bytes(int(octet, 2) for octet in re.findall("[01]{8}", piece)))


def _from_decimals(piece: str) -> str:
    codes = [int(code) for code in re.findall(r"\d+", piece)]
    return "".join(map(chr, codes)) if all(32 <= code < 127 for code in codes) else ""


def _from_escapes(piece: str) -> str:
    return _ESCAPE.sub(
        lambda code: _character(code[1] or code[2], 16) if not code[3] else _character(code[3], 8), piece
    )


def _character(digits: str, radix: int) -> str:
    code = int(digits, radix)
    return chr(code) if code <= 0x10FFFF else ""


def _from_morse(piece: str) -> str:
    words = re.split(r"\s*[/|]\s*|\s{2,}", piece.translate(_DOTS_AND_DASHES))
    return " ".join("".join(_MORSE_LETTERS.get(code, "") for code in word.split()) for word in words)


_ENCODINGS: tuple[tuple[str, re.Pattern[str], Decoder], ...] = (
    ("", _BASE64, _from_base64),
    ("", _BASE32, _from_base32),
    ("", _HEXADECIMAL, _from_hexadecimal),
    ("01", _BINARY, _from_binary),
    ("1", _DECIMAL, _from_decimals),
    ("\\", _ESCAPED, _from_escapes),
    ("%", _PERCENT, unquote),
    ("&#", _ENTITY, html.unescape),
    ("", _MORSE, _from_morse),
)
"""A string that every encoded text holds, the shape of one, and how it is read."""


def _rot13(text: str) -> str:
    return codecs.encode(text, "rot13")


def _atbash(text: str) -> str:
    return text.lower().translate(_ATBASH)


def _mirrored(text: str) -> str:
    return text[::-1]


def _mirrored_words(text: str) -> str:
    return _TOKEN.sub(lambda word: word[0][::-1], text)


def _disguised(decode: Decoder) -> frozenset[str]:
    """What common words look like under a cipher, unless that is a common word as well."""
    return frozenset(decode(word) for word in WORDS if len(word) > 2) - WORDS


_CIPHERS: tuple[tuple[frozenset[str], tuple[Decoder, ...]], ...] = (
    (_disguised(_rot13), (_rot13,)),
    (_disguised(_atbash), (_atbash,)),
    (_disguised(_mirrored), (_mirrored, _mirrored_words)),
)


def _deciphered(text: str) -> Iterator[str]:
    """The sentences in which a quarter of the words, two at least, are common words under a cipher."""
    seen = frozenset(_TOKEN.findall(text.lower()))
    for disguised, decoders in _CIPHERS:
        if len(seen & disguised) >= 2:
            found = [sentence for sentence in _SENTENCE.findall(text) if _is_disguised(sentence, disguised)]
            if found:
                yield from ("\n".join(map(decode, found)) for decode in decoders)
    yield from _unleeted(text)


def _is_disguised(sentence: str, disguised: frozenset[str]) -> bool:
    words = _TOKEN.findall(sentence.lower())
    hits = sum(word in disguised for word in words)
    return hits >= 2 and 4 * hits >= len(words)


def _unleeted(text: str) -> Iterator[str]:
    """The text with letters for digits when three words or more become common ones by it, or two of a few words."""
    words = {word[0]: _letters(word[0]) for word in _LEET.finditer(text)}
    hits = sum(word in WORDS for word in words.values())
    if hits >= 2 and (hits >= 4 or len(text) < 100 * hits):
        yield _LEET.sub(lambda word: words[word[0]], text)


def _letters(word: str) -> str:
    """`1gn0r3` is `ignore`; a one is an i or an l, whichever gives a common word."""
    low = word.lower().rstrip("!|$")
    if low.isalpha() or low.isdigit():
        return word
    spellings = [low.translate(table) for table in _LEET_LETTERS]
    return next((spelling for spelling in spellings if len(spelling) > 2 and spelling in WORDS), spellings[0])
