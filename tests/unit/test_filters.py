import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.adapters.milvus_expression import expression, visible
from serve_app.errors import InvalidRequest
from serve_app.filters import MAX_DEPTH, Comparison, Compound, matches, parse
from serve_app.ports import Query
from serve_app.sight import Sight

SCALARS = st.one_of(st.text(max_size=20), st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6), st.booleans())
ORDERED = st.one_of(st.text(max_size=20), st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6))
KEYS = st.text(min_size=1, max_size=10)
COMPARISONS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["eq", "ne"]), "key": KEYS, "value": SCALARS}),
    st.fixed_dictionaries({"type": st.sampled_from(["gt", "gte", "lt", "lte"]), "key": KEYS, "value": ORDERED}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["in", "nin"]), "key": KEYS, "value": st.lists(SCALARS, min_size=1, max_size=4)}
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(KEYS, SCALARS, max_size=4)


def comparison(comparator: str, value: Any, key: str = "year") -> dict[str, Any]:
    return {"type": comparator, "key": key, "value": value}


def passes(given: dict[str, Any], **attributes: Any) -> bool:
    return matches(parse(given), attributes)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_filter_lets_everything_pass(nothing: dict[str, Any] | None) -> None:
    assert matches(parse(nothing), {"year": 1})


def test_a_comparison_becomes_a_typed_leaf() -> None:
    assert parse(comparison("eq", 2024)) == Comparison("year", "eq", (2024,))


def test_a_compound_keeps_its_order() -> None:
    tree = parse({"type": "or", "filters": [comparison("eq", 1), comparison("in", [2, 3])]})
    assert tree == Compound("or", (Comparison("year", "eq", (1,)), Comparison("year", "in", (2, 3))))


@pytest.mark.parametrize(
    ("comparator", "value", "expected"),
    [
        ("eq", 2024, True),
        ("eq", 2024.0, True),
        ("eq", "2024", False),
        ("ne", 2024, False),
        ("ne", "2024", True),
        ("gt", 2024, False),
        ("gt", 2023, True),
        ("gte", 2024, True),
        ("lt", 2024, False),
        ("lte", 2024, True),
        ("gt", "2023", False),
        ("in", [1, 2024], True),
        ("in", ["2024", True], False),
        ("nin", [1, 2024], False),
        ("nin", [1], True),
    ],
)
def test_a_number_is_compared(comparator: str, value: Any, expected: bool) -> None:
    assert passes(comparison(comparator, value), year=2024) is expected


def test_true_is_not_one() -> None:
    assert not passes(comparison("eq", 1), year=True)
    assert passes(comparison("ne", 1), year=True)


@pytest.mark.parametrize("comparator", ["eq", "gt", "gte", "lt", "lte"])
def test_what_a_chunk_does_not_have_fails_a_comparison(comparator: str) -> None:
    assert not passes(comparison(comparator, 0), other=1)


def test_what_a_chunk_does_not_have_differs_from_everything() -> None:
    assert passes(comparison("ne", 0), other=1)
    assert passes(comparison("nin", [0]), other=1)


@given(tree=FILTERS, other=FILTERS, attributes=ATTRIBUTES)
def test_and_is_both_and_or_is_either(tree: dict[str, Any], other: dict[str, Any], attributes: dict[str, Any]) -> None:
    both, either = ({"type": junction, "filters": [tree, other]} for junction in ("and", "or"))
    results = matches(parse(tree), attributes), matches(parse(other), attributes)
    assert matches(parse(both), attributes) is all(results)
    assert matches(parse(either), attributes) is any(results)


