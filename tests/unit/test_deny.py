import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.deny import DenyList
from serve_app.normalisation import folded

XENON = DenyList.of(("project xenon",))
DISGUISES = (
    "project xenon",
    "PROJECT \n  Xenon",
    "ｐｒｏｊｅｃｔ\u3000ｘｅｎｏｎ",
    "pro\u200bject\u200b \u200bxe\u00adnon",
    "рrоjесt хеnоn",  # Cyrillic look-alikes
    "p r o j e c t  x e n o n",
    "p.r.o.j.e.c.t - x.e.n.o.n",
    "ⓟⓡⓞⓙⓔⓒⓣ 𝓍ℯ𝓃ℴ𝓃",
    "🅿🆁🅾🅹🅴🅲🆃 🆇🅴🅽🅾🅽",
    "p̷̛͝r̸̡͠o̴͘͢j̵̛͟e̶̢͜c̴͞͡t̷͘͝ x̶͢͠e̷̢͠n̶͞͠o̵͟͜n̷͘͝",
    "pro\U000e0061ject xenon",
)


def denied(text: str, *phrases: str) -> bool:
    deny = DenyList.of(phrases)
    return deny is not None and deny.find(text) >= 0


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_denied_phrase_is_found_where_it_was_written(disguise: str) -> None:
    assert XENON is not None
    assert XENON.find(f"so\u200b, ½ {disguise}, said") == len("so\u200b, ½ ")


@pytest.mark.parametrize("text", ["the assassin of class", "a class act", "c l a s s"])
def test_a_denied_phrase_is_not_found_inside_a_longer_word(text: str) -> None:
    assert not denied(text, "ass")


def test_words_that_only_read_like_a_phrase_together_are_free() -> None:
    assert not denied("to get her home", "together")
    assert not denied("project" + " " * 17 + "xenon", "project xenon")
    assert not denied("wir fahren in die Bar", "Bär")


def test_a_denied_phrase_may_stand_in_punctuation_and_between_digits() -> None:
    assert denied("(xenon)", "xenon")
    assert denied("7xenon8", "xenon")


def test_sharp_s_and_double_s_are_one_phrase() -> None:
    assert denied("die STRASSE", "straße")
    assert denied("die Straße", "strasse")


def test_a_phrase_in_a_script_without_spaces_is_found_in_running_text() -> None:
    assert denied("请告诉我秘密计划的内容", "秘密计划")
    assert denied("请告诉我xenon的内容", "xenon")


def test_a_phrase_in_another_script_is_found_in_any_case() -> None:
    assert denied("про ПРОЕКТ Ксенон", "проект ксенон")


def test_blank_phrases_deny_nothing() -> None:
    assert DenyList.of(("", "  ", "\u200b")) is None


def test_the_open_end_of_a_phrase_is_where_it_began() -> None:
    assert XENON is not None
    assert XENON.begins("see project xe") == 4
    assert XENON.begins("see p r o j") == 4
    assert XENON.begins("see ｐ\u200bｒ") == 4
    assert XENON.begins("see project xa") == len("see project xa")


def test_the_end_of_a_long_text_is_enough_to_see_what_is_open() -> None:
    assert XENON is not None
    text = "word " * 5_000 + "pro" + "\u200b" * 5_000 + "ject"
    assert XENON.begins(text) == 25_000


@given(phrase=st.text("abcß 模", min_size=1).filter(lambda phrase: phrase.strip() != ""), cut=st.integers(0, 30))
def test_every_beginning_of_a_phrase_is_open(phrase: str, cut: int) -> None:
    deny = DenyList.of((phrase,))
    begun = " ".join(phrase.split())[: cut + 1]
    assert deny is not None
    assert deny.begins("- " + begun) <= 2


@given(
    before=st.text("ab xn.\u200b\u0308é", max_size=12),
    disguise=st.sampled_from(DISGUISES),
    after=st.text("ab xn.\u200b\u0308é", max_size=12),
)
@example(before="", disguise="x e n o n", after=" s")
def test_no_cut_lets_a_phrase_begin_unseen(before: str, disguise: str, after: str) -> None:
    """What a growing text shows at each of its lengths agrees with what the whole text shows."""
    deny = XENON
    assert deny is not None
    text = before + disguise + after
    hit = deny.find(text)
    for length in range(len(text) + 1):
        found, opened = deny.find(text[:length], at_end=False), deny.begins(text[:length])
        assert found < 0 or found == hit, length
        assert length <= hit or hit < 0 or opened <= hit or found == hit, length


@given(text=st.text(max_size=40) | st.text("a \t\n\u3000\u2800\u200b\u0301\u0338ßﬁеΝ½´", max_size=30))
def test_each_folded_character_knows_where_it_was_written(text: str) -> None:
    seen = folded(text)
    places = [seen.origin(n) for n in range(len(seen.text))]
    assert places == sorted(places)
    assert all(0 <= place < len(text) for place in places)
    assert seen.origin(len(seen.text)) == len(text)
    for place in set(places):
        assert folded(text[place:]).text == seen.text[places.index(place) :]
