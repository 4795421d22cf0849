import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve_app.errors import ClassifierUnavailable, ContextLengthExceeded, InvalidRequest
from serve_app.events import Delta, Event, Finished
from serve_app.evidence import MOST_CANDIDATES
from serve_app.extractive import NOT_COVERED, NOT_SEARCHED, SEARCH_FAILED, ExtractiveEngine
from serve_app.settings import ExtractiveSettings
from serve_app.turn import Caller, Message, Passage, Turn

ROLLBACK = "Run `manta rollback` to return to the previous model. It takes effect at once."
BREAD = "Knead the dough for ten minutes. Let it rest overnight in a cool place."


def words(text: str) -> int:
    return len(text.split())


def passage(text: str, heading: str = "", score: float = 0.8, file_id: str = "f") -> Passage:
    return Passage(id="p", text=text, score=score, file_id=file_id, source="guide.md", heading=heading)


def asking(question: str, *passages: Passage, stream: bool = True, **parameters: object) -> Turn:
    turn = Turn(
        id="t",
        caller=Caller("acme", "key"),
        messages=(Message("user", question),),
        model="extractive",
        stream=stream,
        parameters=parameters,
    )
    return turn.grounded(passages)


def engine(*, context_tokens: int = 8_192, max_sentences: int = 4) -> ExtractiveEngine:
    return ExtractiveEngine(ExtractiveSettings(context_tokens=context_tokens, max_sentences=max_sentences), None, words)


async def events(turn: Turn, by: ExtractiveEngine | None = None) -> list[Event]:
    return [event async for event in (by or engine()).generate(turn)]


async def deltas(turn: Turn, by: ExtractiveEngine | None = None) -> list[Delta]:
    return [event for event in await events(turn, by) if isinstance(event, Delta)]


async def text(turn: Turn, by: ExtractiveEngine | None = None) -> str:
    return "".join(delta.text for delta in await deltas(turn, by) if delta.choice == 0)


async def test_the_answer_is_the_sentence_that_answers_with_its_marker() -> None:
    turn = asking("How do I return to the previous model?", passage(BREAD), passage(ROLLBACK))

    assert await text(turn) == "Run `manta rollback` to return to the previous model. [2]"


async def test_a_how_to_question_shows_the_command() -> None:
    turn = asking("How do I install the chart?", passage("Install the chart as follows:\n\n```sh\nhelm install x\n```"))

    assert await text(turn) == "Install the chart as follows:\n\n```sh\nhelm install x\n```\n\n[1]"


async def test_one_step_brings_all_steps_of_its_procedure() -> None:
    steps = "1. Download the chart.\n2. Install the chart with Helm.\n3. Wait."

    assert await text(asking("How do I install the chart with Helm?", passage(steps))) == f"{steps} [1]"


async def test_a_sentence_that_leans_on_the_one_before_brings_it() -> None:
    turn = asking(
        "When does a rollback take effect?", passage("A snapshot is restored. It takes effect as a rollback.")
    )

    assert await text(turn) == "A snapshot is restored. It takes effect as a rollback. [1]"


async def test_an_introduction_is_joined_to_the_passage_that_continues_it() -> None:
    turn = asking(
        "What are the autoscaler options?",
        passage("- upscaling mode is on by default", "Options"),
        passage("The autoscaler options are these:", "Options"),
    )

    assert await text(turn) == "The autoscaler options are these: [2]\n\n- upscaling mode is on by default [1]"


async def test_a_table_row_is_shown_under_its_header() -> None:
    table = "| Tool | Version |\n| helm | v3.12 |\n| curl | v7 |"

    assert await text(asking("Which version of helm do I need?", passage(table, "Tool version"))) == (
        "| Tool | Version |\n| --- | --- |\n| helm | v3.12 |\n\n[1]"
    )


async def test_the_same_sentence_in_two_passages_is_said_once() -> None:
    turn = asking("How do I return to the previous model?", passage(ROLLBACK), passage(ROLLBACK))

    assert (await text(turn)).count("manta rollback") == 1


async def test_a_footnote_of_the_document_is_not_a_marker() -> None:
    turn = asking("Which model is the fastest model?", passage("The small model is the fastest model [1]."))

    assert await text(turn) == "The small model is the fastest model [ 1 ]. [1]"


