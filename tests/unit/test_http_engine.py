"""The engine behind HTTP, against a server on a socket that answers what the test says."""

import asyncio
import json
import logging
import pickle
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import ip_address
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from serve_app.adapters.http_engine import HttpEngine, upstream_client
from serve_app.errors import (
    BodyTooLarge,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    MantaError,
    RateLimited,
    UnknownModel,
)
from serve_app.events import Delta, Event, Finished
from serve_app.http.errors import error_body, error_headers
from serve_app.turn import Message
from tests.builders import turn
from tests.upstream import FRAMES, USAGE, WHOLE, Reply, Upstream, entry, frame, listed, served, text_of

KEY = "sk-of-the-upstream"
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with upstream_client() as opened:
        yield opened


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream().running() as server:
        yield server


def engine(upstream: Upstream, client: httpx.AsyncClient, **changes: Any) -> HttpEngine:
    idle_s = changes.pop("idle_s", 5.0)
    return HttpEngine(entry(upstream.url, **changes), client, idle_s=idle_s)


async def asked(upstream: Upstream, client: httpx.AsyncClient, *, stream: bool = True, **changes: Any) -> list[Event]:
    parameters = changes.pop("parameters", {})
    return await listed(engine(upstream, client, **changes).generate(turn(stream=stream, parameters=parameters)))


async def refused_by(upstream: Upstream, client: httpx.AsyncClient, reply: Reply, **changes: Any) -> MantaError:
    upstream.reply = reply
    with pytest.raises(MantaError) as refused:
        await asked(upstream, client, **changes)
    assert "127.0.0.1" not in str(refused.value)
    assert KEY not in str(refused.value)
    copy = pickle.loads(pickle.dumps(refused.value))
    assert (type(copy), error_body(copy)) == (type(refused.value), error_body(refused.value))
    assert (copy.elsewhere, copy.status) == (refused.value.elsewhere, refused.value.status)
    return refused.value


async def test_a_stream_passes_through(upstream: Upstream, client: httpx.AsyncClient) -> None:
    events = await asked(upstream, client, parameters={"seed": 7})
    assert events == [
        Delta({"content": "Hello "}),
        Delta({"content": "world."}, finish_reason="stop"),
        Finished(prompt_tokens=7, output_tokens=2, usage=USAGE),
    ]
    [request] = upstream.asked
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.body == {
        "seed": 7,
        "model": "there",
        "stream": True,
        "messages": [{"role": "user", "content": "How do I roll back?"}],
        "stream_options": {"include_usage": True},
    }


async def test_deltas_leave_as_they_come(upstream: Upstream, client: httpx.AsyncClient) -> None:
    upstream.reply = Reply(pieces=FRAMES[:1], then="hangs")
    async with aclosing(engine(upstream, client).generate(turn(stream=True))) as events:
        assert await anext(events) == Delta({"content": "Hello "})
        assert not upstream.left.is_set()


async def test_bytes_may_be_cut_anywhere(upstream: Upstream, client: httpx.AsyncClient) -> None:
    wire = b": ping\r\n\r\n" + b"".join(FRAMES).replace(b"\n", b"\r\n")
    upstream.reply = Reply(pieces=tuple(wire[place : place + 1] for place in range(len(wire))))
    assert text_of(await asked(upstream, client)) == "Hello world."


async def test_an_answer_that_does_not_stream(upstream: Upstream, client: httpx.AsyncClient) -> None:
    upstream.reply = Reply.json(WHOLE)
    events = await asked(upstream, client, stream=False)
    assert text_of(events) == "Hello world."
    assert events[-1] == Finished(prompt_tokens=7, output_tokens=2, usage=USAGE)
    assert upstream.asked[0].body["stream"] is False


