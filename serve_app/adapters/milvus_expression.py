"""A tenant's search scope and a caller's filter, in Milvus' expression language."""

import hashlib
import math
from collections.abc import Iterable, Sequence

from serve_app.filters import Comparison, Filter, Scalar
from serve_app.ports import Query
from serve_app.sight import Terms

ATTRIBUTE = "attribute:"
"""Prefix of attribute names in the dynamic field: no attribute can be taken for a field of ours."""


OPEN = 'access == ""'
FOREVER = 2**62
"""`until` of what has no end."""
STEP_S = 10
"""Consent ends up to so many seconds early: Milvus Lite keeps what it parsed, and a filter that is new with every
query costs it as much as the search."""


def visible(query: Query, tree: Filter | None = None) -> str:
    """Milvus' filter for what a caller may see: `Sight.sees`, whole files, and the caller's own filter behind an `and`.

    No stores means all of the tenant's. The terms stand in columns of their own: in 5,000 rows of Milvus Lite the same
    terms in the dynamic field doubled the time of a search.
    """
    sight = query.sight
    groups = [f"access like {_literal(f'%{_tag(name)}%')}" for name in sorted(sight.groups)]
    clauses = [
        expression(sight.tenant, query.stores),
        f"({' or '.join([OPEN, *groups])})",
        f'(purposes == "" or purposes like {_literal(f"%{_tag(sight.purpose)}%")})',
        f"until > {math.ceil(sight.now / STEP_S) * STEP_S}",
    ]
    for store in sorted({store for store, _ in query.hidden}):
        files = _listed(file_id for place, file_id in query.hidden if place == store)
        clauses.append(f"not (store == {_literal(store)} and file_id in {files})")
    if tree is not None:
        clauses.append(f"({_rendered(tree)})")
    return " and ".join(clauses)


def termed(terms: Terms) -> dict[str, str | int]:
    """The terms of a chunk as its columns, as `visible` reads them."""
    return {
        "access": "".join(map(_tag, sorted(terms.access))),
        "purposes": "".join(map(_tag, sorted(terms.purposes))),
        "until": FOREVER if terms.until is None else math.floor(terms.until),
        "subject": encodable(terms.subject),
    }


def _tag(name: str) -> str:
    """A name of any kind as sixteen hexadecimal digits between commas: nothing in it is a wildcard."""
    return f",{hashlib.sha256(encodable(name).encode()).hexdigest()[:16]},"


def expression(
    tenant: str, stores: Sequence[str] = (), *, file_id: str | None = None, subject: str | None = None
) -> str:
    """Milvus' filter for what belongs to `tenant`, whoever may see it: to delete it."""
    clauses = [f"tenant == {_literal(tenant)}"]
    if stores:
        clauses.append(f"store in {_listed(stores)}")
    if file_id is not None:
        clauses.append(f"file_id == {_literal(file_id)}")
    if subject is not None:
        clauses.append(f"subject == {_literal(subject)}")
    return " and ".join(clauses)


def _rendered(tree: Filter) -> str:
    if isinstance(tree, Comparison):
        return _compared(tree)
    return f" {tree.junction} ".join(f"({_rendered(part)})" for part in tree.filters)


_ORDERINGS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _compared(comparison: Comparison) -> str:
    attribute = f"$meta[{_literal(ATTRIBUTE + comparison.key)}]"
    if symbol := _ORDERINGS.get(comparison.comparator):
        return f"{attribute} {symbol} {_literal(comparison.values[0])}"
    # A list in Milvus has one type, a list from a caller may have three.
    found = " or ".join(f"{attribute} == {_literal(value)}" for value in comparison.values)
    if comparison.comparator in ("eq", "in"):
        return found
    # Comparing what is not there is neither true nor false to Milvus, and so is its negation.
    return f"not (exists {attribute} and ({found}))"


def _listed(values: Iterable[Scalar]) -> str:
    return f"[{', '.join(map(_literal, values))}]"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _literal(value: Scalar) -> str:
    """A value as Milvus' grammar reads it back; nothing in a string can end it early."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{encodable(value).translate(_ESCAPES)}"'
    return repr(value)


def encodable(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can spell and protobuf cannot carry."""
    return text.encode("utf-8", "replace").decode()
