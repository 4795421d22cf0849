"""What is read from an answer that passes, event by event."""

import time
from typing import Any

import pytest

from serve_app.events import Delta, Finished
from serve_app.extractive import NOT_COVERED
from serve_app.rollout.observation import FEWEST_TOKENS, MOST_READ, Observation
from serve_app.rollout.outcome import Outcome

KEY = ("m", "1", "staging")


def seen(*deltas: Delta, output_tokens: int = 4) -> Outcome:
    observation = Observation()
    for delta in deltas:
        observation.took(delta)
    observation.took(Finished(prompt_tokens=1, output_tokens=output_tokens))
    return observation.outcome(KEY, failed=False, cost=0.5, first_token_s=0.25)


def said(text: str, **fields: Any) -> Delta:
    return Delta({"content": text}, **fields)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "Unfortunately I am unable to share that.",
        "As an AI, I cannot give medical advice.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Dazu darf ich Ihnen leider keine Auskunft geben.",
        "I don't know.",
        "The sources do not mention a limit.",
        NOT_COVERED,
    ],
)
def test_an_answer_that_declines_is_a_refusal_however_it_is_cut(answer: str) -> None:
    assert seen(said(answer)).refused
    assert seen(*map(said, answer)).refused


@pytest.mark.parametrize(
    "answer",
    [
        "Restart the replica [1], then wait for its health.",
        "No: a rollback does not delete the version.",
        "Sorry to keep you waiting; the answer is 42.",
        "Starten Sie die Replik neu; das dauert nicht lange.",
        "Yes. " + "The limit is 300 requests a minute [2]. " * 20 + "I cannot help you further.",
        "",
    ],
)
def test_an_answer_is_no_refusal(answer: str) -> None:
    assert not seen(said(answer)).refused


def test_an_answer_that_the_guardrail_cut_is_blocked_and_not_refused() -> None:
    outcome = seen(said("I cannot help"), Delta({}, finish_reason="content_filter"))
    assert (outcome.blocked, outcome.refused) == (True, False)


def test_the_last_list_of_citations_says_how_grounded_it_is() -> None:
    early = {"citations": [{"index": 1, "supported": False}]}
    last = {"citations": [{"index": n, "supported": mark} for n, mark in enumerate((False, True, True, None), 1)]}
    assert seen(said("a [1]", envelope=early), said("b", envelope=last), said("c")).grounded == 0.5


def test_an_answer_without_citations_is_neither_grounded_nor_not() -> None:
    assert seen(said("a")).grounded is None
    assert seen(said("a", envelope={"citations": []})).grounded is None


def test_a_stream_has_a_speed_and_a_whole_answer_none() -> None:
    observation = Observation()
    observation.took(said("a"))
    observation.took(Finished(prompt_tokens=1, output_tokens=100))
    assert observation.tokens_per_s is None
    assert observation.ended_at is not None
    observation.began_at = observation.ended_at - 2.0
    assert observation.tokens_per_s == pytest.approx(50)
    observation.output_tokens = FEWEST_TOKENS - 1
    assert observation.tokens_per_s is None


def test_only_the_beginning_of_the_first_choice_is_kept() -> None:
    observation = Observation()
    for _ in range(1_000):
        observation.took(said("abcdefgh "))
        observation.took(said("other", choice=1))
    assert MOST_READ <= len(observation.text) < MOST_READ + 9 and "other" not in observation.text


def test_a_delta_costs_less_than_two_microseconds() -> None:
    deltas = [said("word ", envelope={"citations": [{"supported": True}]}) for _ in range(1_000)]

    def cost_s() -> float:
        observation, began = Observation(), time.process_time()
        for delta in deltas:
            observation.took(delta)
        return (time.process_time() - began) / len(deltas)

    assert min(cost_s() for _ in range(20)) < 2e-6
