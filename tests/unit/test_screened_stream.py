import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.streams import run
from benchmarks.streams_made import KINDS, known_values
from serve_app.adapters.memory_screener import MemoryScreener
from serve_app.answer_policy import AnswerPolicy
from serve_app.errors import ScreenerUnavailable
from serve_app.events import Delta
from serve_app.leakage import BEGUN, Leakage, letters_of
from serve_app.normalisation import unified
from serve_app.ports import ANY
from serve_app.rules import DenyList
from serve_app.screened_choice import ScreenedAnswer
from serve_app.turn import Finding, Scope, Screening

EMAIL, PHONE, SECRET = "jane.doe@example.com", "415 555 2671", "sk-abcdefgh12345678"
VAULT = {"<EMAIL_ADDRESS_1>": "me@example.org"}
PROMPT = "You are Ada of Northwind Bank. Never speak of the merger with Contoso before the board has announced it."
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n\nEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----"


def make_policy(**changes: Any) -> AnswerPolicy:
    given = {"screener": MemoryScreener(), "vault": {}, "allowed": (), "window": 256, "deadline_s": 5.0, "masks": True}
    deny = DenyList.of(changes.pop("deny", ()))
    return AnswerPolicy(**{**given, "deny": deny, **changes})


def said(*texts: str, choice: int = 0) -> list[Delta]:
    return [*(Delta({"content": text}, choice) for text in texts), Delta({}, choice, "stop")]


async def answer(script: Sequence[Delta], policy: AnswerPolicy | None = None) -> list[Delta]:
    """What leaves, as the guardrail relays it."""
    screened = ScreenedAnswer(policy or make_policy())
    leaving: list[Delta] = []
    for delta in script:
        leaving += await screened.take(delta)
        if screened.denied:
            break
    leaving += await screened.flush()
    return leaving + screened.endings() if screened.denied else leaving


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def arguments_of(deltas: Sequence[Delta]) -> str:
    return "".join(c["function"]["arguments"] for d in deltas for c in d.fields.get("tool_calls", ()))


def reasons(deltas: Sequence[Delta]) -> list[str]:
    return [delta.finish_reason for delta in deltas if delta.finish_reason]


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True) if a < b]


def letters(text: str) -> str:
    return "".join(map(letters_of, text))


# ---- when text leaves


async def test_deltas_with_nothing_to_change_are_relayed_as_they_came() -> None:
    script = [
        Delta({"role": "assistant", "content": ""}),
        Delta({"content": "Hello"}, extras={"logprobs": {"content": [1]}}),
        Delta({"content": " wor"}, extras={"logprobs": {"content": [2]}}),
        Delta({"content": "ld"}, extras={"logprobs": {"content": [3]}}),
        Delta({"content": "!"}, finish_reason="stop"),
    ]
    leaving = await answer(script)
    assert all(left is right for left, right in zip(leaving, script, strict=True))


@pytest.mark.parametrize(
    ("token", "leaves"),
    [
        ("Hello", ""),
        ("Hello ", "Hello "),
        ("One two thr", "One two "),
        ("模型可以回滚到", "模型可以回滚"),
        ("jane.doe", ""),
        ("Ring 415 555", "Ring "),
        ("It is 3\u2009471\u2009", "It is "),
    ],
)
async def test_a_text_leaves_at_the_end_of_its_word_and_a_number_when_it_has_ended(token: str, leaves: str) -> None:
    assert text_of(await ScreenedAnswer(make_policy()).take(Delta({"content": token}))) == leaves


async def test_a_word_leaves_with_the_first_character_after_it() -> None:
    screened = ScreenedAnswer(make_policy())
    assert await screened.take(Delta({"content": "Hello"})) == []
    assert text_of(await screened.take(Delta({"content": " world"}))) == "Hello "


# ---- findings


async def test_a_finding_in_the_answer_is_masked() -> None:
    script = said("Ask ", "jane.", "doe@exam", "ple.com", " or call 415 5", "55 2671", " now.")
    assert text_of(await answer(script)) == "Ask [EMAIL_ADDRESS] or call [PHONE_NUMBER] now."


