"""OpenAI's attribute filters: a small typed tree, and what it means."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from serve_app.errors import InvalidRequest

Scalar = str | int | float | bool
Attributes = Mapping[str, str | float | bool]
Comparator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
Junction = Literal["and", "or"]

COMPARATORS: tuple[Comparator, ...] = get_args(Comparator)
JUNCTIONS: tuple[Junction, ...] = get_args(Junction)

MAX_DEPTH = 8
MAX_COMPARISONS = 64
MAX_MEMBERS = 256
MAX_STRING = 4_096
"""A filter is evaluated on every chunk of a store: these bound what one request can cost."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute against one value, or against a tuple of values for `in` and `nin`.

    `ne` and `nin` are the exact opposites of `eq` and `in`: a chunk without the attribute passes them.
    """

    key: str
    comparator: Comparator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    junction: Junction
    filters: tuple["Comparison | Compound", ...]


Filter = Comparison | Compound


def parse(given: Mapping[str, Any] | None) -> Filter | None:
    """The tree of a filter as sent. Raises InvalidRequest naming the field (`filters.filters.0.value`)."""
    if not given:
        return None
    tree = _parse(given, "filters", 1)
    if (count := _comparisons(tree)) > MAX_COMPARISONS:
        raise InvalidRequest(f"filters: {count} comparisons; at most {MAX_COMPARISONS} are taken").at("filters")
    return tree


def matches(tree: Filter | None, attributes: Attributes) -> bool:
    """Whether a chunk with these attributes passes."""
    if tree is None:
        return True
    if isinstance(tree, Compound):
        results = (matches(part, attributes) for part in tree.filters)
        return all(results) if tree.junction == "and" else any(results)
    return _compare(tree, attributes.get(tree.key))


_ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def _compare(comparison: Comparison, actual: Scalar | None) -> bool:
    if comparison.comparator in _ORDERINGS:
        wanted = comparison.values[0]
        return _same_kind(actual, wanted) and _ORDERINGS[comparison.comparator](actual, wanted)
    found = any(_same_kind(actual, wanted) and actual == wanted for wanted in comparison.values)
    return found if comparison.comparator in ("eq", "in") else not found


def _same_kind(actual: Scalar | None, wanted: Scalar) -> bool:
    """ "1" is not 1, and true is not 1."""
    return kind(actual) == kind(wanted)


def kind(value: object) -> Literal["string", "number", "boolean"] | None:
    """JSON's name for a value's type; None for what an attribute cannot be."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    return "number" if isinstance(value, int | float) else None


def _parse(given: object, at: str, depth: int) -> Filter:
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{at}: {given!r} is not a filter; send an object with `type`").at(at)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"{at}: filters are nested deeper than {MAX_DEPTH} levels").at(at)
    shape = given.get("type")
    if junction := next((known for known in JUNCTIONS if known == shape), None):
        return _compound(given, junction, at, depth)
    if comparator := next((known for known in COMPARATORS if known == shape), None):
        return _comparison(given, comparator, at)
    allowed = ", ".join(COMPARATORS + JUNCTIONS)
    raise InvalidRequest(f"{at}.type: {_shown(shape)} is not one of {allowed}").at(f"{at}.type")


def _compound(given: Mapping[str, Any], junction: Junction, at: str, depth: int) -> Compound:
    _refuse_unknown(given, {"type", "filters"}, at)
    parts = given.get("filters")
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise InvalidRequest(f"{at}.filters: `{junction}` needs a list of at least one filter").at(f"{at}.filters")
    if len(parts) > MAX_COMPARISONS:
        raise InvalidRequest(f"{at}.filters: {len(parts)} filters; at most {MAX_COMPARISONS} are taken").at(at)
    return Compound(junction, tuple(_parse(part, f"{at}.filters.{n}", depth + 1) for n, part in enumerate(parts)))


def _comparison(given: Mapping[str, Any], comparator: Comparator, at: str) -> Comparison:
    _refuse_unknown(given, {"type", "key", "value"}, at)
    key = given.get("key")
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"{at}.key: {_shown(key)} is not the name of an attribute").at(f"{at}.key")
    values = _members(given.get("value"), comparator, f"{at}.value")
    if comparator in _ORDERINGS and kind(values[0]) == "boolean":
        raise InvalidRequest(f"{at}.value: true and false have no order; use eq or ne").at(f"{at}.value")
    return Comparison(_text(key, f"{at}.key"), comparator, values)


def _members(value: object, comparator: Comparator, at: str) -> tuple[Scalar, ...]:
    if comparator not in ("in", "nin"):
        return (_scalar(value, at),)
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MAX_MEMBERS:
        raise InvalidRequest(f"{at}: `{comparator}` needs a list of 1 to {MAX_MEMBERS} values").at(at)
    return tuple(_scalar(member, f"{at}.{n}") for n, member in enumerate(value))


def _scalar(value: object, at: str) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, at)
    if isinstance(value, int | float) and abs(value) < 2**63:
        return value
    raise InvalidRequest(f"{at}: {_shown(value)} is not a string, a finite number or a boolean").at(at)


def _text(value: str, at: str) -> str:
    """`value`, unless no store could hold it: too long, or half of a surrogate pair (JSON can spell one)."""
    if len(value) > MAX_STRING:
        raise InvalidRequest(f"{at}: {len(value)} characters; at most {MAX_STRING} are taken").at(at)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(f"{at}: {_shown(value)} is not valid Unicode").at(at)
    return value


def _refuse_unknown(given: Mapping[str, Any], known: set[str], at: str) -> None:
    if unknown := sorted(str(name) for name in given.keys() - known):
        raise InvalidRequest(f"{at}.{unknown[0]}: a filter takes {', '.join(sorted(known))}").at(f"{at}.{unknown[0]}")


def _comparisons(tree: Filter) -> int:
    return 1 if isinstance(tree, Comparison) else sum(_comparisons(part) for part in tree.filters)


def _shown(value: object) -> str:
    """The value as an error may repeat it: short and printable."""
    return ascii(value)[:80]
