from hypothesis import given
from hypothesis import strategies as st

from serve_app.seams import last_seam, sentences, units

ALPHABET = st.sampled_from(
    [*"a1@- \n模型", "555", "2671", "GB29 ", "NWBK ", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"]
)
TEXTS = st.lists(ALPHABET, max_size=12).map("".join)


def stretches(text: str) -> list[str]:
    return [text[start:end] for start, end in units(text, at_end=True).spans]


def test_the_groups_of_a_number_stay_together() -> None:
    assert stretches("ring (415) 555-2671 ext. 12 today") == ["(415) 555-2671 ext. 12"]
    assert stretches("IBAN GB29 NWBK 6016 1331 please") == ["GB29 NWBK 6016 1331"]


def test_thin_and_narrow_spaces_do_not_part_a_number() -> None:
    assert stretches("ring 0151\u202f123\u2009456\u00a078 today") == ["0151\u202f123\u2009456\u00a078"]


def test_a_long_word_without_a_digit_may_be_a_key() -> None:
    assert stretches("it is AKIAQWERTYUIOPASDFGH indeed") == ["AKIAQWERTYUIOPASDFGH"]


def test_numbers_on_two_lines_are_two() -> None:
    assert stretches("12 34\n56") == ["12 34", "56"]


def test_a_key_block_is_one_stretch_even_after_a_script_without_spaces() -> None:
    block = "-----BEGIN PRIVATE KEY-----\nMIIE1\n-----END PRIVATE KEY-----"
    assert stretches(f"a@b.example模型{block}") == ["a@b.example模", f"型{block}"]


def test_an_unfinished_word_is_open() -> None:
    assert last_seam("One two thr") == len("One two ")
    assert units("call 415 555", at_end=False).rest == len("call ")


@given(text=TEXTS, more=TEXTS)
def test_what_was_decided_stays_so_whatever_follows(text: str, more: str) -> None:
    early, late = units(text, at_end=False), units(text + more, at_end=True)
    assert early.spans == tuple(span for span in late.spans if span[0] < early.rest)
    assert all(end <= early.rest for _, end in early.spans)


def test_a_sentence_ends_at_its_full_stop_or_line_but_not_at_an_initial() -> None:
    text = "Ask J. Doe about this. She knows\nDr. No lives at 12. Elm St"
    found = sentences(text, units(text, at_end=True), at_end=True)
    assert [text[a:b] for a, b in found.spans] == [
        "Ask J. Doe about this. ",
        "She knows\n",
        "Dr. No lives at 12. Elm St",
    ]


@given(text=TEXTS.map(lambda text: text.replace("-", ". Word! ")), more=TEXTS)
def test_decided_sentences_stay_so_whatever_follows(text: str, more: str) -> None:
    early = sentences(text, units(text, at_end=False), at_end=False)
    late = sentences(text + more, units(text + more, at_end=True), at_end=True)
    assert early.spans == late.spans[: len(early.spans)]
