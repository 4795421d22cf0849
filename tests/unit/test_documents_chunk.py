import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents.chunk import Excerpt, excerpts, sentences
from serve_app.documents.document import Block, Document
from serve_app.documents.tokens import minilm_tokenizer, prompt_count, token_count
from tests.unit.documents import word_count


def cut(*blocks: Block, most_tokens: int = 20, title: str = "") -> list[Excerpt]:
    document = Document(source="a.md", title=title, blocks=blocks)
    return list(excerpts(document, count=word_count, most_tokens=most_tokens))


def prose(text: str, *heading: str, page: int | None = None) -> Block:
    return Block(text=text, heading=heading, page=page)


def test_small_blocks_under_the_same_headings_share_an_excerpt() -> None:
    assert [one.text for one in cut(prose("One.", "A"), prose("Two.", "A"))] == ["One.\n\nTwo."]


def test_blocks_under_different_headings_or_on_different_pages_do_not() -> None:
    made = cut(prose("One.", "A"), prose("Two.", "A", "B"), prose("Three.", "A", "B", page=2))
    assert [(one.heading, one.page, one.text) for one in made] == [
        ("A", None, "One."),
        ("A > B", None, "Two."),
        ("A > B", 2, "Three."),
    ]


def test_every_excerpt_of_a_section_carries_its_title_and_headings() -> None:
    made = cut(prose("one two three. " * 10, "Operations", "Rollback"), title="Guide")
    assert len(made) > 1
    assert {one.lead for one in made} == {"Guide > Operations > Rollback"}
    assert all(one.encoded.startswith("Guide > Operations > Rollback\n") for one in made)


def test_a_title_that_is_the_first_heading_is_said_once() -> None:
    assert cut(prose("x", "Guide", "Run"), title="Guide")[0].lead == "Guide > Run"


def test_long_prose_is_cut_between_sentences() -> None:
    made = cut(prose("One two three four. Five six seven eight. Nine ten eleven twelve."), most_tokens=8)
    assert [one.text for one in made] == ["One two three four. Five six seven eight.", "Nine ten eleven twelve."]


def test_code_that_fits_stays_whole_and_is_fenced_again_when_it_does_not() -> None:
    code = "```py\n" + "\n".join(f"line {number} of it" for number in range(6)) + "\n```"
    assert [one.text for one in cut(Block(text=code, kind="code"), most_tokens=50)] == [code]
    parts = [one.text for one in cut(Block(text=code, kind="code"), most_tokens=12)]
    assert len(parts) == 3
    assert all(part.startswith("```py\n") and part.endswith("\n```") for part in parts)


def test_each_part_of_a_long_table_has_its_header_row() -> None:
    table = "\n".join(["| name | value |", *(f"| n{number} | v |" for number in range(9))])
    parts = [one.text for one in cut(Block(text=table, kind="table"), most_tokens=20)]
    assert len(parts) == 3
    assert all(part.startswith("| name | value |\n") for part in parts)


def test_headings_too_long_for_an_excerpt_give_way_from_the_outside() -> None:
    made = cut(prose("text", "outer " * 10, "near"), most_tokens=12)
    assert (made[0].lead, made[0].heading) == ("near", f"{'outer ' * 10} > near")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Use e.g. Ray. Then go.", ["Use e.g. Ray.", "Then go."]),
        ("Version 2.60 is out. Ok", ["Version 2.60 is out.", "Ok"]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("A line\nthat wraps. End", ["A line\nthat wraps.", "End"]),
        ("Do this:\n- one\n- two", ["Do this:", "- one", "- two"]),
    ],
)
def test_sentences_end_where_readers_end_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


BLOCKS = st.lists(
    st.builds(
        Block,
        text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
            str.strip
        ),
        kind=st.sampled_from(["prose", "code", "table"]),
        heading=st.lists(st.sampled_from(["A b c", "D", "E f g h i j k l m n"]), max_size=3).map(tuple),
    ),
    max_size=5,
)


@given(BLOCKS, st.integers(17, 60))
def test_nothing_is_lost_and_nothing_is_too_long(blocks: list[Block], most_tokens: int) -> None:
    """Words of fewer characters than the limit: one token per character is the worst an encoder does."""
    made = list(excerpts(Document(source="s", title="T", blocks=tuple(blocks)), count=letters, most_tokens=most_tokens))
    assert all(letters(one.encoded) <= most_tokens for one in made)
    kept = "".join("".join(one.text.split()) for one in made)
    prose_only = all(block.kind == "prose" for block in blocks)
    wanted = "".join("".join(block.text.split()) for block in blocks)
    assert (kept == wanted) if prose_only else is_within(wanted, kept)


def letters(text: str) -> int:
    return sum(not character.isspace() for character in text)


def is_within(wanted: str, kept: str) -> bool:
    """In order, with repeated fences and header rows between."""
    left = iter(kept)
    return all(character in left for character in wanted)


def test_the_encoders_own_tokens_are_counted() -> None:
    count = token_count(minilm_tokenizer())
    assert count("Roll back the model.") == 5
    assert count("word " * 600) == 600


def test_a_page_of_base64_is_not_one_token() -> None:
    count = token_count(minilm_tokenizer())
    blob = Document(source="s", title="", blocks=(prose("QUJD" * 25_000),))
    made = list(excerpts(blob, count=count, most_tokens=200))
    assert max(len(one.text) for one in made) < 3_000
    assert sum(len(one.text) for one in made) == 100_000


def test_a_prompt_of_any_length_is_counted_to_its_end() -> None:
    count = prompt_count(minilm_tokenizer())
    assert count("again " * 12_000) == pytest.approx(12_000, abs=3)
    assert count("") == 0
