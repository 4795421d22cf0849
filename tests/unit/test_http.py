import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from serve_app.errors import EngineFailed, ScreenerUnavailable
from serve_app.http.app import Gateway, create_app
from serve_app.http.health import Readiness
from serve_app.selection import SPARE
from tests.builders import KEY, ListRetriever, OpenScreener, ScriptedEngine, gateway, passage, settings

QUESTION = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}]}


async def call(behind: Gateway, method: str, path: str, **sent: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}", **sent.pop("headers", {})}
    transport = httpx.ASGITransport(create_app(behind), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, headers=headers, **sent)


async def ask(behind: Gateway | None = None, **changes: Any) -> httpx.Response:
    return await call(behind or gateway(), "POST", "/v1/chat/completions", json={**QUESTION, **changes})


def frames(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


async def test_an_answer_has_openais_shape() -> None:
    body = (await ask()).json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "Hello world."
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


async def test_a_stream_ends_with_done_and_shares_one_id() -> None:
    chunks = frames(await ask(stream=True))
    assert chunks[-1] == "[DONE]"
    assert {chunk["object"] for chunk in chunks[:-1]} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
    assert "usage" not in chunks[0]


async def test_usage_on_a_stream_is_one_more_chunk_and_null_before() -> None:
    chunks = frames(await ask(stream=True, stream_options={"include_usage": True}))
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["total_tokens"] == 7
    assert all(chunk["usage"] is None for chunk in chunks[:-2])


async def test_the_headers_say_what_happened() -> None:
    response = await ask(headers={})
    assert response.headers["x-manta-model"] == "small"
    assert response.headers["x-manta-route"] == "explicit"
    assert "engine;dur=" in response.headers["server-timing"]
    assert response.headers["x-ratelimit-limit-requests"] == "600"
    assert "x-manta-degraded" not in response.headers


async def test_a_request_id_is_echoed_and_made_where_there_is_none() -> None:
    sent = {"json": QUESTION, "headers": {"x-request-id": "mine-1"}}
    assert (await call(gateway(), "POST", "/v1/chat/completions", **sent)).headers["x-request-id"] == "mine-1"
    assert len((await ask()).headers["x-request-id"]) == 32


async def test_citations_are_annotations_and_a_list() -> None:
    engine = ScriptedEngine(pieces=("It rolls ", "back [1]."))
    behind = gateway(engine=engine, retriever=ListRetriever((passage(),)))
    body = (await ask(behind, model="auto")).json()
    note = body["choices"][0]["message"]["annotations"][0]["url_citation"]
    content = body["choices"][0]["message"]["content"]
    assert content[note["start_index"] : note["end_index"]] == "[1]"
    assert body["citations"][0]["source"] == "guide.md"


async def test_openais_file_search_tool_asks_for_passages_and_is_not_sent_on() -> None:
    engine, retriever = ScriptedEngine(), ListRetriever((passage(),))
    tools = [{"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 3}]
    await ask(gateway(engine=engine, retriever=retriever), tools=tools)
    assert (retriever.asked[0].stores, retriever.asked[0].top_k) == (("vs_1",), 3 + SPARE)
    assert "tools" not in engine.turns[0].parameters


async def test_parameters_reach_the_engine_untouched() -> None:
    engine = ScriptedEngine()
    sent = {
        "temperature": 0.5,
        "seed": 7,
        "logprobs": True,
        "response_format": {"type": "json_object"},
        "unheard_of": [1],
    }
    function = {"type": "function", "function": {"name": "f", "parameters": {}}}
    await ask(gateway(engine=engine), tools=[function], **sent)
    assert engine.turns[0].parameters == {**sent, "tools": [function]}


async def test_a_json_body_without_a_json_content_type_is_read() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = await call(gateway(), "POST", "/v1/chat/completions", content=json.dumps(QUESTION), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer wrong"])
async def test_no_or_an_unknown_key_is_401(header: str) -> None:
    response = await call(gateway(), "POST", "/v1/chat/completions", json=QUESTION, headers={"authorization": header})
    assert (response.status_code, error(response)["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"n": 1000}, "n"),
        ({"manta": {"retrival": True}}, "manta.retrival"),
        ({"tools": [{"type": "file_search", "max_num_results": "many"}]}, "tools"),
    ],
)
async def test_a_bad_field_is_400_and_named(sent: dict[str, Any], param: str) -> None:
    response = await ask(**sent)
    assert (response.status_code, error(response)["param"]) == (400, param)
    assert param.split(".")[0] in error(response)["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xfe", b""])
async def test_a_body_that_is_not_a_json_object_is_400(body: bytes) -> None:
    response = await call(gateway(), "POST", "/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert "JSON" in error(response)["message"]


async def test_an_unknown_model_is_404() -> None:
    response = await ask(model="gpt-9")
    assert (response.status_code, error(response)["code"]) == (404, "model_not_found")


async def test_a_body_over_the_limit_is_413() -> None:
    behind = gateway(settings(http={"max_body_bytes": 100}))
    response = await ask(behind, messages=[{"role": "user", "content": "x" * 200}])
    assert response.status_code == 413


async def test_over_the_rate_is_429_with_the_time_to_wait() -> None:
    behind = gateway(settings(keys=[{**settings().keys[0].model_dump(exclude_none=True), "requests_per_minute": 1}]))
    await ask(behind)
    response = await ask(behind)
    assert (response.status_code, response.headers["retry-after"]) == (429, "60")
    assert response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_blocked_question_is_400_content_filter_and_is_not_repeated() -> None:
    response = await ask(gateway(screener=OpenScreener(forbidden="Hello")))
    assert (response.status_code, error(response)["code"]) == (400, "content_filter")
    assert "Hello" not in response.text


async def test_a_dead_screener_is_503() -> None:
    response = await ask(gateway(screener=OpenScreener(failure=ScreenerUnavailable("the screener is gone"))))
    assert response.status_code == 503


async def test_an_engine_that_dies_before_the_first_token_is_502_even_on_a_stream() -> None:
    engine = ScriptedEngine(dies_at=0, failure=EngineFailed("the engine is gone"))
    response = await ask(gateway(engine=engine), stream=True)
    assert (response.status_code, error(response)["code"]) == (502, "engine_failed")


async def test_an_engine_that_dies_later_ends_the_stream_with_an_error_event_and_done() -> None:
    engine = ScriptedEngine(pieces=("One. ", "Two. ", "Three."), dies_at=2, failure=EngineFailed("the engine is gone"))
    chunks = frames(await ask(gateway(engine=engine), stream=True))
    assert chunks[-2]["error"]["code"] == "engine_failed"
    assert chunks[-1] == "[DONE]"


class Broken:
    async def generate(self, turn: object) -> Any:
        raise ZeroDivisionError("secret detail")
        yield


async def test_what_nobody_foresaw_is_a_500_without_its_details() -> None:
    response = await ask(gateway(engine=Broken()))
    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert error(response)["type"] == "api_error"


async def test_unknown_paths_and_methods_answer_in_the_same_shape() -> None:
    assert error(await call(gateway(), "GET", "/v2/chat"))["code"] == "not_found"
    assert (await call(gateway(), "GET", "/v1/chat/completions")).status_code == 405


async def test_models_are_listed_with_the_router_first_and_ids_may_hold_slashes() -> None:
    behind = gateway(
        settings(
            models={"Qwen/Qwen3-0.6B": {"application": "q", "engine": "vllm"}},
            router={"small": "Qwen/Qwen3-0.6B", "large": "Qwen/Qwen3-0.6B"},
        )
    )
    listed = (await call(behind, "GET", "/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["auto", "Qwen/Qwen3-0.6B", "all-MiniLM-L6-v2"]
    assert (await call(behind, "GET", "/v1/models/Qwen/Qwen3-0.6B")).json() == listed[1]
    assert (await call(behind, "GET", "/v1/models/Qwen/Qwen3-0.6B@1")).json()["id"] == "Qwen/Qwen3-0.6B@1"
    assert (await call(behind, "GET", "/v1/models/Qwen/Qwen3-0.6B@2")).status_code == 404
    assert (await call(behind, "GET", "/v1/models/none")).status_code == 404


async def test_embeddings_come_as_floats_or_base64() -> None:
    asked = {"model": "all-MiniLM-L6-v2", "input": ["a", "b"]}
    floats = (await call(gateway(), "POST", "/v1/embeddings", json=asked)).json()
    packed = (await call(gateway(), "POST", "/v1/embeddings", json={**asked, "encoding_format": "base64"})).json()
    assert [len(row["embedding"]) for row in floats["data"]] == [384, 384]
    assert isinstance(packed["data"][0]["embedding"], str)
    assert floats["usage"]["prompt_tokens"] > 0


async def test_completions_answer_with_text() -> None:
    class Completing:
        async def generate(self, turn: Any) -> Any:
            from serve_app.events import Delta, Finished

            yield Delta({"text": turn.question.upper()}, finish_reason="stop")
            yield Finished(prompt_tokens=1, output_tokens=1)

    asked = {"model": "small", "prompt": "once upon"}
    body = (await call(gateway(engine=Completing()), "POST", "/v1/completions", json=asked)).json()
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "ONCE UPON")


async def test_live_depends_on_nothing_and_ready_names_the_missing_part() -> None:
    async def gone() -> None:
        raise ScreenerUnavailable("the screener is gone")

    behind = gateway(readiness=Readiness(required={"screener": gone}, optional={}))
    assert (await call(behind, "GET", "/health/live")).status_code == 200
    ready = await call(behind, "GET", "/health/ready")
    assert (ready.status_code, ready.json()["parts"]) == (503, {"screener": "the screener is gone"})


async def test_metrics_need_a_key_unless_the_config_opens_them() -> None:
    nobody = {"headers": {"authorization": ""}}
    assert (await call(gateway(), "GET", "/metrics", **nobody)).status_code == 401
    opened = gateway(settings(http={"public_metrics": True}))
    assert "manta_turns_total" in (await call(opened, "GET", "/metrics", **nobody)).text


async def test_the_documentation_shows_the_request_bodies() -> None:
    paths = (await call(gateway(), "GET", "/openapi.json")).json()["paths"]
    body = paths["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"model", "messages", "manta"} <= body["properties"].keys()
    assert "$ref" not in json.dumps(body)
    without = [path for path, methods in paths.items() if "requestBody" not in methods.get("post", {"requestBody": {}})]
    assert [path for path in without if not path.endswith("/cancel")] == []


async def test_the_documentation_page_needs_nothing_from_elsewhere() -> None:
    page = (await call(gateway(), "GET", "/docs")).text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert assets
    for asset in assets:
        assert (await call(gateway(), "GET", asset)).status_code == 200


async def test_a_client_that_hangs_up_stops_the_engine() -> None:
    """Driven at ASGI level: the client disconnects after the second piece of the body."""
    hung_up = asyncio.Event()

    class Endless:
        said, closed = 0, False

        async def generate(self, turn: Any) -> Any:
            from serve_app.events import Delta

            try:
                while True:
                    self.said += 1
                    yield Delta({"content": "word "})
                    await asyncio.sleep(0)
            finally:
                self.closed = True

    engine, sent = Endless(), []
    body = json.dumps({**QUESTION, "stream": True}).encode()
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in received:
            return message
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            hung_up.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"authorization", f"Bearer {KEY}".encode())],
        "query_string": b"",
    }
    async with asyncio.timeout(5):
        await create_app(gateway(engine=engine))(scope, receive, send)
    assert engine.closed
    assert engine.said < 50
