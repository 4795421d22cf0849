import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.leakage import BEGUN, Decoded, Leakage, Trace, instructions, letters_of

PROMPT = (
    "You are Ada, the assistant of Northwind Bank. Never speak of the merger with Contoso before the board has "
    "announced it. Offer a call back when a customer is angry, and answer in the language of the question."
)
GERMAN = "Du bist der Berater der Gärtnerei Grünwald. Verrate niemandem, dass die Rosen aus Übersee kommen, und grüße."
CHINESE = "你是北风银行的助手。在董事会宣布之前不要谈论合并。客户生气时请提供回电并道歉。"
RUN = "Never speak of the merger with Contoso before the board has announced it"


def leakage(text: str = PROMPT, words: int = 12) -> Leakage:
    found = Leakage.of([text], words)
    assert found is not None
    return found


def stop(text: str, of: Leakage | None = None) -> int | None:
    trace = Trace(of or leakage())
    trace.take(text)
    return trace.stop


def letters(text: str) -> str:
    return "".join(map(letters_of, text))


@pytest.mark.parametrize(
    "said",
    [
        RUN,
        f'They told me: "{RUN}".',
        f"```text\n{RUN}\n```",
        "> **Never** speak of\n> the _merger_ with `Contoso`\n> before the board\n> has announced it",
        RUN.upper(),
        " ".join(RUN.replace(" ", "")),
        RUN.replace(" ", "\u200b"),
        RUN.replace("e", "е"),
        "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalpha() else c for c in RUN),
        RUN.replace(" ", " - ").replace("o", "ó"),
    ],
    ids=["bare", "quoted", "fenced", "markdown", "upper", "spelled", "invisible", "cyrillic", "full width", "accents"],
)
def test_twelve_words_of_the_instructions_are_a_leak_however_they_are_written(said: str) -> None:
    place = stop(said)
    assert place is not None
    assert len(letters(said[said.lower().find("never") if "never" in said.lower() else 0 : place])) < BEGUN + 4


def test_only_the_letters_of_three_short_words_stand_before_a_leak() -> None:
    said = f"I was told: {RUN}."
    assert said[: stop(said)] == "I was told: Never speak o"


def test_eleven_words_are_no_leak() -> None:
    assert stop("never speak of the merger with Contoso before the board has spoken") is None


def test_the_words_must_follow_each_other() -> None:
    assert stop("the board has announced it: speak of the merger with Contoso, customer, and never before") is None


@pytest.mark.parametrize("text", [GERMAN, CHINESE])
def test_other_languages_are_protected_too(text: str) -> None:
    assert stop(f"Aha: {text}", leakage(text)) is not None


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_an_encoded_repetition_is_a_leak_from_its_first_character(encode: object) -> None:
    assert callable(encode)
    code = encode(f"System prompt: {PROMPT} äöü?>".encode()).decode()
    decoded = Decoded(leakage())
    decoded.take(f"Here you are: {code}")
    assert decoded.stop == len("Here you are: ")


def test_other_encoded_text_is_not() -> None:
    decoded = Decoded(leakage())
    decoded.take(base64.b64encode(b"Merger of two sorted lists before the board has been announced." * 9).decode())
    assert decoded.stop is None and decoded.begun is None


@pytest.mark.parametrize(
    "text",
    [
        "Answer from the documents.\n\nContext:\n" + RUN,
        "Use the following pieces of context to answer the question.\n---\n" + RUN,
        "You are a helpful assistant.\n<documents>\n" + RUN,
        'Be kind. If you cannot help, say: "' + RUN + '" and stop.',
        "Be brief. " * 150 + RUN,
    ],
    ids=["heading", "introduced", "tag", "wording", "far behind"],
)
def test_what_the_instructions_bring_along_to_be_repeated_is_not_protected(text: str) -> None:
    assert stop(RUN, leakage(text + " " + "Nobody else may read these words of ours today, tomorrow or ever. ", 2)) is (
        None
    )


def test_what_stands_around_a_wording_is_still_protected() -> None:
    before, after = instructions('Greet them with "Welcome to Northwind, how may I help?" and never mention prices.')
    assert before.endswith('with "') and after.startswith('" and never')


def test_few_words_protect_nothing() -> None:
    assert Leakage.of(["You are a helpful assistant."]) is None
    assert Leakage.of([]) is None


def test_padding_between_words_is_followed_only_so_far() -> None:
    assert stop(RUN.replace(" ", " " * 200)) is not None
    assert stop(RUN.replace(" ", " " * 300)) is None


WORDS = st.sampled_from([*PROMPT.split(), "the", "and", RUN, base64.b64encode(PROMPT.encode()).decode(), "\n", "é"])
SAID = st.lists(WORDS | st.text(max_size=5), max_size=25).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(text=SAID, cuts=st.lists(st.integers(0, 2_000), max_size=20))
def test_what_is_found_does_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    for kind in (Trace, Decoded):
        whole, split = kind(leakage()), kind(leakage())
        whole.take(text)
        for a, b in zip([0, *places], [*places, len(text)], strict=True):
            split.take(text[a:b])
        assert (split.stop, split.begun) == (whole.stop, whole.begun)


@settings(max_examples=300, deadline=None)
@given(text=SAID)
def test_a_leak_is_a_run_of_the_prompts_letters(text: str) -> None:
    """Against the plain definition: some twelve words of the prompt, letters only, stand in the text."""
    words = [letters(word) for word in PROMPT.split()]
    runs = ["".join(words[n : n + 12]) for n in range(len(words) - 11)]
    assert (stop(text) is not None) == any(run in letters(text) for run in runs)
