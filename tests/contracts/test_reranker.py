"""Every backend of the port `Reranker`; one is a parameter of `reranker`.

The cross-encoders run on a real vLLM and on a real Triton server, from one checkpoint; `backend` is these two.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deployments.triton.server import Model, TritonServer
from serve_app.adapters.triton_reranker import TritonReranker
from serve_app.adapters.vllm_reranker import VllmReranker
from serve_app.errors import ClassifierUnavailable, RerankerUnavailable
from serve_app.ports import Reranker
from serve_app.reranking import EmbeddedReranker
from serve_app.turn import Passage
from tests import cross_encoder
from tests.contracts.vllm_server import vllm_server
from tests.cross_encoder import Logits

QUESTION = "How do I roll back a model?"
LONG = "The head node runs the dashboard and the workers run the replicas. " * 60
TEXTS = (
    "Run the rollback command, and the version before takes all traffic.",
    "Apples and pears ripen in late summer.",
    "漢字 and emoji 😀 und Umlaute äöü",
    LONG,
    "lone \ud800 surrogate",
    "nul \x00 byte",
    "Apples and pears ripen in late summer.",
    "x" * 40_000,
)


def passage(text: str, number: int = 0, title: str = "", heading: str = "") -> Passage:
    return Passage(f"c{number}", text, 0.5, "f1", "handbook.md", title=title, heading=heading)


PASSAGES = tuple(passage(text, number) for number, text in enumerate(TEXTS))


CrossEncoder = VllmReranker | TritonReranker


@dataclass(frozen=True)
class Backend:
    """A server that runs, and how to reach it."""

    kind: type[CrossEncoder]
    url: str
    pid: int
    """The process that takes its requests."""

    @asynccontextmanager
    async def client(self, deadline_s: float = 30, model: str = "reranker") -> AsyncIterator[CrossEncoder]:
        client = self.kind(self.url, model, deadline_s)
        try:
            yield client
        finally:
            await client.aclose()


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    logits: Logits


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("cross-encoder")
    return Checkpoint(folder, cross_encoder.make(folder))


@pytest.fixture(scope="module")
def vllm(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    options = {"model": checkpoint.folder, "served_model_name": "reranker", "runner": "pooling", "dtype": "float32"}
    with vllm_server(tmp_path_factory.mktemp("vllm"), **options) as server:
        yield Backend(VllmReranker, server.url, server.process.pid)


@pytest.fixture(scope="module")
def triton(checkpoint: Checkpoint, triton_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    model = Model(encoder=triton_model.encoder, heads=triton_model.heads, reranker=checkpoint.folder)
    with TritonServer(model, log=tmp_path_factory.mktemp("triton") / "triton.log") as server:
        yield Backend(TritonReranker, server.url, server.pid)


SERVERS = [pytest.param("vllm", marks=pytest.mark.vllm), pytest.param("triton", marks=pytest.mark.triton)]


@pytest.fixture(params=SERVERS)
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def on_server(backend: Backend) -> AsyncIterator[Reranker]:
    async with backend.client() as client:
        yield client


@pytest.fixture(params=["embedded", *SERVERS])
async def reranker(request: pytest.FixtureRequest) -> AsyncIterator[Reranker]:
    if request.param == "embedded":
        yield EmbeddedReranker.shipped()
        return
    async with request.getfixturevalue(request.param).client() as client:
        yield client


def expected(checkpoint: Checkpoint, question: str, texts: list[str]) -> list[float]:
    readable = [text.encode("utf-8", "replace").decode() for text in texts]
    return (1 / (1 + np.exp(-checkpoint.logits(question, readable)))).tolist()


async def test_each_passage_has_the_probability_that_the_checkpoint_gives_it(
    on_server: Reranker, checkpoint: Checkpoint
) -> None:
    scores = await on_server.rerank(QUESTION, PASSAGES)
    assert list(scores) == pytest.approx(expected(checkpoint, QUESTION, list(TEXTS)), abs=1e-3)
    assert max(scores) - min(scores) > 0.1
    assert scores[1] == pytest.approx(scores[6], abs=1e-5)


async def test_scores_are_in_the_order_of_the_passages(reranker: Reranker) -> None:
    scores = await reranker.rerank(QUESTION, PASSAGES)
    backwards = await reranker.rerank(QUESTION, PASSAGES[::-1])
    assert backwards[::-1] == pytest.approx(scores, abs=1e-5)


async def test_no_passages_have_no_scores(reranker: Reranker) -> None:
    assert await reranker.rerank(QUESTION, ()) == ()


async def test_a_passage_without_text_has_a_probability_too(reranker: Reranker) -> None:
    """Which one differs: vLLM leaves out the second half of such a pair."""
    [score, _] = await reranker.rerank(QUESTION, (passage(""), PASSAGES[0]))
    assert 0 <= score <= 1


async def test_a_passage_is_read_under_its_title_and_its_headings(on_server: Reranker, checkpoint: Checkpoint) -> None:
    given = (passage(TEXTS[0], 1, "Handbook", "Operations > Rollback"), passage(TEXTS[0], 2))
    led = f"Handbook\nOperations > Rollback\n{TEXTS[0]}"
    scores = await on_server.rerank(QUESTION, given)
    assert list(scores) == pytest.approx(expected(checkpoint, QUESTION, [led, TEXTS[0]]), abs=1e-3)


@pytest.mark.parametrize(
    "question", ["", LONG, "half a pair \ud800", "数据库 🙂"], ids=["empty", "long", "half", "wide"]
)
async def test_any_question_is_read(on_server: Reranker, checkpoint: Checkpoint, question: str) -> None:
    scores = await on_server.rerank(question, PASSAGES[:2])
    readable = question.encode("utf-8", "replace").decode()
    assert list(scores) == pytest.approx(expected(checkpoint, readable, list(TEXTS[:2])), abs=1e-3)


async def test_the_most_passages_a_config_may_ask_for_are_read_in_one_call(
    on_server: Reranker, checkpoint: Checkpoint
) -> None:
    texts = [f"The limit of plan {number} is {number * 17} requests. " * (number % 7 + 1) for number in range(200)]
    scores = await on_server.rerank(QUESTION, [passage(text, number) for number, text in enumerate(texts)])
    assert list(scores) == pytest.approx(expected(checkpoint, QUESTION, texts), abs=1e-3)


async def test_calls_at_the_same_time_do_not_mix(reranker: Reranker) -> None:
    questions = [f"What is the limit of plan {number}?" for number in range(12)]
    alone = [await reranker.rerank(question, PASSAGES[:3]) for question in questions]
    together = await asyncio.gather(*(reranker.rerank(question, PASSAGES[:3]) for question in questions))
    assert [*together] == [pytest.approx(scores, abs=1e-4) for scores in alone]


async def test_a_model_that_is_not_there_is_named(backend: Backend) -> None:
    async with backend.client(model="absent") as client:
        with pytest.raises(RerankerUnavailable, match="absent"):
            await client.rerank(QUESTION, PASSAGES)


async def test_a_suspended_server_costs_no_more_than_the_deadline_and_serves_on_when_resumed(backend: Backend) -> None:
    async with backend.client(deadline_s=1) as client:
        await answered(client, 30)
        os.kill(backend.pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            with pytest.raises(RerankerUnavailable, match="no answer within 1000 ms"):
                await client.rerank(QUESTION, PASSAGES)
            waited = time.monotonic() - start
        finally:
            os.kill(backend.pid, signal.SIGCONT)
        await answered(client, 30)
    assert 0.9 < waited < 3


async def answered(client: CrossEncoder, seconds: float) -> None:
    """Returns at the first answer. Failures before it must be the port's own."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await client.rerank(QUESTION, PASSAGES[:1])
                return
            except RerankerUnavailable:
                await asyncio.sleep(0.02)


@pytest.mark.triton
async def test_calls_that_were_given_up_are_not_worked_off(triton: Backend) -> None:
    """Else a model that was once too slow would answer nobody in time any more."""
    async with triton.client() as client:
        await client.rerank(QUESTION, PASSAGES)
        start = time.monotonic()
        tasks = {asyncio.create_task(client.rerank(QUESTION, (passage(LONG),) * 200)) for _ in range(30)}
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        one_call = time.monotonic() - start
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        start = time.monotonic()
        await client.rerank(QUESTION, PASSAGES[:1])
        waited = time.monotonic() - start
    assert all(len(task.result()) == 200 for task in done)
    assert waited < one_call * 3  # 0.03 times; behind the others it would be thirty.


@pytest.mark.triton
def test_a_server_without_the_cross_encoder_it_is_to_serve_names_the_file(triton_model: Model, tmp_path: Path) -> None:
    model = Model(encoder=triton_model.encoder, heads=triton_model.heads, reranker=tmp_path / "absent")
    server = TritonServer(model, log=tmp_path / "triton.log")
    with pytest.raises(ClassifierUnavailable, match=r"absent/model\.onnx is missing"):
        server.__enter__()
