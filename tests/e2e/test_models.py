"""Versions of a model on the running service, by the command line and the official client, as an operator has them."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.load import Callers, troubles
from benchmarks.told_engine import Told, add, tell
from tests.e2e.conftest import KEY, Running, manta
from tests.upstream import Reply, Upstream

pytestmark = pytest.mark.ray

Replica = Callable[[str], psutil.Process]
CHAT = ("--model", "chat", "--environment", "development")


@pytest.fixture(scope="module")
def chat(service: Running) -> Iterator[Running]:
    """Two versions of `chat`, added to the cluster while it runs; all requests go to the first."""
    for version in ("1", "2"):
        add(f"chat-{version}", Told(says=f"v{version}"))
    done(service, "registry", "register", *CHAT, "--version", "1", "--endpoint", "serve://chat-1", "--yes")
    done(service, "registry", "register", *CHAT, "--version", "2", "--endpoint", "serve://chat-2", "--yes")
    wait_for(lambda: ask(service).headers.get("x-manta-version") == "1")
    yield service
    for version in ("2", "1"):
        done(service, "registry", "deregister", *CHAT, "--version", version, "--yes")


def done(service: Running, *arguments: str) -> str:
    result = manta(service, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refused(service: Running, *arguments: str) -> str:
    result = manta(service, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def ask(service: Running, **changes: Any) -> httpx.Response:
    return service.ask(model="chat", **changes)


def wait_for(holds: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not so after {within_s} s"
        time.sleep(0.1)


def test_an_application_added_to_the_cluster_is_routed_to_once_it_is_registered(
    chat: Running, replica: Replica
) -> None:
    gateway = replica("gateway:ingress").pid
    add("late", Told(says="late"))
    said = done(
        chat, "registry", "register", "--model", "late", "--version", "1", "--endpoint", "serve://late", "--yes"
    )
    assert "late" in said
    wait_for(lambda: chat.ask(model="late").status_code == 200)
    assert "late" in [model.id for model in chat.client().models.list()]
    done(chat, "registry", "deregister", "--model", "late", "--version", "1", "--yes")
    wait_for(lambda: chat.ask(model="late").status_code == 404)
    assert replica("gateway:ingress").pid == gateway


def test_an_endpoint_that_is_not_there_changes_nothing(chat: Running) -> None:
    before = done(chat, "registry", "list", "--output", "json")
    for endpoint in ("serve://nowhere", "http://127.0.0.1:9"):
        said = refused(chat, "registry", "register", *CHAT, "--version", "3", "--endpoint", endpoint, "--yes")
        assert "endpoint" in said
    assert json.loads(done(chat, "registry", "list", "--output", "json")) == json.loads(before)


def test_a_conversation_stays_with_its_version(chat: Running) -> None:
    done(
        chat,
        "registry",
        "register",
        *CHAT,
        "--version",
        "2",
        "--endpoint",
        "serve://chat-2",
        "--weight",
        "100",
        "--yes",
    )
    try:
        wait_for(lambda: {ask(chat).headers["x-manta-version"] for _ in range(4)} == {"1", "2"})
        for session in ("one", "two", "three", "four"):
            versions = {ask(chat, manta={"session": session}).headers["x-manta-version"] for _ in range(5)}
            assert len(versions) == 1
    finally:
        again = ("--version", "2", "--endpoint", "serve://chat-2", "--weight", "0", "--yes")
        done(chat, "registry", "register", *CHAT, *again)


def test_a_version_can_be_asked_for_by_its_name(chat: Running) -> None:
    answer = chat.ask(model="chat@2")
    assert (answer.headers["x-manta-version"], answer.json()["choices"][0]["message"]["content"][:2]) == ("2", "v2")


def test_a_request_is_explained_in_words(chat: Running) -> None:
    request_id = ask(chat, manta={"session": "explained"}).headers["x-request-id"]
    said = done(chat, "explain", request_id)
    assert "chat" in said
    assert request_id in said
    facts = json.loads(done(chat, "explain", request_id, "--output", "json"))
    assert (facts["model"], facts["version"], facts["outcome"]) == ("chat", "1", "answered")


def test_a_broken_canary_goes_back_by_itself_and_no_request_fails(chat: Running) -> None:
    tell("chat-2", failing=1.0)
    try:
        done(chat, "rollout", "start", "chat", "--to", "2", "--steps", "10,50,100", "--hold", "10m")
        assert "under way" in refused(chat, "rollout", "start", "chat", "--to", "2")
        callers = asyncio.run(under_load(chat, lambda: status(chat) != "running"))
    finally:
        tell("chat-2", failing=0.0)
    assert status(chat) == "rolled_back"
    assert troubles(callers.answered) == {}
    assert "manta_rollbacks_total" in httpx.get(f"{chat.url}/metrics").text
    last = json.loads(done(chat, "registry", "history", "--model", "chat", "--output", "json"))
    assert any(row["action"] == "rollout-rollback" and row["figures"] for row in listed(last))


def test_a_rollout_goes_all_the_way_and_back(chat: Running) -> None:
    done(chat, "registry", "enable", *CHAT, "--version", "2")
    done(chat, "rollout", "start", "chat", "--to", "2", "--steps", "50,100", "--hold", "2s")
    callers = asyncio.run(under_load(chat, lambda: status(chat) != "running"))
    assert status(chat) == "promoted"
    wait_for(lambda: {ask(chat).headers["x-manta-version"] for _ in range(5)} == {"2"})
    done(chat, "rollout", "rollback", "chat", "--yes")
    wait_for(lambda: {ask(chat).headers["x-manta-version"] for _ in range(5)} == {"1"}, within_s=5)
    assert troubles(callers.answered) == {}


async def under_load(service: Running, until: Callable[[], bool]) -> Callers:
    async with httpx.AsyncClient(
        base_url=service.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60
    ) as client:
        callers = Callers(client)
        async with callers.at_rate(8, model="chat"):
            await asyncio.to_thread(wait_for, until, 120)
        return callers


def status(service: Running) -> str:
    """Of the newest rollout."""
    key = {"authorization": f"Bearer {KEY}"}
    found = httpx.get(f"{service.url}/v1/rollouts/history", params={"model": "chat"}, headers=key, timeout=30)
    return str(found.json()["data"][0]["state"])


def listed(given: Any) -> list[dict[str, Any]]:
    return given["data"] if isinstance(given, dict) else given


def test_an_answer_under_way_outlives_its_version(chat: Running) -> None:
    stream = chat.client().chat.completions.create(
        model="chat@2", messages=[{"role": "user", "content": "Count, please."}], stream=True, max_tokens=101
    )
    words = [next(stream).choices[0].delta.content]
    done(chat, "registry", "disable", *CHAT, "--version", "2")
    wait_for(lambda: chat.ask(model="chat@2").status_code == 404)
    words += [chunk.choices[0].delta.content for chunk in stream]
    assert len([word for word in words if word]) == 101
    done(chat, "registry", "enable", *CHAT, "--version", "2")


def test_a_server_outside_answers_in_place_of_a_broken_version_and_reads_no_name(chat: Running) -> None:
    """Registered as a version of the same model, for a moment with weight."""
    upstream = Upstream(replies={"/v1/models": Reply.json({"data": [{"id": "there"}]})})

    async def redirected() -> list[httpx.Response]:
        async with upstream.running():
            there = ("--version", "out", "--endpoint", upstream.url, "--weight", "1", "--yes")
            await asyncio.to_thread(done, chat, "registry", "register", *CHAT, *there)
            tell("chat-1", failing=1.0)
            try:
                asked = "Ask jane.doe@example.com about it."
                await asyncio.to_thread(wait_for, lambda: answered_by(ask(chat), "out"))
                return [await asyncio.to_thread(chat.ask, asked, model="chat", stream=True) for _ in range(3)]
            finally:
                tell("chat-1", failing=0.0)
                await asyncio.to_thread(done, chat, "registry", "deregister", *CHAT, "--version", "out", "--yes")

    answers = asyncio.run(redirected())
    assert {answer.status_code for answer in answers} == {200}
    assert "Hello " in answers[-1].text
    sent = str([one.body for one in upstream.asked])
    assert "<EMAIL_ADDRESS_1>" in sent
    assert "jane.doe" not in sent
    wait_for(lambda: answered_by(ask(chat), "1"), within_s=70)


def answered_by(answer: httpx.Response, version: str) -> bool:
    return answer.headers.get("x-manta-version") == version


def test_what_runs_and_what_is_registered_stand_side_by_side(chat: Running) -> None:
    said = manta(chat, "deployment", "status", "--model", "chat")
    assert "chat-1" in said.stdout
    assert "RUNNING" in said.stdout.upper()


def test_a_model_is_validated_in_seven_steps(chat: Running) -> None:
    ask(chat)
    report = manta(chat, "validate", *CHAT, "--output", "json")
    steps = json.loads(report.stdout)["steps"]
    assert len(steps) == 7, steps
    assert report.returncode == 0, report.stdout + report.stderr


def test_an_unknown_model_is_not_valid(chat: Running) -> None:
    assert manta(chat, "validate", "--model", "nobody", "--environment", "development").returncode in (1, 2)