@pytest.mark.parametrize(
    "written",
    [
        EMAIL.replace("@", "\uff20"),
        "".join(chr(ord(c) + 0xFEE0) for c in EMAIL),
        "\u200b".join(EMAIL),
        "\u200b".join(SECRET),
        "４１５\u2009５５５\u2009２６７１",
        "⁴¹⁵ ⁵⁵⁵ ²⁶⁷¹",
    ],
)
async def test_a_finding_in_disguise_is_masked(written: str) -> None:
    for script in (said(f"It is {written} now"), said(*f"It is {written} now")):
        assert re.fullmatch(r"It is \[[A-Z_]+\] now", text_of(await answer(script)))


async def test_the_scope_of_the_answer_is_told_to_the_screener() -> None:
    screener = CountingScreener()
    await answer(said(f"to {EMAIL} "), make_policy(screener=screener, scope=Scope("strict", answer=True)))
    assert screener.scopes == [Scope("strict", answer=True)]


async def test_a_masked_delta_loses_what_spells_its_tokens() -> None:
    extras = {"logprobs": {"content": [EMAIL]}, "stop_reason": 7}
    leaving = await answer([Delta({"content": f"to {EMAIL}"}, extras=extras, finish_reason="stop")])
    assert leaving == [Delta({"content": "to [EMAIL_ADDRESS]"}, extras={"stop_reason": 7}, finish_reason="stop")]


async def test_what_the_caller_may_see_passes() -> None:
    policy = make_policy(allowed=(f"contact: {EMAIL}, 415 555 2671",))
    assert text_of(await answer(said("Ask ", EMAIL, " or (415) 555-2671", " now"), policy)) == (
        f"Ask {EMAIL} or (415) 555-2671 now"
    )


async def test_version_numbers_and_plain_words_cost_no_call() -> None:
    screener = CountingScreener()
    script = said("Use version ", "1.26.0 ", "on port ", "8000 with 3", " replicas in 350 ms.")
    await answer(script, make_policy(screener=screener))
    assert screener.texts == []


@pytest.mark.parametrize("window", [64, 128, 4_096])
async def test_a_key_block_leaves_nothing_wherever_it_is_cut(window: int) -> None:
    text = f"Here:\n{PEM}\nDone."
    for cut in range(len(text)):
        leaving = await answer(said(text[:cut], text[cut:]), make_policy(window=window))
        assert text_of(leaving) == "Here:\n[API_KEY]\nDone."


