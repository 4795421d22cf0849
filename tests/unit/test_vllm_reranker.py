"""The client of `/v1/rerank` against a server that answers what the test says; the real ones are in the contract."""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.adapters.rerankers import reranker_of
from serve_app.adapters.vllm_reranker import VllmReranker, logistic
from serve_app.errors import RerankerUnavailable
from serve_app.settings import RerankerSettings
from serve_app.turn import Passage

KEY = "sk-of-the-server"
PASSAGES = tuple(Passage(f"c{number}", f"text {number}", 0.5, "f1", "a.md") for number in range(3))


def results(*scored: tuple[int, Any]) -> dict[str, Any]:
    return {"id": "r", "results": [{"index": index, "relevance_score": score} for index, score in scored]}


@dataclass
class Server:
    """Speaks just enough HTTP/1.1; keeps what it was sent, and who hung up before it had answered."""

    answer: Callable[[dict[str, Any]], Any] = lambda asked: results((2, 0.3), (0, 0.9), (1, 0.0))
    status: int = 200
    hangs: bool = False
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    conversations: dict["asyncio.Task[None] | None", asyncio.StreamWriter] = field(default_factory=dict)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.conversations[asyncio.current_task()] = writer
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = next(line.split(":")[1] for line in head.lower().split("\r\n") if "content-length" in line)
                self.heads.append(head)
                self.asked.append(json.loads(await reader.readexactly(int(length))))
                if self.hangs:
                    assert await reader.read() == b""
                    self.left.set()
                    return
                answer = self.answer(self.asked[-1])
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 %d Said\r\ncontent-length: %d\r\n\r\n%b" % (self.status, len(body), body))
                await writer.drain()
        except asyncio.IncompleteReadError:
            return  # The client closed its idle connection.
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer in self.conversations.values():
                writer.close()
            await asyncio.gather(*filter(None, self.conversations))


@asynccontextmanager
async def client_of(server: Server, deadline_s: float = 10, **options: Any) -> AsyncIterator[VllmReranker]:
    client = VllmReranker(f"http://127.0.0.1:{server.port}", "judge", deadline_s, **options)
    try:
        yield client
    finally:
        await client.aclose()


async def asked_of(server: Server, **options: Any) -> tuple[float, ...]:
    async with server.running(), client_of(server, **options) as client:
        return await client.rerank("What?", PASSAGES)


async def test_scores_are_put_into_the_order_of_the_passages() -> None:
    assert await asked_of(Server()) == (0.9, 0.0, 0.3)


async def test_the_server_is_asked_in_the_documented_shape_and_told_to_cut() -> None:
    server = Server()
    await asked_of(server, key=KEY)
    assert server.asked == [
        {
            "model": "judge",
            "query": "What?",
            "documents": ["text 0", "text 1", "text 2"],
            "truncate_prompt_tokens": -1,
        }
    ]
    assert server.heads[0].startswith("POST /v1/rerank HTTP/1.1")
    assert f"authorization: Bearer {KEY}".lower() in server.heads[0].lower()


async def test_no_key_sends_no_authorization() -> None:
    server = Server()
    await asked_of(server)
    assert "authorization" not in server.heads[0].lower()


async def test_calls_one_after_the_other_share_a_connection() -> None:
    server = Server()
    async with server.running(), client_of(server) as client:
        for _ in range(5):
            await client.rerank("What?", PASSAGES)
    assert (len(server.asked), len(server.conversations)) == (5, 1)


