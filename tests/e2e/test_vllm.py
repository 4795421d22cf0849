"""vLLM's CPU build for real, on the checkpoint the project makes: one rank, two ranks, and what must survive."""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext

import httpx
import openai
import psutil
import pytest
from tokenizers import Tokenizer

from tests.e2e.conftest import KEY, Running

pytestmark = [pytest.mark.ray, pytest.mark.vllm]

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "set_volume",
        "parameters": {
            "type": "object",
            "properties": {"level": {"type": "string", "enum": ["low", "high"]}},
            "required": ["level"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("model", ["demo", "demo-tp2"])
def test_vllm_answers_on_one_rank_and_on_two(service: Running, model: str) -> None:
    answer = service.client().chat.completions.create(model=model, messages=HELLO, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.model == model


def test_one_and_two_ranks_say_the_same(service: Running) -> None:
    said = [
        service.client()
        .chat.completions.create(model=model, messages=HELLO, max_tokens=4, temperature=0)
        .choices[0]
        .message.content
        for model in ("demo", "demo-tp2")
    ]
    assert said[0] == said[1]


def test_a_seed_makes_a_sampled_answer_repeatable_streamed_or_not(service: Running) -> None:
    client = service.client()
    asked = {"model": "demo", "messages": HELLO, "max_tokens": 12, "seed": 7, "temperature": 1.0}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices) == whole


def test_choices_and_logprobs_come_back(service: Running) -> None:
    answer = service.client().chat.completions.create(
        model="demo", messages=HELLO, max_tokens=3, n=2, logprobs=True, top_logprobs=2, temperature=1.0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert [len(token.top_logprobs) for token in choice.logprobs.content or []] == [2, 2, 2]


@pytest.fixture(scope="module")
def no_blanks(service: Running) -> dict[str, int]:
    """A logit bias against whitespace: a model that says noise fills the blanks that JSON allows for ever."""
    tokenizer = Tokenizer.from_file(str(service.folder / "models" / "demo" / "tokenizer.json"))
    texts = {number: tokenizer.decode([number]) for number in range(tokenizer.get_vocab_size())}
    return {str(number): -100 for number, text in texts.items() if text and not text.strip()}


def test_a_named_tool_is_called_with_arguments_that_fit_its_schema(service: Running, no_blanks: dict[str, int]) -> None:
    answer = service.client().chat.completions.create(
        model="demo",
        messages=HELLO,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "set_volume"}},
        logit_bias=no_blanks,
        max_tokens=64,
        temperature=0,
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.name == "set_volume"
    assert json.loads(call.function.arguments)["level"] in ("low", "high")


def test_a_json_schema_is_kept(service: Running, no_blanks: dict[str, int]) -> None:
    schema = TOOL["function"]["parameters"]  # type: ignore[index]
    answer = service.client().chat.completions.create(
        model="demo",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "volume", "schema": schema}},
        logit_bias=no_blanks,
        max_tokens=64,
        temperature=0,
    )
    assert json.loads(answer.choices[0].message.content or "")["level"] in ("low", "high")


def test_completions_with_echoed_logprobs(service: Running) -> None:
    answer = service.client().completions.create(
        model="demo", prompt="def main", max_tokens=5, logprobs=1, temperature=0
    )
    assert answer.choices[0].text
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.tokens or []) == 5


def test_passages_reach_the_model_as_sources(service: Running, documents: str) -> None:
    tools = [{"type": "file_search", "vector_store_ids": [documents]}]
    bare = service.ask(model="demo", max_tokens=1).json()["usage"]["prompt_tokens"]
    grounded = service.ask(model="demo", max_tokens=1, tools=tools).json()["usage"]["prompt_tokens"]
    assert grounded > bare + 50


@pytest.mark.parametrize("model", ["demo", "extractive"])
def test_a_prompt_beyond_the_context_is_refused_by_its_code(service: Running, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        service.client().chat.completions.create(model=model, messages=[{"role": "user", "content": "again " * 12_000}])
    assert refused.value.code == "context_length_exceeded"


def test_a_value_that_vllm_refuses_is_400_with_its_words(service: Running) -> None:
    response = service.ask(model="demo", top_k=-5)
    assert response.status_code == 400
    assert "top_k" in response.json()["error"]["message"]


def engine_metrics() -> dict[str, float]:
    """vLLM's own counters for the model `demo`, as Ray exports them every ten seconds."""
    import ray

    [node] = [node for node in ray.nodes() if node["Alive"]]
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=10).text
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("ray_vllm") and 'model_name="demo"' in line:
            name, value = line.split("{")[0], line.rsplit(" ", 1)[1]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def settled_tokens() -> float:
    """Generated tokens by the engine's count, once two exports ten seconds apart agree that nothing runs."""
    deadline, before = time.monotonic() + 60, -1.0
    while time.monotonic() < deadline:
        time.sleep(11)
        metrics = engine_metrics()
        tokens = metrics.get("ray_vllm_generation_tokens_total", 0.0)
        if tokens == before and metrics.get("ray_vllm_num_requests_running", 0.0) == 0:
            return tokens
        before = tokens
    raise AssertionError(f"the engine did not come to rest: {engine_metrics()}")


def ask_and_leave(service: Running, *, stream: bool, tokens: int) -> None:
    """Leaves a stream after its first lines, and a whole answer after half a second of waiting for it."""
    asked = {"model": "demo", "messages": HELLO, "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    sent = {"json": asked, "headers": {"authorization": f"Bearer {KEY}"}}
    with (
        httpx.Client(timeout=30 if stream else 0.5) as client,
        client.stream("POST", f"{service.url}/v1/chat/completions", **sent) as response,
    ):
        lines = response.iter_lines()
        for _ in range(6):
            next(lines)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_hangs_up_stops_the_engine(service: Running, stream: bool) -> None:
    """By the engine's own count: an answer of 1,900 tokens, left early, is not generated to its end."""
    wanted, before = 1_900, settled_tokens()
    with nullcontext() if stream else pytest.raises(httpx.ReadTimeout):
        ask_and_leave(service, stream=stream, tokens=wanted)
    assert 0 < settled_tokens() - before < wanted * 0.6


def test_an_engine_that_dies_ends_the_stream_with_an_error_event_and_comes_back(
    service: Running, replica: Callable[[str], psutil.Process]
) -> None:
    """Last in the file: the replica needs a while to load its model again."""
    asked = {"model": "demo", "stream": True, "max_tokens": 1_900, "ignore_eos": True}
    asked["messages"] = [{"role": "user", "content": "Hello"}]
    headers = {"authorization": f"Bearer {KEY}"}
    lines = []
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=asked, headers=headers, timeout=60) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if len(lines) == 10:
                replica("demo:engine").kill()
    frames = [line.removeprefix("data: ") for line in lines if line]
    assert frames[-1] == "[DONE]"
    assert json.loads(frames[-2])["error"]["code"] == "engine_failed"
    before_the_first_token = service.ask(model="demo", stream=True, max_tokens=4)
    assert before_the_first_token.status_code in (502, 503)
    assert before_the_first_token.json()["error"]["code"] == "engine_failed"