@pytest.mark.parametrize("longer_by", range(-60, 20))
async def test_a_key_block_that_fills_the_window_ends_with_its_last_line(longer_by: int) -> None:
    body = "a1" * ((256 + longer_by) // 2 - 27)
    text = f"Here:\n-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\nDone. And so on."
    for cut in (range(0, len(text), 7), ()):
        leaving = await answer(said(*pieces(text, cut)))
        assert text_of(leaving) == "Here:\n[API_KEY]\nDone. And so on."


@pytest.mark.parametrize("window", [64, 128, 1_024])
async def test_a_secret_longer_than_the_window_is_dropped_to_its_end(window: int) -> None:
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQ"] * 60)
    text = f"Here:\n-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\nDone."
    leaving = await answer(said(*pieces(text, range(0, len(text), 7))), make_policy(window=window))
    assert text_of(leaving) == "Here:\n[API_KEY]\nDone."


class NameScreener:
    """Finds Jane Doe, and a street over two words."""

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        names = re.compile("Jane Doe|Elm Street")
        return tuple(
            Screening(tuple(Finding("PERSON", *found.span()) for found in names.finditer(text))) for text in texts
        )


async def test_findings_in_prose_are_masked_sentence_by_sentence() -> None:
    text = "Ask Jane Doe of Elm Street. She knows. Or ask \nElm Street"
    whole = await answer(said(text), make_policy(screener=NameScreener(), prose=True))
    assert text_of(whole) == "Ask [PERSON] of [PERSON]. She knows. Or ask \n[PERSON]"
    assert text_of(await answer(said(*text), make_policy(screener=NameScreener(), prose=True))) == text_of(whole)


# ---- placeholders


@pytest.mark.parametrize(
    "written",
    [
        "<EMAIL_ADDRESS_1>",
        "<EMAIL\\_ADDRESS\\_1>",
        "&lt;EMAIL_ADDRESS_1&gt;",
    ],
)
async def test_placeholders_are_restored_wherever_they_are_split(written: str) -> None:
    text = f"I wrote to {written}."
    for cut in range(len(text)):
        leaving = await answer(said(text[:cut], text[cut:]), make_policy(vault={"<EMAIL_ADDRESS_1>": EMAIL}))
        assert text_of(leaving) == f"I wrote to {EMAIL}."


async def test_an_unknown_placeholder_stays_as_it_is() -> None:
    leaving = await answer(said("See <EMAIL_ADDRESS_7>."), make_policy(vault=VAULT))
    assert text_of(leaving) == "See <EMAIL_ADDRESS_7>."


async def test_arguments_of_a_tool_call_are_restored_as_json() -> None:
    def call(arguments: str, **rest: str) -> Delta:
        return Delta({"tool_calls": [{"index": 0, **rest, "function": {"arguments": arguments}}]})

    script = [
        call("", id="c"),
        call('{"to": "<EMAIL_'),
        call('ADDRESS_1>"}'),
        Delta({}, finish_reason="tool_calls"),
    ]
    leaving = await answer(script, make_policy(vault={"<EMAIL_ADDRESS_1>": 'a "b"@example.com'}))
    assert arguments_of(leaving) == '{"to": "a \\"b\\"@example.com"}'
    assert leaving[0] is script[0]


@pytest.mark.parametrize(
    "told",
    [
        'Übernahme <EMAIL_ADDRESS_1>\n415 555 2671 \\ jane.doe@example.com "\t👩‍💻 x²',
        "sk-abcdefgh12345678\r\njane.doe\uff20example.com \u200b<EMAIL\\_ADDRESS\\_1>",
    ],
)
@pytest.mark.parametrize("as_ascii", [True, False])
async def test_escapes_in_arguments_are_read_and_kept(told: str, as_ascii: bool) -> None:
    shown = re.sub(r"\d{3} \d{3} \d{4}", "[PHONE_NUMBER]", told).replace(SECRET, "[API_KEY]")
    shown = re.sub(r"jane.doe(@|\uff20)example.com", "[EMAIL_ADDRESS]", shown)
    shown = re.sub(r"<EMAIL\\?_ADDRESS\\?_1>", "me@example.org", shown)
    text = json.dumps({"text": told}, ensure_ascii=as_ascii).replace("<", "\\u003c")
    for cut in range(len(text)):
        script = [Delta({"tool_calls": [{"index": 0, "function": {"arguments": t}}]}) for t in (text[:cut], text[cut:])]
        leaving = await answer([*script, Delta({}, finish_reason="stop")], make_policy(vault=VAULT))
        assert json.loads(arguments_of(leaving)) == {"text": shown}


async def test_an_escape_that_never_ends_leaves_as_it_came() -> None:
    script = [Delta({"tool_calls": [{"index": 0, "function": {"arguments": t}}]}) for t in ('{"a": "\\', "u00", "e")]
    assert arguments_of(await answer([*script, Delta({}, finish_reason="length")])) == '{"a": "\\u00e'


async def test_arguments_of_the_older_function_call_are_screened_too() -> None:
    script = [
        Delta({"function_call": {"name": "send", "arguments": '{"to": "<EMAIL_ADDRESS_1>", '}}),
        Delta({"function_call": {"arguments": f'"cc": "{EMAIL[:4]}'}}),
        Delta({"function_call": {"arguments": f'{EMAIL[4:]}"}}'}}, finish_reason="function_call"),
    ]
    leaving = await answer(script, make_policy(vault=VAULT))
    told = "".join(delta.fields["function_call"]["arguments"] for delta in leaving)
    assert told == '{"to": "me@example.org", "cc": "[EMAIL_ADDRESS]"}'


# ---- choices and fields


async def test_choices_do_not_mix() -> None:
    script = [
        Delta({"content": "call 415 555"}, 0),
        Delta({"content": "of 2671 "}, 1),
        Delta({"content": " 2671"}, 0, "stop"),
        Delta({"content": "things"}, 1, "stop"),
    ]
    leaving = await answer(script)
    assert ["".join(d.text for d in leaving if d.choice == n) for n in (0, 1)] == [
        "call [PHONE_NUMBER]",
        "of 2671 things",
    ]


async def test_reasoning_is_screened_and_does_not_wait_for_the_content() -> None:
    script = [
        Delta({"reasoning_content": f"mail is {EMAIL}"}),
        Delta({"content": "Fine"}),
        Delta({}, finish_reason="stop"),
    ]
    leaving = await answer(script)
    assert "".join(d.fields.get("reasoning_content", "") for d in leaving) == "mail is [EMAIL_ADDRESS]"
    assert text_of(leaving) == "Fine"


async def test_a_whole_message_is_screened_in_all_its_texts() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": f'{{"x": "{SECRET}"}}'}}
    whole = Delta({"role": "assistant", "content": f"to {EMAIL}", "tool_calls": [call]}, finish_reason="tool_calls")
    (changed,) = await answer([whole])
    assert changed.fields["content"] == "to [EMAIL_ADDRESS]"
    assert changed.fields["tool_calls"][0]["function"]["arguments"] == '{"x": "[API_KEY]"}'
    assert changed.finish_reason == "tool_calls"


# ---- what may not be said


async def test_a_denied_phrase_ends_the_answer() -> None:
    leaving = await answer(said("We call it ", "Project ", "Xenon", " inside"), make_policy(deny=("project xenon",)))
    assert text_of(leaving) == "We call it "
    assert reasons(leaving) == ["content_filter"]


async def test_a_denied_phrase_that_does_not_come_is_released() -> None:
    leaving = await answer(said("Project ", "Xen", "a is fine"), make_policy(deny=("project xenon",)))
    assert text_of(leaving) == "Project Xena is fine"
    assert reasons(leaving) == ["stop"]


@pytest.mark.parametrize(
    "written",
    [
        "".join(chr(ord(c) + 0xFEE0) if c != " " else c for c in "Project Xenon"),
        "Pro\u200bject\u2060 Xe\u00adnon",
        "Рrоjесt Хеnоn",
        "P r o j e c t  X e n o n",
        "P-r-o-j-e-c-t X-e-n-o-n",
    ],
    ids=["full width", "invisible", "cyrillic", "spaced", "dashed"],
)
async def test_a_denied_phrase_in_disguise_ends_the_answer_wherever_it_is_cut(written: str) -> None:
    text = f"We call it {written} inside"
    for cut in range(len(text)):
        leaving = await answer(said(text[:cut], text[cut:]), make_policy(deny=("project xenon",)))
        assert text_of(leaving) == "We call it "
        assert reasons(leaving) == ["content_filter"]


async def test_the_instructions_are_not_repeated() -> None:
    policy = make_policy(leak=Leakage.of([PROMPT]))
    script = said(*re.findall(r"\S+\s*", f"My instructions: {PROMPT} Ask on."))
    leaving = await answer(script, policy)
    assert text_of(leaving).startswith("My instructions: You are ")
    assert len(letters(text_of(leaving).removeprefix("My instructions: "))) < BEGUN
    assert reasons(leaving) == ["content_filter"]


async def test_a_few_words_of_the_instructions_may_be_said() -> None:
    text = "I am Ada of Northwind Bank. I never speak of the merger with Contoso. Anything else?"
    leaving = await answer(said(*re.findall(r"\S+\s*", text)), make_policy(leak=Leakage.of([PROMPT])))
    assert text_of(leaving) == text


async def test_instructions_in_the_arguments_of_a_tool_call_end_the_answer() -> None:
    arguments = '{"text": "' + PROMPT.replace(" ", "\\n").replace("o", "\\u006f") + '"}'
    script = [Delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments]
    leaving = await answer(script, make_policy(leak=Leakage.of([PROMPT])))
    assert len(json.loads(arguments_of(leaving) + '"}')["text"].replace("\n", "")) < BEGUN
    assert reasons(leaving) == ["content_filter"]


async def test_the_instructions_are_not_repeated_around_a_tool_call_either() -> None:
    call = Delta({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
    words = re.findall(r"\S+\s*", PROMPT)
    script = [delta for word in words for delta in (Delta({"content": word}), call)]
    leaving = await answer(script, make_policy(leak=Leakage.of([PROMPT])))
    assert len(text_of(leaving).split()) < 12
    assert reasons(leaving) == ["content_filter"]


# ---- a screener that is not there


class BrokenScreener:
    calls = 0

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        self.calls += 1
        raise ScreenerUnavailable("gone")


class SleepingScreener:
    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        await asyncio.Event().wait()
        return ()


class ForgetfulScreener:
    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        return ()


@pytest.mark.parametrize("screener", [BrokenScreener(), SleepingScreener(), ForgetfulScreener()])
async def test_a_screener_that_fails_releases_nothing_that_was_held(screener: Any) -> None:
    screened = ScreenedAnswer(make_policy(screener=screener, deadline_s=0.02))
    assert text_of(await screened.take(Delta({"content": "Write to "}))) == "Write to "
    with pytest.raises(ScreenerUnavailable):
        await screened.take(Delta({"content": f"{EMAIL} now"}))


async def test_a_policy_may_let_the_answer_go_on_without_a_screener() -> None:
    screener = BrokenScreener()
    policy = make_policy(screener=screener, open_when_down=True, vault=VAULT, deny=("project xenon",))
    screened = ScreenedAnswer(policy)
    leaving = await screened.take(Delta({"content": "To <EMAIL_ADDRESS_1> "}))
    assert not screened.unscreened
    leaving += await screened.take(Delta({"content": f"and {EMAIL} or {PHONE} about Project Xenon. "}))
    assert text_of(leaving) == f"To me@example.org and {EMAIL} or {PHONE} about "
    assert screened.unscreened and screened.denied
    assert screener.calls == 1


# ---- invariants: the way a text is cut into deltas changes nothing


@dataclass
class CountingScreener:
    texts: list[str] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        self.texts += texts
        self.scopes.append(scope)
        return tuple(Screening() for _ in texts)


FRAGMENTS = st.sampled_from(
    [EMAIL, PHONE, SECRET, "<EMAIL_ADDRESS_1>", "<PHONE_NUMBER_2>", "project", "xenon", "Project Xenon", "PROJECT\n"]
    + ["the", "model", " ", "  ", "\n", ". ", ", ", "(", ")", "-", "1.26.0", "8000", "42", "模型", "三", "@", "ext. 7"]
    + ["-----BEGIN", " PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN1\n-----END PRIVATE KEY-----"]
    + ["ß", "x" * 90, "a1" * 60, "\u200b", "\uff20", "½", "e\u0301", "Рrоjесt", "p r o j e c t x e", " n o n "]
    + [PROMPT[:40], PROMPT[40:], PROMPT, "never speak of the merger", "\ud83d", "👩\u200d💻"]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=4), max_size=14).map("".join)
CUTS = st.lists(st.integers(min_value=0, max_value=2_000), max_size=30)
LEAK = Leakage.of([PROMPT])


@settings(max_examples=400, deadline=None)
@given(
    text=TEXTS,
    cuts=CUTS,
    window=st.sampled_from([64, 256]),
    deny=st.sampled_from([(), ("project xenon", "the")]),
    leak=st.sampled_from([None, LEAK]),
    prose=st.booleans(),
)
async def test_what_leaves_does_not_depend_on_the_deltas(
    text: str, cuts: list[int], window: int, deny: tuple[str, ...], leak: Leakage | None, prose: bool
) -> None:
    policy = make_policy(window=window, deny=deny, vault=VAULT, leak=leak, prose=prose)
    whole = await answer(said(text), policy)
    split = await answer(said(*pieces(text, cuts)), policy)
    assert text_of(split) == text_of(whole)
    assert reasons(split) == reasons(whole)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cuts=CUTS, window=st.sampled_from([64, 256]), as_ascii=st.booleans())
async def test_arguments_stay_json_and_are_screened_as_what_they_say(
    text: str, cuts: list[int], window: int, as_ascii: bool
) -> None:
    def call(arguments: str) -> Delta:
        return Delta({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})

    policy = make_policy(window=window, vault=VAULT)
    text = text.replace("-----BEGIN", "-----END")  # a key that never ends takes the rest of the JSON with it
    written = json.dumps([f"{text} {EMAIL} {text}"], ensure_ascii=as_ascii)
    finish = Delta({}, finish_reason="tool_calls")
    whole = arguments_of(await answer([call(written), finish], policy))
    assert arguments_of(await answer([*map(call, pieces(written, cuts)), finish], policy)) == whole
    (told,) = json.loads(whole)
    assert EMAIL not in told


@settings(max_examples=300, deadline=None)
@given(
    before=TEXTS,
    after=TEXTS,
    cuts=CUTS,
    value=st.sampled_from(["max@firma.example", "+49 30 1234567", "sk-zz9988776655443322", PEM]),
)
async def test_no_masked_value_leaves_however_it_is_cut(before: str, after: str, cuts: list[int], value: str) -> None:
    assert value not in text_of(await answer(said(*pieces(f"{before} {value} {after}", cuts))))


@settings(max_examples=300, deadline=None)
@given(
    before=TEXTS,
    after=TEXTS,
    cuts=CUTS,
    phrase=st.sampled_from(
        ["project xenon", "Project\n Xenon", "PROJECT XENON", "Рrоjесt Хеnоn", "ｐroject x\u200benon"]
    ),
)
async def test_no_denied_phrase_leaves_however_it_is_cut(before: str, after: str, cuts: list[int], phrase: str) -> None:
    deltas = said(*pieces(f"{before} {phrase} {after}", cuts))
    leaving = await answer(deltas, make_policy(deny=("project xenon",)))
    assert DenyList.of(("project xenon",)).find(text_of(leaving)) < 0  # type: ignore[union-attr]
    assert reasons(leaving) == ["content_filter"]


@settings(max_examples=300, deadline=None)
@given(before=TEXTS, after=TEXTS, cuts=CUTS)
async def test_no_run_of_the_instructions_leaves_however_it_is_cut(before: str, after: str, cuts: list[int]) -> None:
    leaving = await answer(said(*pieces(f"{before} {PROMPT} {after}", cuts)), make_policy(leak=LEAK))
    words = [letters(word) for word in PROMPT.split()]
    runs = ["".join(words[n : n + 12]) for n in range(len(words) - 11)]
    assert not any(run in letters(text_of(leaving)) for run in runs)
    assert reasons(leaving) == ["content_filter"]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, cuts=CUTS, window=st.sampled_from([16, 256]), prose=st.booleans())
async def test_no_text_is_lost_when_nothing_is_found(text: str, cuts: list[int], window: int, prose: bool) -> None:
    policy = make_policy(screener=CountingScreener(), window=window, prose=prose)
    assert text_of(await answer(said(*pieces(text, cuts)), policy)) == text


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, cuts=CUTS, prose=st.booleans())
async def test_at_most_a_window_is_held(text: str, cuts: list[int], prose: bool) -> None:
    screened = ScreenedAnswer(make_policy(screener=CountingScreener(), window=64, prose=prose))
    taken = left = 0
    for piece in pieces(text, cuts):
        taken += len(piece)
        left += len(text_of(await screened.take(Delta({"content": piece}))))
        invisible = sum(unified(character) == "" for character in text)
        assert taken - left <= 64 + len(piece) + invisible


# ---- whole answers, made by a seed


async def test_nothing_leaks_from_three_hundred_made_answers() -> None:
    screener = MemoryScreener()
    values = await known_values(screener, 40)
    assert min(map(len, values.values())) > 10
    outcome, _ = await run(300, screener, values)
    assert outcome.planted.keys() == set(KINDS)
    assert not +outcome.leaked and not outcome.differing
