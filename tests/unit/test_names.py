"""The model of names on sentences written for it, not by its templates; figures here are floors, not claims."""

from pathlib import Path

import pytest

from serve_app.adapters.crfsuite import NameModel, NameTagger
from serve_app.adapters.presidio import PresidioScreener
from serve_app.names.features import features
from serve_app.names.gazetteers import Gazetteers
from serve_app.names.words import LONGEST, lower_case, stretches
from serve_app.policy import GuardrailSettings
from serve_app.training.names_verdicts import Span, Verdicts
from tests.names_marked import sentences

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def screener() -> PresidioScreener:
    return PresidioScreener(GuardrailSettings())


@pytest.fixture(scope="module")
def tagger() -> NameTagger:
    return NameTagger(NameModel.load())


@pytest.fixture(scope="module")
def verdicts(screener: PresidioScreener) -> Verdicts:
    verdicts = Verdicts()
    for text, spans in sentences(HERE / "names_sentences.txt"):
        verdicts.add(text, spans, screener.examine(text).findings)
    return verdicts


@pytest.mark.parametrize(
    ("kind", "share"),
    [("PERSON", 0.9), ("STREET_ADDRESS", 0.9), ("ORGANIZATION", 0.8), ("GPE", 0.85), ("PHONE_NUMBER", 1)],
)
def test_sentences_written_independently_are_reached(verdicts: Verdicts, kind: str, share: float) -> None:
    assert verdicts.reach()[kind]["share"] >= share


def test_what_is_found_in_them_is_a_name(verdicts: Verdicts) -> None:
    assert verdicts.precision() >= 0.92


def test_a_technical_page_names_nobody(screener: PresidioScreener) -> None:
    page = (HERE / "names_technical.md").read_text(encoding="utf-8")
    verdicts = Verdicts()
    verdicts.read("page", screener.examine(page).findings, page)
    assert verdicts.false_per_500_words()["page"] <= 7


def people(tagger: NameTagger, text: str) -> list[str]:
    return [text[found.start : found.end] for found in tagger.find(text) if found.kind == "PERSON"]


def test_somebody_found_once_is_found_again_by_surname(tagger: NameTagger) -> None:
    text = "My name is Ottilie Wrzesniewski. " + "Please wait. " * 200 + "Signed: Wrzesniewski."
    assert people(tagger, text) == ["Ottilie Wrzesniewski", "Wrzesniewski"]


def test_a_word_of_the_language_is_not_looked_for_again(tagger: NameTagger) -> None:
    assert people(tagger, "My name is Will Baker. Will you write to me? The baker is called Baker.") == [
        "Will Baker",
        "Baker",
    ]


def test_findings_are_in_order_and_do_not_overlap(tagger: NameTagger) -> None:
    text = " ".join(text for text, _ in sentences(HERE / "names_sentences.txt"))
    found = tagger.find(text)
    assert all(left.end <= right.start for left, right in zip(found, found[1:], strict=False))
    assert all(0 < finding.score <= 1 for finding in found)


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "a", "\u200b" * 3000, "x" * 10_000, "\ud800", "😀 Jane\ud800", "\x00\x01", "A " * 2000, "́" * 500],
)
def test_any_text_is_read(tagger: NameTagger, text: str) -> None:
    assert all(0 <= found.start < found.end <= len(text) for found in tagger.find(text))


def test_words_lie_where_they_stand() -> None:
    text = "Dr. O'Neill's café, 12b\n\nMu\u0308ller–Lüdenscheid"
    words = [word for stretch in stretches(text) for word in stretch]
    assert [word.text for word in words] == [
        *("Dr", ".", "O'Neill", "'", "s", "café", ",", "12b", "\n"),
        *("Mu\u0308ller", "–", "Lüdenscheid"),
    ]
    assert all(word.text == "\n" or text[word.start : word.end] == word.text for word in words)


def test_a_long_line_is_cut_into_stretches() -> None:
    lengths = [len(stretch) for stretch in stretches("word " * 1000)]
    assert max(lengths) <= LONGEST and sum(lengths) == 1000


def test_lists_are_read_without_case_and_accents() -> None:
    lists = Gazetteers.of({"first": ["Zoë"], "last": ["Müller"], "place": ["Bad Aibling"], "common": ["will"]})
    assert lists.flags == {"zoë": "F", "zoe": "F", "müller": "L", "muller": "L", "will": "C"}
    assert lists.places == {"bad aibling"} and lists.openings == {"bad"}


def test_a_part_of_the_lists_can_be_hidden_but_not_the_words_of_the_language() -> None:
    lists = Gazetteers.of({"first": ["Zoë", "Will"], "last": [], "place": ["New Ulm"], "common": ["will"]})
    assert lists.without(1.0, 1).flags == {"will": "C"}
    assert lists.without(0.0, 1) == lists


def test_every_word_has_features() -> None:
    lists = Gazetteers.of({"first": [], "last": [], "place": [], "common": []})
    (words,) = stretches("# Head Node\n- runs on node-1, `x`")
    assert len(features(words, lists, lower_case("node"), {})) == len(words)


def test_verdicts_count_what_is_half_covered(screener: PresidioScreener) -> None:
    verdicts = Verdicts()
    text = "Jane Kowalski, jane@example.com"
    verdicts.add(text, [Span("PERSON", 0, 13), Span("CITY", 14, 15)], screener.examine(text).findings)
    assert verdicts.reach() == {"CITY": {"spans": 1, "share": 0.0}, "PERSON": {"spans": 1, "share": 1.0}}
    assert verdicts.precision() == 0.5
    assert [span.kind for span, _ in verdicts.missed] == ["CITY"]