async def test_documents_that_do_not_answer_are_not_quoted() -> None:
    assert await text(asking("How do I return to the previous model?", passage(BREAD))) == NOT_COVERED
    assert await text(asking("How do I return to the previous model?")) == NOT_COVERED


async def test_a_name_that_no_passage_mentions_is_not_answered_about() -> None:
    documents = passage("The gateway can connect to a database over TLS with a password.")

    assert await text(asking("How can the gateway connect to a database?", documents)) != NOT_COVERED
    assert await text(asking("How can the gateway connect to a database in SAP HANA?", documents)) == NOT_COVERED


async def test_without_a_search_the_answer_says_how_to_switch_it_on() -> None:
    turn = replace(asking("How do I return to the previous model?"), grounded_by_retrieval=False)

    assert await text(turn) == NOT_SEARCHED
    assert await text(turn.without("retriever")) == SEARCH_FAILED


async def test_an_empty_question_is_not_answered() -> None:
    assert await text(asking("", passage(ROLLBACK))) == NOT_COVERED


def encoder(meaning: Mapping[str, float]) -> Callable[[tuple[str, ...]], Any]:
    """Encodes so that a text has the cosine given for it to any text that is not listed."""

    async def encode(texts: tuple[str, ...]) -> NDArray[np.float32]:
        assert len(texts) <= MOST_CANDIDATES + 1
        cosines = [meaning.get(text, 1.0) for text in texts]
        return np.array([[c, (1 - c * c) ** 0.5] for c in cosines], dtype=np.float32)

    return encode


async def test_meaning_finds_what_shares_no_word() -> None:
    bread, dough = BREAD.split(". ")[0] + ".", BREAD.split(". ")[1]
    meaning = encoder({bread: 0.1, dough: 0.95})
    wise = ExtractiveEngine(ExtractiveSettings(), meaning, words)

    assert await text(asking("Where should a loaf sleep?", passage(BREAD)), wise) == f"{dough} [1]"


async def test_a_failing_encoder_leaves_the_words() -> None:
    async def encode(texts: tuple[str, ...]) -> NDArray[np.float32]:
        raise ClassifierUnavailable("no replica")

    lost = ExtractiveEngine(ExtractiveSettings(), encode, words)
    turn = asking("How do I return to the previous model?", passage(ROLLBACK))

    assert await text(turn, lost) == await text(turn)


async def test_long_passages_are_sifted_before_they_are_encoded() -> None:
    long = passage(" ".join(f"The model number {n} is here." for n in range(100)))
    wise = ExtractiveEngine(ExtractiveSettings(), encoder({}), words)

    assert "The model number 42 is here." in await text(asking("Where is model number 42?", long), wise)


async def test_a_stream_is_one_word_a_delta_and_says_who_speaks_first() -> None:
    sent = await deltas(asking("How do I return to the previous model?", passage(ROLLBACK)))

    assert sent[0].fields == {"role": "assistant", "content": "Run "}
    assert sent[1].fields == {"content": "`manta "}
    assert [delta.finish_reason for delta in sent] == [None] * (len(sent) - 1) + ["stop"]


async def test_an_answer_that_does_not_stream_is_one_delta() -> None:
    (sent,) = await deltas(asking("How do I return to the previous model?", passage(ROLLBACK), stream=False))

    assert sent.fields["role"] == "assistant"
    assert sent.text.endswith("previous model. [1]")
    assert sent.finish_reason == "stop"


async def test_a_completion_has_text_and_no_role() -> None:
    turn = replace(asking("How do I return to the previous model?", passage(ROLLBACK)), operation="completion")

    assert (await deltas(turn))[0].fields == {"text": "Run "}


async def test_n_choices_are_the_same_text_and_all_are_counted() -> None:
    got = await events(asking("How do I return to the previous model?", passage(ROLLBACK), stream=False, n=3))

    assert [e.choice for e in got if isinstance(e, Delta)] == [0, 1, 2]
    assert got[-1] == Finished(prompt_tokens=8 + 14, output_tokens=3 * 10)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_ends_the_answer_by_length(field: str) -> None:
    sent = await deltas(asking("How do I return to the previous model?", passage(ROLLBACK), **{field: 3}))  # type: ignore[arg-type]

    assert "".join(delta.text for delta in sent) == "Run `manta rollback`"
    assert sent[-1].finish_reason == "length"


