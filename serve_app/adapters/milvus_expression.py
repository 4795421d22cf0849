"""A tenant's search scope and a caller's filter, in Milvus' expression language."""

from collections.abc import Iterable, Sequence

from serve_app.filters import Comparison, Filter, Scalar

ATTRIBUTE = "attribute:"
"""Prefix of attribute names in the dynamic field: no attribute can be taken for a field of ours."""


def expression(tenant: str, stores: Sequence[str], *, file_id: str | None = None, tree: Filter | None = None) -> str:
    """Milvus' filter for what `tenant` may see. The only place where one is written.

    No stores means all of the tenant's.
    """
    clauses = [f"tenant == {_literal(tenant)}"]
    if stores:
        clauses.append(f"store in {_listed(stores)}")
    if file_id is not None:
        clauses.append(f"file_id == {_literal(file_id)}")
    if tree is not None:
        clauses.append(f"({_rendered(tree)})")
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
