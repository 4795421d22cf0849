from hypothesis import given
from hypothesis import strategies as st

from serve_app.prompt import fitting, render
from serve_app.turn import Message
from tests.builders import passage, turn


def test_without_passages_the_conversation_is_untouched() -> None:
    asked = turn()
    assert render(asked, 1000) == asked.messages


def test_passages_lead_as_numbered_sources() -> None:
    system, question = render(turn(passages=(passage("one"), passage("two"))), 2000)
    assert system.role == "system"
    assert "[1] Guide > Operations > Rollback\none" in system.text
    assert "[2] " in system.text
    assert question.text == "How do I roll back?"


def test_the_callers_own_system_message_stays_first_and_only() -> None:
    asked = turn(messages=(Message("system", "Be brief."), Message("user", "Hi")), passages=(passage(),))
    rendered = render(asked, 2000)
    assert [message.role for message in rendered] == ["system", "user"]
    assert rendered[0].text.startswith("Be brief.")


def test_passages_that_do_not_fit_the_context_are_left_out_worst_first() -> None:
    system, _ = render(turn(passages=(passage("x" * 300), passage("y" * 3000))), 800)
    assert "[1]" in system.text
    assert "y" * 100 not in system.text


@given(st.lists(st.integers(1, 2000), max_size=8), st.integers(-100, 3000))
def test_what_fits_is_always_a_prefix(lengths: list[int], budget: int) -> None:
    passages = tuple(passage("z" * length) for length in lengths)
    kept = fitting(passages, budget)
    assert kept == passages[: len(kept)]