@pytest.mark.parametrize("stop", ["to return", ["nowhere", "to return"]])
async def test_a_stop_sequence_ends_the_answer_before_itself(stop: str | list[str]) -> None:
    sent = await deltas(asking("How do I return to the previous model?", passage(ROLLBACK), stop=stop))

    assert "".join(delta.text for delta in sent) == "Run `manta rollback` "
    assert sent[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("function_call", {"name": "f"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("logprobs", 0),
        ("echo", True),
    ],
)
async def test_what_only_a_generative_model_can_do_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: .*choose a generative model") as refusal:
        await events(asking("How?", passage(ROLLBACK), **{field: value}))  # type: ignore[arg-type]
    assert refusal.value.param == field


async def test_what_does_not_change_the_form_of_the_answer_is_ignored() -> None:
    harmless = {"temperature": 1.3, "seed": 4, "top_p": 0.1, "user": "u", "tools": [{"type": "function"}]}
    forms = {"tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False, "n": None, "stop": None}
    turn = asking("How do I return to the previous model?", passage(ROLLBACK))

    assert await text(replace(turn, parameters={**harmless, **forms})) == await text(turn)


async def test_a_search_tool_may_be_chosen() -> None:
    turn = asking("How do I return to the previous model?", passage(ROLLBACK), tool_choice={"type": "file_search"})

    assert "manta rollback" in await text(turn)


async def test_messages_beyond_the_context_are_refused_with_both_numbers() -> None:
    with pytest.raises(ContextLengthExceeded, match="context is 4 tokens and the messages have 8") as refusal:
        await events(asking("How do I return to the previous model?"), engine(context_tokens=4))
    assert refusal.value.param == "messages"


async def test_passages_beyond_the_context_are_left_out() -> None:
    turn = asking("How do I return to the previous model?", passage(BREAD), passage(ROLLBACK))
    small = engine(context_tokens=8 + words(BREAD))

    assert await text(turn, small) == NOT_COVERED
    assert (await events(turn, small))[-1] == Finished(prompt_tokens=8 + words(BREAD), output_tokens=words(NOT_COVERED))


async def test_at_most_so_many_sentences_as_set() -> None:
    texts = [passage(f"The model {name} is a previous model.") for name in ("apple", "berry", "cherry")]
    turn = asking("Which model is a previous model?", *texts)

    assert len(re.findall(r"\[\d\]", await text(turn, engine(max_sentences=2)))) == 2


SENTENCES = st.sampled_from(
    [
        "The model rolls back at once.",
        "For example, the model falls.",
        "It is a model [2].",
        "Roll the model back as follows:",
        "- Roll back the model.",
        "1. Stop the model.",
        "```sh\nmanta rollback model\n```",
        "| model | roll |\n| a | b |",
        "# How to roll back",
        "> Never roll back a model.",
        "<div>Roll back the model first.</div>",
        "",
    ]
)
PASSAGES = st.lists(st.lists(SENTENCES, max_size=6).map("\n\n".join).map(passage), max_size=4)


@given(PASSAGES)
async def test_the_answer_never_invents(passages: list[Passage]) -> None:
    answer = await text(asking("How do I roll back the model?", *passages))

    runs = re.split(r"\s\[(\d+)\](?=\n\n|$)", answer)
    for run, number in zip(runs[0::2], runs[1::2], strict=False):
        known = "".join(re.sub(r"^> ", "", passages[int(number) - 1].text, flags=re.MULTILINE).split())
        lines = [line for line in run.splitlines() if line != "| --- | --- |"]
        said = ["".join(part.split()) for line in lines for part in re.split(r"(?<=[.:]) ", line)]
        assert all(part in known for part in said)
    assert (answer == NOT_COVERED) == (len(runs) == 1)


@given(PASSAGES, st.integers(min_value=1, max_value=30))
async def test_the_answer_never_has_more_tokens_than_allowed(passages: list[Passage], limit: int) -> None:
    *sent, finished = await events(asking("How do I roll back the model?", *passages, max_tokens=limit))

    answer = "".join(delta.text for delta in sent if isinstance(delta, Delta))
    assert words(answer) <= limit
    assert isinstance(finished, Finished)
    assert finished.output_tokens == words(answer)
