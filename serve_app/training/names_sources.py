"""Public text below the folder given that the name model learns from: rows with names marked, pages without any."""

import gzip
import json
import pydoc_data.topics
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from serve_app.training.names_examples import Labelled, templates
from serve_app.training.names_pools import cities, countries, latin, names, vocabulary, word_lists
from serve_app.training.names_values import Values

ROWS = "presidio-research/synth_dataset_v2.jsonl"
PAGES = "docs-corpus"
ABSTRACTS = "pubmedqa/corpus.jsonl"
KINDS = {
    **{kind: kind for kind in ("PERSON", "STREET_ADDRESS", "ORGANIZATION", "GPE", "PHONE_NUMBER")},
    "ZIP_CODE": "STREET_ADDRESS",
}
"""What is learned of a row's spans."""

SLOTS = {
    "PERSON": "person", "STREET_ADDRESS": "anystreet", "GPE": "place", "ORGANIZATION": "org", "PHONE_NUMBER": "phone",
    "DATE_TIME": "date", "EMAIL_ADDRESS": "email", "DOMAIN_NAME": "url", "AGE": "age", "TITLE": "title",
    "NRP": "nationality", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "US_SSN": "ssn", "IP_ADDRESS": "ip",
    "ZIP_CODE": "zip", "US_DRIVER_LICENSE": "id",
}  # fmt: skip
"""What fills a public template's placeholder."""
LARGE = 300_000
"""Inhabitants."""
_LETTERS = re.compile(r"[^\W\d_]+")
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / ROWS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def folds(rows: Iterable[dict[str, Any]], count: int) -> dict[str, int]:
    """The fold of each template; templates that share half their words fall into the same."""
    words = {template: _wording(template) for template in sorted({row["template"] for row in rows})}
    group = {template: template for template in words}
    for template, said in words.items():
        for other, earlier in words.items():
            if other == template:
                break
            alike = said == earlier or (said and earlier and len(said & earlier) * 2 >= len(said | earlier))
            if alike and group[other] != group[template]:
                old, new = group[template], group[other]
                group = {name: new if its == old else its for name, its in group.items()}
    return {template: zlib.crc32(first.encode()) % count for template, first in group.items()}


def _wording(template: str) -> frozenset[str]:
    return frozenset(_LETTERS.findall(_PLACEHOLDER.sub(" ", template).lower()))


def labelled(row: dict[str, Any]) -> Labelled:
    spans = ((span["start"], span["end"], KINDS[span["type"]]) for span in row["spans"] if span["type"] in KINDS)
    return Labelled(row["text"], tuple(sorted(spans)), row["template"])


def refilled(row: dict[str, Any], values: Values, choice: random.Random) -> Labelled:
    """The row's template with other values; what it writes of an address apart is a house, a street, a unit, a code."""
    template, text, spans, position = row["template"], "", [], 0
    apart = "{{STREET_ADDRESS}} {{STREET_ADDRESS}}" in template
    pieces = cycle(("house", "street", "unit", "zip") if choice.random() < 0.7 else ("street", "unit", "zip"))
    for found in _PLACEHOLDER.finditer(template):
        text += template[position : found.start()]
        position = found.end()
        kind = found[1]
        value = values.draw(next(pieces) if apart and kind == "STREET_ADDRESS" else SLOTS.get(kind, "id"))
        if kind in KINDS:
            spans.append((len(text), len(text) + len(value), KINDS[kind]))
        text += value
    return Labelled(text + template[position:], tuple(spans), template)


def pages(folder: Path) -> Iterator[tuple[str, str]]:
    """(project, page) of the documentation below the folder."""
    for path in sorted((folder / PAGES).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield path.name.split(".")[0], json.loads(line)["text"]


def abstracts(folder: Path) -> Iterator[str]:
    path = folder / ABSTRACTS
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield str(row.get("text") or row.get("context") or row.get("abstract") or "")


def manual() -> list[str]:
    """Python's own language reference, which every Python brings along."""
    return [text for _, text in sorted(pydoc_data.topics.topics.items())]


def word_lists_of(folder: Path) -> dict[str, list[str]]:
    """The gazetteers: Faker's names, GeoNames' towns, and words that are no names.

    A word of the language is a place only where it is a large town: `Normal`, Illinois, is an adjective first.
    """
    first, last = names()
    own = word_lists()
    common = _common(folder)
    named = {name.lower() for name in (*first, *last)}
    common |= {noun.lower() for noun in own["nomen"]} | (vocabulary() - named)
    towns = [town for town, _, people_there in cities() if people_there > LARGE or town.lower() not in common]
    return {
        "first": first,
        "last": last,
        "place": sorted({*filter(latin, towns), *countries(), *own["country"], *own["land"], *own["state"]}),
        "common": sorted(common),
    }


def _common(folder: Path) -> set[str]:
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for text in (*manual(), *abstracts(folder), *(page for _, page in pages(folder))):
        for word in _LETTERS.findall(text):
            (small if word.islower() else capital)[word.lower()] += 1
    seen = {word for word, count in small.items() if count > 2 and count > 0.3 * capital[word] and len(word) > 1}
    lines = templates("english", "german", "negative")
    return seen | {word for line in lines for word in _LETTERS.findall(line) if word.islower()}


def passages(page: str, choice: random.Random, share: float) -> Iterator[Labelled]:
    """Stretches of a page, a few lines each, without any name."""
    blocks = [block for block in re.split(r"\n\s*\n", page) if block.strip()]
    at = 0
    while at < len(blocks):
        size = choice.randint(1, 4)
        text = "\n\n".join(blocks[at : at + size])[:900]
        at += size
        if choice.random() < share:
            yield Labelled(text, (), "page")
