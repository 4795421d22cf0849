import re

from hypothesis import given
from hypothesis import strategies as st

from serve_app.events import Started
from serve_app.prompt import ANSWER_TOKENS, INSTRUCTIONS, NOTHING_FOUND, Room, fitted, fitting, render
from serve_app.turn import Grounding, Message, Passage, Turn
from tests.builders import ListRetriever, ScriptedEngine, passage, pipeline, settings, turn


def words(text: str) -> int:
    return len(text.split())


def room(context_tokens: int, sources_tokens: int = 10_000, *, trims: bool = True) -> Room:
    return Room(context_tokens=context_tokens, sources_tokens=sources_tokens, trims=trims, count=words)


def conversation(turns: int, words_each: int = 20) -> tuple[Message, ...]:
    said = [
        message
        for n in range(turns)
        for message in (Message("user", f"q{n} " * words_each), Message("assistant", f"a{n} " * words_each))
    ]
    return tuple(said[:-1])


def asked(messages: tuple[Message, ...], *passages: Passage, **changes: object) -> Turn:
    return turn(messages=messages, **changes).grounded(passages)


def test_without_passages_the_conversation_is_untouched() -> None:
    assert render(turn()) == turn().messages
    assert render(turn().grounded(())) == turn().messages


def test_an_engine_is_told_that_the_documents_somebody_asked_for_say_nothing() -> None:
    system, question = render(turn(grounding=Grounding(wanted=True)).grounded(()))
    assert system.text == INSTRUCTIONS
    assert question.text == f"{NOTHING_FOUND}\n\nQuestion: How do I roll back?"


def test_sources_stand_before_the_last_question_and_what_they_are_for_before_all() -> None:
    system, question = render(asked(turn().messages, passage("one"), passage("two")))
    assert (system.role, system.text) == ("system", INSTRUCTIONS)
    assert question.text == (
        "[1] Guide > Operations > Rollback\none\n\n[2] Guide > Operations > Rollback\ntwo\n\n"
        "Question: How do I roll back?"
    )


def test_the_callers_own_system_message_stays_first_and_only() -> None:
    rendered = render(asked((Message("system", "Be brief."), Message("user", "Hi")), passage()))
    assert [message.role for message in rendered] == ["system", "user"]
    assert rendered[0].text.startswith("Be brief.")


def test_what_a_tool_said_of_the_question_stays_behind_it() -> None:
    told = Message("tool", "12 degrees", {"tool_call_id": "c"})
    rendered = render(asked((Message("user", "Weather?"), Message("assistant", ""), told), passage("one")))
    assert [message.role for message in rendered] == ["system", "user", "assistant", "tool"]
    assert rendered[1].text.endswith("one\n\nQuestion: Weather?")


def test_a_conversation_without_a_user_has_its_sources_in_front() -> None:
    (system, said) = render(asked((Message("assistant", "Hello"),), passage("one")))
    assert system.text.endswith("one") and said.text == "Hello"


def test_a_completion_has_its_sources_before_its_prompt() -> None:
    (prompt,) = render(asked((Message("user", "Once", {"suffix": "."}),), passage("one"), operation="completion"))
    assert prompt.text.startswith(INSTRUCTIONS) and prompt.text.endswith("one\n\nOnce")
    assert prompt.fields == {"suffix": "."}


def test_the_next_turn_begins_as_this_one_did_though_it_finds_other_passages() -> None:
    first = render(asked(conversation(3), passage("one")))
    second = render(asked(conversation(4), passage("two")))
    assert second[:5] == first[:5]


def test_passages_that_do_not_fit_the_context_are_left_out_worst_first() -> None:
    found = (passage("x " * 20), passage("y " * 2_000))
    kept = fitted(asked(turn().messages, *found), room(500))
    assert (kept.passages, kept.degraded) == (found[:1], ())


def test_passages_take_no_more_than_their_budget() -> None:
    found = (passage("x " * 40), passage("y " * 40))
    assert fitted(asked(turn().messages, *found), room(8_000, sources_tokens=60)).passages == found[:1]