async def test_logits_become_probabilities() -> None:
    server = Server(answer=lambda asked: results((0, 0.0), (1, -800), (2, 3)))
    assert await asked_of(server, logits=True) == pytest.approx((0.5, 0.0, 1 / (1 + math.exp(-3))))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_the_logistic_function_stays_in_bounds_and_keeps_the_order(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= logistic(low) <= logistic(high) <= 1


@pytest.mark.parametrize("score", [3.25, -0.01])
async def test_a_score_that_is_no_probability_names_the_setting(score: float) -> None:
    server = Server(answer=lambda asked: results((0, 0.5), (1, score), (2, 0.5)))
    with pytest.raises(RerankerUnavailable, match=rf"score {score}.*set retriever\.reranker\.scores to logits"):
        await asked_of(server)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (results((0, 0.5), (2, 0.5)), "for the passages 0, 2 where 3 were sent"),
        (results((0, 0.5), (1, 0.5), (1, 0.5)), "for the passages 0, 1, 1 where 3 were sent"),
        (results((0, 0.5), (1, 0.5), (2, 0.5), (3, 0.5)), "for the passages 0, 1, 2, 3 where 3 were sent"),
        (results((-1, 0.5), (0, 0.5), (1, 0.5)), "for the passages -1, 0, 1 where 3 were sent"),
        (results(), r"for the passages \(none\) where 3 were sent"),
        (results(*((number, 0.5) for number in range(40))), r"0, 1, .*, 9, \.\.\. where 3 were sent"),
        (results((0, 0.5), (1, math.nan), (2, 0.5)), "results.1.relevance_score Input should be a finite number"),
        (results((0, 0.5), (1, math.inf), (2, 0.5)), "results.1.relevance_score Input should be a finite number"),
        (results((0, 0.5), (1, None), (2, 0.5)), "results.1.relevance_score Input should be a valid number"),
        ({"data": []}, "results Field required"),
        ([0.1, 0.2, 0.3], "something else than results"),
        (b"<html>Bad gateway</html>", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
async def test_a_wrong_answer_is_an_error_that_names_what_came(answer: Any, said: str) -> None:
    with pytest.raises(RerankerUnavailable, match=f"reranker 'judge' at http://127.0.0.1:.*{said}"):
        await asked_of(Server(answer=lambda asked: answer))


async def test_an_error_of_the_server_is_repeated_on_one_short_line() -> None:
    server = Server(answer=lambda asked: ("out of\n memory " + "x" * 5_000).encode(), status=500)
    with pytest.raises(RerankerUnavailable, match="answered 500: out of memory xx") as caught:
        await asked_of(server)
    assert len(str(caught.value)) < 320


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_names_the_setting_and_not_the_key(status: int) -> None:
    with pytest.raises(RerankerUnavailable, match=rf"answered {status}: .*retriever\.reranker\.key_env") as caught:
        await asked_of(Server(answer=lambda asked: {"error": KEY}, status=status), key=KEY)
    assert KEY not in str(caught.value)


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    with pytest.raises(RerankerUnavailable, match="answered 307"):
        await asked_of(Server(status=307), key=KEY)


async def test_a_hanging_server_costs_the_deadline_and_is_hung_up_on() -> None:
    server = Server(hangs=True)
    async with server.running(), client_of(server, deadline_s=0.2) as client, asyncio.timeout(10):
        with pytest.raises(RerankerUnavailable, match="no answer within 200 ms"):
            await client.rerank("What?", PASSAGES)
        await server.left.wait()


async def test_a_cancelled_call_stays_cancelled_and_hangs_up() -> None:
    server = Server(hangs=True)
    async with server.running(), client_of(server) as client, asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.rerank("What?", PASSAGES)
        await server.left.wait()


async def test_many_hanging_calls_leave_room_for_the_next() -> None:
    """A pool that a hanging server could fill would keep the service from its recovery."""
    server = Server(hangs=True)
    async with server.running(), client_of(server, deadline_s=1) as client, asyncio.timeout(20):
        calls = [client.rerank("What?", PASSAGES) for _ in range(150)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        server.hangs = False
        assert {type(outcome) for outcome in outcomes} == {RerankerUnavailable}
        assert await client.rerank("What?", PASSAGES) == (0.9, 0.0, 0.3)


async def test_nobody_listening_is_said_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with client_of(Server(port=port)) as client:
        with pytest.raises(RerankerUnavailable, match=f"at http://127.0.0.1:{port}/v1/rerank failed: ConnectError"):
            await client.rerank("What?", PASSAGES)


async def test_a_restarted_server_is_found_again_by_the_same_client() -> None:
    server = Server()
    async with server.running():
        client = VllmReranker(f"http://127.0.0.1:{server.port}", "judge", 10)
        await client.rerank("What?", PASSAGES)
    for _ in range(3):
        with pytest.raises(RerankerUnavailable):
            await client.rerank("What?", PASSAGES)
        async with server.running():
            assert await client.rerank("What?", PASSAGES) == (0.9, 0.0, 0.3)
    await client.aclose()


async def test_no_passages_need_no_call() -> None:
    server = Server()
    async with server.running(), client_of(server) as client:
        assert await client.rerank("What?", ()) == ()
    assert server.asked == []


async def test_a_lone_surrogate_travels_as_a_question_mark() -> None:
    server = Server(answer=lambda asked: results((0, 0.5)))
    async with server.running(), client_of(server) as client:
        await client.rerank("a\ud800b", (Passage("c", "c\udfffd", 0.5, "f", "s"),))
    assert (server.asked[0]["query"], server.asked[0]["documents"]) == ("a?b", ["c?d"])


def settings(**changes: Any) -> RerankerSettings:
    return RerankerSettings.model_validate({"backend": "vllm", "url": "http://127.0.0.1:8000", **changes})


async def test_the_key_comes_from_the_environment_without_its_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKER_KEY", f"{KEY}\n")
    server = Server()
    async with server.running():
        client = reranker_of(settings(url=f"http://127.0.0.1:{server.port}/", key_env="RERANKER_KEY"))
        assert isinstance(client, VllmReranker)
        await client.rerank("What?", PASSAGES)
        await client.aclose()
    assert f"Bearer {KEY}\r\n" in server.heads[0]
    assert server.heads[0].startswith("POST /v1/rerank ")


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("RERANKER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("RERANKER_KEY", value)
    with pytest.raises(ValueError, match=r"retriever\.reranker\.key_env: the environment variable 'RERANKER_KEY'"):
        reranker_of(settings(key_env="RERANKER_KEY"))


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKER_KEY", "sk-first\nsk-second")
    with pytest.raises(ValueError, match="'RERANKER_KEY' holds characters") as caught:
        reranker_of(settings(key_env="RERANKER_KEY"))
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://host:8000", "http://host:8000/v1/rerank"),
        ("http://host:8000/", "http://host:8000/v1/rerank"),
        ("https://api.example.com/v2", "https://api.example.com/v2/rerank"),
        ("https://api.example.com/llm/v1/", "https://api.example.com/llm/v1/rerank"),
    ],
)
def test_a_path_stands_in_place_of_the_version(url: str, asked: str) -> None:
    client = reranker_of(settings(url=url))
    assert isinstance(client, VllmReranker)
    assert str(client.url) == asked


@pytest.mark.parametrize("backend", ["vllm", "triton"])
@pytest.mark.parametrize("url", ["", "host", "ftp://host:1", "http://", "grpc://host:8001", "http://a b"])
def test_a_url_that_the_backend_cannot_reach_is_refused(backend: str, url: str) -> None:
    with pytest.raises(ValueError, match="`url`"):
        settings(backend=backend, url=url)


@pytest.mark.parametrize("backend", ["off", "embedded"])
def test_a_url_without_a_server_is_refused(backend: str) -> None:
    with pytest.raises(ValueError, match="`url`"):
        settings(backend=backend)


def test_a_key_where_none_is_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="`key_env` is for the backend vllm alone"):
        settings(backend="triton", url="127.0.0.1:8001", key_env="RERANKER_KEY")
