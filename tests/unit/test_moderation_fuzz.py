"""Whatever is sent has a verdict or a sentence, and whatever is redacted stays what it was otherwise."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.adapters.memory_screener import MemoryScreener
from serve_app.cli.reading import READERS, Stretch
from serve_app.cli.redacting import Reading, redacted
from serve_app.turn import Finding
from tests.builders import gateway
from tests.unit.test_http import call

ADDRESS = "jane@example.com"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Half of a surrogate pair cannot stand in a UTF-8 file.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("<>&\"'\\,;:{}[]\n\r\t@#=!-"), max_size=80)


def nothing(texts: Sequence[str]) -> Iterator[tuple[Finding, ...]]:
    yield from (() for _ in texts)


def addresses(texts: Sequence[str]) -> Iterator[tuple[Finding, ...]]:
    for text in texts:
        yield tuple(Finding("EMAIL_ADDRESS", *match.span()) for match in re.finditer(re.escape(ADDRESS), text))


@settings(max_examples=25, deadline=None)
@given(VALUES)
async def test_any_input_has_a_verdict_or_a_sentence(value: Any) -> None:
    behind = gateway(screener=MemoryScreener())
    response = await call(behind, "POST", "/v1/moderations", content=json.dumps({"input": value}))
    if response.status_code == 200:
        assert len(response.json()["results"]) == (len(value) if isinstance(value, list) else 1)
    else:
        assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("suffix", [suffix for suffix in READERS if "json" not in suffix])
@given(text=TEXTS)
def test_what_is_not_found_stays_to_the_letter(suffix: str, text: str) -> None:
    assert redacted(text, suffix, nothing).text == text


@given(VALUES, st.booleans())
def test_json_in_which_nothing_is_found_stays_to_the_letter(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert redacted(text, ".json", nothing).text == text


@pytest.mark.parametrize("suffix", list(READERS))
@given(text=TEXTS)
def test_a_stretch_stands_where_it_says(suffix: str, text: str) -> None:
    last = 0
    for part in READERS[suffix](text):
        if isinstance(part, Stretch):
            places = [part.place(offset) for offset in range(len(part.text) + 1)]
            assert places == sorted(places)
            assert 0 <= places[0] <= places[-1] <= len(text)
            last = max(last, places[-1])
    assert last <= len(text)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), st.booleans())
def test_an_address_in_a_json_string_is_replaced_and_nothing_else(around: Any, ascii_only: bool) -> None:
    value = {"found": [f"{before} {ADDRESS} {after}" for before, after in around]}
    copy = redacted(json.dumps(value, ensure_ascii=ascii_only), ".json", addresses).text
    assert json.loads(copy) == {"found": [f"{before} <EMAIL_ADDRESS_1> {after}" for before, after in around]}


@given(st.lists(st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=2, max_size=2), min_size=1, max_size=4))
def test_an_address_in_a_cell_leaves_the_table_as_it_was(cells: list[list[str]]) -> None:
    class Text(list[str]):
        write = list.append

    file = Text()
    csv.writer(file).writerows([["name", "mail"], *([one, f"{other} {ADDRESS}"] for one, other in cells)])
    copy = redacted("".join(file), ".csv", addresses).text
    assert ADDRESS not in copy
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n|$)", copy)
    assert list(csv.reader(lines))[1:][:1] == [[cells[0][0], f"{cells[0][1]} <EMAIL_ADDRESS_1>"]]


@given(TEXTS)
def test_a_reading_holds_every_letter_of_a_plain_text(text: str) -> None:
    assert Reading(READERS[".txt"](text)).text == text