def test_a_long_conversation_keeps_its_goal_and_its_last_turns_and_says_so() -> None:
    long = (Message("system", "Be brief."), *conversation(30))
    shorter = fitted(asked(long, passage()), room(1_000))
    said = [message.text.split()[0] for message in shorter.messages]
    assert said[:3] == ["Be", "q0", "[39"]
    assert said[3:] == [name for n in range(20, 30) for name in (f"q{n}", f"a{n}")][:-1]
    assert [message.role for message in shorter.messages[1:5]] == ["user", "assistant", "user", "assistant"]
    assert (shorter.degraded, shorter.passages) == (("history",), (passage(),))


def test_a_conversation_that_fits_is_left_whole_however_many_turns_it_has() -> None:
    assert fitted(asked(conversation(30), passage()), room(4_000)).messages == conversation(30)


def test_what_is_left_out_grows_in_steps_so_that_prompts_begin_alike() -> None:
    cuts = [fitted(asked(conversation(n), passage()), room(1_000)).messages[:4] for n in range(20, 24)]
    assert len(set(map(repr, cuts[:3]))) == 1


def test_a_tools_result_goes_with_its_call() -> None:
    call = Message("assistant", "", {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]})
    agent = tuple(
        message
        for n in range(12)
        for message in (
            Message("user", f"q{n} " * 30),
            call,
            Message("tool", f"r{n} " * 30, {"tool_call_id": "c"}),
            Message("assistant", "Done."),
        )
    )
    shorter = fitted(asked(agent[:-1], passage()), room(700)).messages
    assert len(shorter) < len(agent) - 1
    for n, message in enumerate(shorter):
        assert message.role != "tool" or shorter[n - 1] == call


def test_nothing_goes_where_the_operator_refuses_it_or_no_documents_were_searched() -> None:
    long = conversation(30)
    assert fitted(asked(long, passage()), room(1_000, trims=False)).messages == long
    assert fitted(turn(messages=long), room(1_000)).messages == long


def test_a_question_that_alone_is_too_long_is_the_engines_to_refuse() -> None:
    shorter = fitted(asked((*conversation(2), *conversation(1, 5_000)), passage()), room(1_000))
    assert [words(message.text) for message in shorter.messages] == [5_000]
    assert shorter.passages == ()


@given(st.lists(st.integers(1, 2000), max_size=8), st.integers(-100, 3000))
def test_what_fits_is_always_a_prefix(lengths: list[int], budget: int) -> None:
    passages = tuple(passage("z " * length) for length in lengths)
    kept = fitting(passages, budget, words)
    assert kept == passages[: len(kept)]
    assert sum(words(one.text) for one in kept) <= max(0, budget)


@given(st.integers(1, 40), st.integers(1, 60), st.lists(st.integers(1, 400), max_size=6), st.integers(400, 4_000))
def test_what_is_rendered_fits_wherever_the_last_question_does(
    turns: int, words_each: int, lengths: list[int], context: int
) -> None:
    found = [passage("z " * length, id=f"c{n}") for n, length in enumerate(lengths)]
    chosen = fitted(asked(conversation(turns, words_each), *found), room(context))
    rendered = render(chosen)
    assert sum(words(message.text) for message in rendered) + min(ANSWER_TOKENS, context // 4) <= context
    assert rendered[-1].text.split()[-1] == f"q{turns - 1}"
    assert chosen.passages == tuple(found[: len(chosen.passages)])
    assert re.findall(r"^\[(\d+)\] ", rendered[-1].text, re.MULTILINE) == [
        str(n + 1) for n in range(len(chosen.passages))
    ]


async def test_only_what_the_engine_read_can_be_cited() -> None:
    given = settings(
        models={"small": {"application": "s", "engine": "vllm", "context_tokens": 700}},
        router={"small": "small", "large": "small"},
    )
    retriever = ListRetriever((passage("short"), passage("long " * 900, id="c2", file_id="f2")))
    engine = ScriptedEngine(("One [1]. ", "Two [2]."))
    answering = pipeline(given, retriever=retriever, engine=engine).answer(turn(grounding=Grounding(wanted=True)))
    events = [event async for event in answering]
    assert isinstance(events[0], Started)
    assert [found.id for found in events[0].passages] == ["c1"]
    assert [found.id for found in engine.turns[0].passages] == ["c1"]