@given(key=KEYS, value=SCALARS, attributes=ATTRIBUTES)
def test_ne_is_the_opposite_of_eq(key: str, value: Any, attributes: dict[str, Any]) -> None:
    same, different = (matches(parse(comparison(name, value, key)), attributes) for name in ("eq", "ne"))
    assert same is not different


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"type": "like", "key": "a", "value": "b"}, "filters.type", "'like' is not one of eq, ne"),
        ({"key": "a", "value": "b"}, "filters.type", "None is not one of"),
        ({"type": ["eq"], "key": "a", "value": "b"}, "filters.type", "is not one of"),
        ({"type": "eq", "value": "b"}, "filters.key", "None is not the name"),
        ({"type": "eq", "key": "", "value": "b"}, "filters.key", "is not the name"),
        ({"type": "eq", "key": "a"}, "filters.value", "None is not a string"),
        ({"type": "eq", "key": "a", "value": {"b": 1}}, "filters.value", "is not a string"),
        ({"type": "eq", "key": "a", "value": float("nan")}, "filters.value", "finite"),
        ({"type": "eq", "key": "a", "value": float("inf")}, "filters.value", "finite"),
        ({"type": "eq", "key": "a", "value": 10**400}, "filters.value", "finite"),
        ({"type": "eq", "key": "a", "value": "\ud800"}, "filters.value", "Unicode"),
        ({"type": "eq", "key": "a", "value": "x" * 5000}, "filters.value", "5000 characters"),
        ({"type": "gt", "key": "a", "value": True}, "filters.value", "no order"),
        ({"type": "in", "key": "a", "value": "abc"}, "filters.value", "needs a list"),
        ({"type": "in", "key": "a", "value": []}, "filters.value", "needs a list"),
        ({"type": "in", "key": "a", "value": [1, None]}, "filters.value.1", "None is not a string"),
        ({"type": "eq", "key": "a", "value": 1, "extra": 1}, "filters.extra", "a filter takes key, type, value"),
        ({"type": "and", "filters": []}, "filters.filters", "at least one"),
        ({"type": "and", "filters": "no"}, "filters.filters", "at least one"),
        ({"type": "and", "filters": ["no"]}, "filters.filters.0", "not a filter"),
        ({"type": "and", "filters": [{"type": "eq", "key": "a"}]}, "filters.filters.0.value", "None"),
    ],
)
def test_a_filter_that_cannot_be_read_names_the_field_at_fault(given: Any, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(words)) as refused:
        parse(given)
    assert refused.value.param == param
    assert str(refused.value).startswith(param)


def test_a_filter_may_not_be_nested_without_end() -> None:
    nested: dict[str, Any] = comparison("eq", 1)
    for _ in range(MAX_DEPTH):
        nested = {"type": "and", "filters": [nested]}
    with pytest.raises(InvalidRequest, match="nested deeper than 8"):
        parse(nested)


def test_a_filter_may_not_be_wide_without_end() -> None:
    with pytest.raises(InvalidRequest, match="at most 64"):
        parse({"type": "and", "filters": [comparison("eq", 1)] * 65})
    half = {"type": "or", "filters": [comparison("eq", 1)] * 40}
    with pytest.raises(InvalidRequest, match="80 comparisons; at most 64"):
        parse({"type": "and", "filters": [half, half]})


LITERAL = re.compile(r'"(?:[^"\\\n\r]|\\["\\nrt])*"')
"""A string of Milvus' grammar: up to the first quote that no backslash stands before."""


def skeleton(*args: Any, **fields: Any) -> str:
    """An expression with every string emptied: what is left was written by us."""
    return LITERAL.sub('""', expression(*args, **fields))


@given(tenant=st.text(), stores=st.lists(st.text(), min_size=1, max_size=3), file_id=st.text())
def test_no_name_can_break_out_of_its_literal(tenant: str, stores: list[str], file_id: str) -> None:
    written = skeleton(tenant, stores, file_id=file_id)
    assert written == f'tenant == "" and store in [{", ".join(["" + chr(34) * 2] * len(stores))}] and file_id == ""'


@given(tenant=st.text(), groups=st.frozensets(st.text(), max_size=3), asked=FILTERS)
def test_a_filter_can_only_narrow_what_the_tenant_sees(
    tenant: str, groups: frozenset[str], asked: dict[str, Any]
) -> None:
    sight = Sight(tenant=tenant, groups=groups, now=0.0)
    query = Query(sight=sight, text="", embedding=None, stores=(), top_k=1)
    seen = LITERAL.sub('""', visible(query))
    written = LITERAL.sub('""', visible(query, parse(asked)))
    assert written.startswith(f"{seen} and (") and written.endswith(")")
    assert seen.startswith('tenant == "" and (access == ""')
    own = written[len(f"{seen} and ") :]
    assert re.fullmatch(r'[\w\s.$()\[\]<>=!"+-]*', own), "only our own words and signs stand outside strings"
    assert not re.search(r"\b(?:tenant|access|purposes|until|subject|store)\b", own)
    depth = 0
    for sign in own[:-1]:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        assert depth > 0, "the filter stays inside its own parentheses"


@given(text=st.text())
def test_milvus_reads_a_literal_back_as_it_was(text: str) -> None:
    tokens = pytest.importorskip("milvus_lite.search.filter.tokens").tokenize(expression(text, ()))
    assert [token.text for token in tokens][:2] == ["tenant", "=="]
    assert tokens[2].value == text
    assert tokens[3].kind.name == "EOF"