async def test_a_server_that_does_not_stream_though_asked_to_is_understood(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    upstream.reply = Reply.json(WHOLE)
    assert text_of(await asked(upstream, client, stream=True)) == "Hello world."


async def test_a_server_that_streams_though_not_asked_to_is_understood(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    assert text_of(await asked(upstream, client, stream=False)) == "Hello world."


async def test_a_completion_goes_where_completions_go(upstream: Upstream, client: httpx.AsyncClient) -> None:
    upstream.reply = Reply(pieces=(frame({"choices": [{"index": 0, "text": "word", "finish_reason": "length"}]}),))
    events = await listed(engine(upstream, client).generate(turn("def main", operation="completion", stream=True)))
    assert text_of(events) == "word"
    assert (upstream.asked[0].path, upstream.asked[0].body["prompt"]) == ("/v1/completions", "def main")


@pytest.mark.parametrize(("below", "path"), [("", ""), ("/", ""), ("/v1", ""), ("/v1/", ""), ("/api", "/api")])
async def test_an_endpoint_may_end_in_v1(upstream: Upstream, client: httpx.AsyncClient, below: str, path: str) -> None:
    await listed(HttpEngine(entry(upstream.url + below), client).generate(turn(stream=True)))
    assert upstream.asked[0].path == f"{path}/v1/chat/completions"


async def test_the_key_is_read_anew_for_each_request(
    upstream: Upstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = engine(upstream, client, key_env="THERE_API_KEY")
    for key in ("sk-one", " sk-two\n"):
        monkeypatch.setenv("THERE_API_KEY", key)
        await listed(chosen.generate(turn(stream=True)))
    assert [request.headers["authorization"] for request in upstream.asked] == ["Bearer sk-one", "Bearer sk-two"]


@pytest.mark.parametrize("value", [None, "", "  ", "schlüssel", "a\nb"])
async def test_a_missing_key_is_named_in_the_log_and_nothing_is_sent(
    upstream: Upstream,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str | None,
) -> None:
    monkeypatch.delenv("THERE_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("THERE_API_KEY", value)
    with pytest.raises(EngineFailed, match="'small' cannot be asked without a key") as refused:
        await asked(upstream, client, key_env="THERE_API_KEY")
    assert "THERE_API_KEY" in caplog.text
    assert "THERE_API_KEY" not in str(refused.value)
    assert upstream.asked == []


async def test_only_the_body_leaves(upstream: Upstream, client: httpx.AsyncClient) -> None:
    """No header of the caller's, no cookie of the server's, and no word of who asks."""
    upstream.reply = Reply(headers={**Reply().headers, "set-cookie": "who=anna; path=/"})
    await asked(upstream, client)
    await asked(upstream, client)
    allowed = {"host", "accept", "connection", "user-agent", "accept-encoding", "content-type", "content-length"}
    assert [set(request.headers) for request in upstream.asked] == [allowed, allowed]
    assert upstream.asked[0].headers["user-agent"] == "manta"
    sent = str(upstream.asked)
    assert turn().caller.tenant not in sent
    assert turn().id not in sent.replace("test", "")


async def test_an_upstream_for_redacted_text_gets_no_words_of_who_asks(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    said = {"user": "anna", "metadata": {"a": "b"}, "safety_identifier": "anna", "temperature": 0.5}
    await asked(upstream, client, egress="redacted", parameters=said)
    await asked(upstream, client, egress="raw", parameters=said)
    redacted, raw = (request.body for request in upstream.asked)
    assert said.keys() & redacted.keys() == {"temperature"}
    assert {name: raw[name] for name in said} == said


async def test_an_upstream_for_redacted_text_gets_no_pictures(upstream: Upstream, client: httpx.AsyncClient) -> None:
    seen = Message("user", "What is this?", {"content": [{"type": "text", "text": "What is this?"}, PICTURE]})
    with pytest.raises(InvalidRequest, match="'small' takes text only"):
        await listed(engine(upstream, client, egress="redacted").generate(turn(messages=(seen,), stream=True)))
    assert upstream.asked == []
    await listed(engine(upstream, client, egress="raw").generate(turn(messages=(seen,), stream=True)))
    assert upstream.asked[0].body["messages"][0]["content"][1] == PICTURE


@pytest.mark.parametrize("value", ["half a pair \ud800", 2**70])
async def test_json_that_orjson_does_not_write_is_sent_as_it_came(
    upstream: Upstream, client: httpx.AsyncClient, value: object
) -> None:
    upstream.reply = Reply(
        status=400
    )  # Such a server reads JSON the way Python does; this one's body is not looked at.
    bodies: list[bytes] = []

    async def keep(request: httpx.Request) -> None:
        bodies.append(request.content)

    client.event_hooks = {"request": [keep]}
    with pytest.raises((MantaError, httpx.HTTPError)):
        await asked(upstream, client, parameters={"seed": value})
    assert json.loads(bodies[0])["seed"] == value


THEIRS, OURS = "invalid_request_error", InvalidRequest.code
ERRORS = [
    (400, {"type": "BadRequestError", "code": 400, "param": "top_k"}, InvalidRequest, "BadRequestError", OURS),
    (400, {"type": THEIRS, "code": "unsupported_value"}, InvalidRequest, THEIRS, "unsupported_value"),
    (422, {"type": THEIRS, "code": None}, InvalidRequest, THEIRS, OURS),
    (404, {"type": "NotFoundError", "code": 404}, UnknownModel, "NotFoundError", UnknownModel.code),
    (413, {"type": None, "code": None}, BodyTooLarge, BodyTooLarge.type, BodyTooLarge.code),
    (400, {"type": "x" * 99, "code": "<script>"}, InvalidRequest, InvalidRequest.type, OURS),
]


@pytest.mark.parametrize(("status", "said", "kind", "type_", "code"), ERRORS)
async def test_what_the_caller_can_act_on_keeps_its_type_its_code_and_its_words(
    upstream: Upstream,
    client: httpx.AsyncClient,
    status: int,
    said: dict[str, Any],
    kind: type[MantaError],
    type_: str,
    code: str,
) -> None:
    reply = Reply.json({"error": {"message": "top_k must be positive", **said}}, status)
    error = await refused_by(upstream, client, reply)
    assert (type(error), error.status) == (kind, status)
    assert error_body(error)["error"] == {
        "message": "top_k must be positive",
        "type": type_,
        "param": said.get("param"),
        "code": code,
    }
    assert error.elsewhere is (status == 404)


async def test_an_error_without_an_object_around_it_is_read_too(upstream: Upstream, client: httpx.AsyncClient) -> None:
    reply = Reply.json({"object": "error", "message": "no such thing", "code": 400}, 400)
    assert str(await refused_by(upstream, client, reply)) == "no such thing"


@pytest.mark.parametrize(
    "said",
    [
        {"message": "This model's maximum context length is 10 tokens", "code": 400},
        {"message": "Too long.", "code": "context_length_exceeded", "type": "invalid_request_error"},
    ],
)
async def test_a_prompt_that_is_too_long_is_known_by_its_code(
    upstream: Upstream, client: httpx.AsyncClient, said: dict[str, Any]
) -> None:
    error = await refused_by(upstream, client, Reply.json({"error": said}, 400))
    assert isinstance(error, ContextLengthExceeded)
    assert error_body(error)["error"]["code"] == "context_length_exceeded"


async def test_the_address_and_the_key_do_not_stand_in_what_is_repeated(
    upstream: Upstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE_API_KEY", KEY)
    host = upstream.url.removeprefix("http://")
    message = f"{upstream.url}/v1 at {host} ({host.split(':')[0]}) takes {KEY} but no n"
    error = await refused_by(
        upstream, client, Reply.json({"error": {"message": message}}, 400), key_env="THERE_API_KEY"
    )
    assert str(error) == "(address)/v1 at (address) ((address)) takes (key) but no n"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_the_operators_matter(
    upstream: Upstream,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    monkeypatch.setenv("THERE_API_KEY", KEY)
    reply = Reply.json({"error": {"message": f"Incorrect API key provided: {KEY}"}}, status)
    error = await refused_by(upstream, client, reply, key_env="THERE_API_KEY")
    assert isinstance(error, EngineFailed)
    assert "refuses Manta's key" in str(error)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "THERE_API_KEY" in record.getMessage()
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("given", "seconds"), [("7", 7), ("1.5", 1.5), ("", 1), ("soon", 1), ("-3", 0), ("1e9", 3_600), ("nan", 1)]
)
async def test_a_busy_upstream_says_when_to_come_back(
    upstream: Upstream, client: httpx.AsyncClient, given: str, seconds: float
) -> None:
    said = {"message": "Rate limit reached in organization org-x", "type": "tokens", "code": "rate_limit_exceeded"}
    error = await refused_by(upstream, client, Reply.json({"error": said}, 429, **{"retry-after": given}))
    assert isinstance(error, RateLimited)
    assert (error.retry_after_s, error.elsewhere) == (seconds, True)
    assert "org-x" not in str(error)
    assert error_headers(error)["Retry-After"] == str(max(1, round(seconds)))
    assert error_body(error)["error"]["type"] == "tokens"


async def test_a_busy_upstream_may_say_a_date(upstream: Upstream, client: httpx.AsyncClient) -> None:
    date = formatdate(time.time() + 100, usegmt=True)
    error = await refused_by(upstream, client, Reply.json({}, 429, **{"retry-after": date}))
    assert isinstance(error, RateLimited)
    assert 95 < error.retry_after_s <= 100


LEAK = {"error": {"message": "0x7f00 /srv/weights", "type": "server_error", "code": None}}


@pytest.mark.parametrize(
    "reply",
    [
        Reply.json(LEAK, 500),
        Reply.json(LEAK, 503),
        Reply.json(LEAK, 402),
        Reply.json(b"<html>Bad Gateway</html>", 502),
        Reply.json(b"404 page not found", 404),
        Reply.json(b"", 302, location="/elsewhere"),
        Reply.json(b"<html>Welcome</html>"),
        Reply.json(b""),
        Reply.json({"detail": "fine"}),
        Reply.json([]),
        Reply.json(LEAK),
        Reply(pieces=(frame(LEAK),)),
        Reply(pieces=(*FRAMES[:1], frame(LEAK))),
        Reply(pieces=(*FRAMES[:1], frame({"error": "text"}))),
        Reply(pieces=(*FRAMES[:1], b"data: <html>\n\n")),
        Reply(pieces=(*FRAMES[:1], frame({"choices": [{"delta": "text"}]}))),
        Reply(pieces=FRAMES[:1]),
        Reply(pieces=FRAMES[:1], then="breaks"),
        Reply(pieces=(), then="breaks"),
        Reply(pieces=()),
        Reply.json(b'{"choices": [{"mess', **{"content-length": "1000"}),
        Reply(headers={**Reply().headers, "content-encoding": "gzip"}),
    ],
)
async def test_what_is_no_answer_is_a_failure_of_the_engine(
    upstream: Upstream, client: httpx.AsyncClient, reply: Reply
) -> None:
    error = await refused_by(upstream, client, reply)
    assert isinstance(error, EngineFailed)
    assert error_body(error)["error"]["code"] == "engine_failed"
    assert "/srv" not in str(error)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refusal_that_is_not_openais_is_told_by_its_status(
    upstream: Upstream, client: httpx.AsyncClient, status: int
) -> None:
    error = await refused_by(upstream, client, Reply.json({"detail": [{"loc": ["body"]}]}, status))
    assert (error.status, str(error)) == (status, "the engine refused the request without saying why")


async def test_an_error_in_a_stream_that_the_caller_can_act_on_stays_one(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    said = {"message": f"at {upstream.url}: bad top_k", "type": "BadRequestError", "code": 400, "param": "top_k"}
    error = await refused_by(upstream, client, Reply(pieces=(frame({"error": said}),)))
    assert (type(error), str(error), error.param) == (InvalidRequest, "at (address): bad top_k", "top_k")


async def test_closing_stops_the_upstream(upstream: Upstream, client: httpx.AsyncClient) -> None:
    upstream.reply = Reply(pieces=FRAMES[:1], then="hangs")
    events = engine(upstream, client).generate(turn(stream=True))
    await anext(events)
    await events.aclose()
    async with asyncio.timeout(5):
        await upstream.left.wait()


@pytest.mark.parametrize("reply", [Reply(silent=True), Reply(pieces=(), then="hangs")], ids=["silent", "no event"])
async def test_cancelling_stops_the_upstream(upstream: Upstream, client: httpx.AsyncClient, reply: Reply) -> None:
    upstream.reply = reply
    task = asyncio.create_task(asked(upstream, client))
    await upstream.until_asked(1)
    task.cancel()
    async with asyncio.timeout(10):
        await upstream.left.wait()
    assert task.cancelled()


@pytest.mark.parametrize("reply", [Reply(silent=True), Reply(pieces=(), then="hangs")], ids=["silent", "no event"])
async def test_a_first_event_that_does_not_come_is_waited_for_as_long_as_the_entry_says(
    upstream: Upstream, client: httpx.AsyncClient, reply: Reply
) -> None:
    begun = time.monotonic()
    error = await refused_by(upstream, client, reply, first_event_deadline_s=0.2)
    assert isinstance(error, EngineFailed)
    assert "did not answer in time" in str(error)
    assert 0.2 <= time.monotonic() - begun < 30


async def test_an_answer_that_comes_whole_may_take_longer_than_a_first_event(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    upstream.reply = Reply(silent=True)
    begun = time.monotonic()
    chosen = engine(upstream, client, first_event_deadline_s=0.1)
    with pytest.raises(EngineFailed, match="in time"):
        await listed(chosen.generate(turn(expires_at=time.time() + 0.5)))
    assert time.monotonic() - begun > 0.4


@pytest.mark.parametrize(("idle_s", "left_s"), [(0.2, 60), (60, 1.0)], ids=["idle", "deadline"])
async def test_a_stream_that_pauses_too_long_is_broken(
    upstream: Upstream, client: httpx.AsyncClient, idle_s: float, left_s: float
) -> None:
    upstream.reply = Reply(pieces=FRAMES[:1], then="hangs")
    events = engine(upstream, client, idle_s=idle_s).generate(turn(stream=True, expires_at=time.time() + left_s))
    assert await anext(events) == Delta({"content": "Hello "})
    async with asyncio.timeout(30):
        with pytest.raises(EngineFailed, match="in time"):
            await anext(events)


async def test_requests_one_after_the_other_share_a_connection(upstream: Upstream, client: httpx.AsyncClient) -> None:
    refusal = Reply.json({"error": {"message": "no"}}, 400)
    for reply in (Reply(), Reply(), Reply.json(WHOLE), Reply()):
        upstream.reply = reply
        await asked(upstream, client)
    await refused_by(upstream, client, refusal)
    upstream.reply = Reply()
    await asked(upstream, client)
    assert len(upstream.asked) == 6
    assert len(upstream.connections) == 1


async def test_a_server_that_keeps_a_stream_open_behind_done_holds_nobody_up(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    upstream.reply = Reply(then="hangs")
    async with asyncio.timeout(3):
        assert text_of(await asked(upstream, client)) == "Hello world."


async def test_many_that_hang_up_leave_the_connections_to_those_who_stay(
    upstream: Upstream, client: httpx.AsyncClient
) -> None:
    """They are cut off wherever they are: connecting, waiting, reading."""
    upstream.reply = Reply(pieces=FRAMES[:1], then="hangs")
    for arrived in (1, 30, 60):
        tasks = [asyncio.create_task(asked(upstream, client)) for _ in range(60)]
        await upstream.until_asked(len(upstream.asked) + arrived)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
    upstream.reply = Reply()
    assert text_of(await asked(upstream, client)) == "Hello world."


async def test_an_address_where_nobody_listens_fails_at_once(client: httpx.AsyncClient) -> None:
    async with Upstream().running() as gone:
        pass
    with pytest.raises(EngineFailed, match="'small' cannot be reached"):
        await asked(gone, client)


@pytest.mark.parametrize("endpoint", ["http://[::1", "http://a..b", "ftp://127.0.0.1"])
async def test_an_endpoint_that_is_no_address_is_a_failure(client: httpx.AsyncClient, endpoint: str) -> None:
    with pytest.raises(EngineFailed, match="'small'"):
        await listed(HttpEngine(entry(endpoint), client).generate(turn(stream=True)))


@pytest.mark.parametrize(
    ("health", "models", "fine"),
    [(200, 500, True), (404, 200, True), (404, 500, False), (500, 200, False), (404, 401, False)],
)
async def test_a_ping_asks_for_health_and_where_there_is_no_such_page_for_models(
    upstream: Upstream, client: httpx.AsyncClient, health: int, models: int, fine: bool
) -> None:
    upstream.replies = {"/health": Reply.json({}, health), "/v1/models": Reply.json({}, models)}
    if fine:
        await engine(upstream, client).ping()
    else:
        with pytest.raises(EngineFailed):
            await engine(upstream, client).ping()


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    client: httpx.AsyncClient, self_signed: dict[str, str]
) -> None:
    upstream = Upstream()
    async with served(upstream, **self_signed) as url:
        with pytest.raises(EngineFailed, match="cannot be reached"):
            await listed(HttpEngine(entry(url), client).generate(turn(stream=True)))
    assert url.startswith("https://")
    assert upstream.asked == []


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, key = tmp_path_factory.mktemp("certificate"), ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return {"ssl_keyfile": str(folder / "key.pem"), "ssl_certfile": str(folder / "certificate.pem")}
