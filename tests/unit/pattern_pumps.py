"""Every regular expression of some modules, and texts made to be slow for each: what its repetitions repeat."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from itertools import zip_longest
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

ENDLESS = 65535
"""Repetitions from which on a limit limits nothing."""
FLAGS = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII
REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT)
LETTERS = "a1 \n.-=@:/Z0_\u00e9模\u200b"


def patterns_of(module: ModuleType) -> dict[str, re.Pattern[str]]:
    """Compiled ones wherever they are kept, and those written into a call of `re`."""
    kept = {pattern.pattern: pattern for value in vars(module).values() for pattern in _within(value, module.__name__)}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        called = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        )
        if called and node.func.value.id == "re" and node.args and isinstance(node.args[0], ast.Constant):
            kept.setdefault(node.args[0].value, re.compile(node.args[0].value))
    return kept


def _within(value: Any, module: str, depth: int = 4) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth:
        for each in _parts(value, module):
            yield from _within(each, module, depth - 1)


def _parts(value: Any, module: str) -> Iterable[Any]:
    if isinstance(value, tuple | list | set | frozenset):
        return value
    if isinstance(value, type):
        return vars(value).values() if value.__module__ == module else ()
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return value.values() if isinstance(value, dict) else ()


def endless_within_endless(pattern: re.Pattern[str]) -> list[str]:
    """Repetitions without end inside one another that may share a text in many ways.

    Harmless are those that give nothing back, and those whose turns begin with what the inner one cannot match.
    """
    return list(_nested(list(_parser.parse(pattern.pattern, pattern.flags & FLAGS)), outer=None))


def _nested(parsed: list[Any], outer: list[Any] | None) -> Iterator[str]:
    for kind, value in parsed:
        if kind in REPEATS:
            body = list(value[2])
            endless = value[1] == kinds.MAXREPEAT
            if endless and outer is not None and not _parted(outer, body):
                yield str(outer)
            yield from _nested(body, body if endless else outer)
        else:
            gives_back = kind not in (kinds.POSSESSIVE_REPEAT, kinds.ATOMIC_GROUP)
            for inner in _inner(kind, value):
                yield from _nested(list(inner), outer if gives_back else None)


def _parted(outer: list[Any], inner: list[Any]) -> bool:
    marks = [chr(value) for kind, value in outer if kind is kinds.LITERAL]
    members = [value for kind, value in inner if kind is kinds.IN]
    return len(inner) == len(members) == 1 and any(not re.match(_class_source(members[0]), mark) for mark in marks)


def _inner(kind: Any, value: Any) -> list[Any]:
    if kind is kinds.BRANCH:
        return list(value[1])
    if kind is kinds.SUBPATTERN:
        return [value[3]]
    if kind in (kinds.ASSERT, kinds.ASSERT_NOT):
        return [value[1]]
    if kind is kinds.ATOMIC_GROUP:
        return [value]
    return [value[2]] if kind is kinds.POSSESSIVE_REPEAT else []


def pumps(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """What leads to each repetition, and what it repeats."""
    found = dict.fromkeys(_pumps(list(_parser.parse(pattern.pattern, pattern.flags & FLAGS)), ""))
    return list(found)


def _pumps(parsed: list[Any], before: str) -> Iterator[tuple[str, str]]:
    for kind, value in parsed:
        if kind in (*REPEATS, kinds.POSSESSIVE_REPEAT):
            body = list(value[2])
            if value[1] > 8:
                yield from ((before, sample) for sample in _samples(body))
            yield from _pumps(body, before)
        else:
            for inner in _inner(kind, value):
                yield from _pumps(list(inner), before)
        before += next(_samples([(kind, value)]), "")


def _samples(parsed: list[Any]) -> Iterator[str]:
    """A few short texts that this part matches; look-arounds are left out of account."""
    texts = [""]
    for kind, value in parsed:
        texts = [text + more for text in texts[:3] for more in list(_pieces(kind, value))[:6] or [""]]
    yield from texts[:6]


def _pieces(kind: Any, value: Any) -> Iterator[str]:
    if kind is kinds.LITERAL:
        yield chr(value)
    elif kind is kinds.IN:
        yield from _members(value)
    elif kind in (kinds.NOT_LITERAL, kinds.ANY):
        yield from (letter for letter in "a \u00e9" if kind is kinds.ANY or ord(letter) != value)
    elif kind in (*REPEATS, kinds.POSSESSIVE_REPEAT):
        yield from (text * max(1, value[0]) for text in _samples(list(value[2])))
    elif kind not in (kinds.ASSERT, kinds.ASSERT_NOT):
        ways = [_samples(list(inner)) for inner in _inner(kind, value)]
        yield from (text for texts in zip_longest(*ways) for text in texts if text is not None)  # each way first once


def _members(value: list[Any]) -> Iterator[str]:
    """Of a class: the ends of its ranges, and letters of ours that are in it."""
    own = re.compile(_class_source(value))
    yield from (letter for letter in LETTERS if own.match(letter))
    for kind, member in value:
        if kind is kinds.LITERAL:
            yield chr(member)
        elif kind is kinds.RANGE:
            yield chr(member[0])


CATEGORIES = {
    kinds.CATEGORY_DIGIT: r"\d",
    kinds.CATEGORY_NOT_DIGIT: r"\D",
    kinds.CATEGORY_SPACE: r"\s",
    kinds.CATEGORY_NOT_SPACE: r"\S",
    kinds.CATEGORY_WORD: r"\w",
    kinds.CATEGORY_NOT_WORD: r"\W",
}


def _class_source(value: list[Any]) -> str:
    parts = []
    for kind, member in value:
        if kind is kinds.NEGATE:
            parts.append("^")
        elif kind is kinds.LITERAL:
            parts.append(re.escape(chr(member)))
        elif kind is kinds.RANGE:
            parts.append(f"{re.escape(chr(member[0]))}-{re.escape(chr(member[1]))}")
        else:
            parts.append(CATEGORIES[member])
    return f"[{''.join(parts)}]"


def slow_texts(pattern: re.Pattern[str], size: int) -> Iterable[str]:
    """Texts of about this size that repeat what the pattern repeats, and end so that it must give up."""
    for before, body in pumps(pattern):
        if body:
            yield before + body * (size // len(body)) + "\x00"
            whole = before + body
            yield whole * (size // len(whole)) + "\x00"
            both = before + body * 30
            yield both * (size // len(both)) + "\x00"
