"""The reranker's adapter against a server of Triton's protocol in this process; the real one is in the contract."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deployments.triton.server import Ports
from serve_app.adapters.rerankers import reranker_of
from serve_app.adapters.triton import TENSORS as CLASSIFIER
from serve_app.adapters.triton_model import Tensors
from serve_app.adapters.triton_reranker import TENSORS, TritonReranker
from serve_app.errors import RerankerUnavailable
from serve_app.reranking import EmbeddedReranker
from serve_app.settings import RerankerSettings
from serve_app.turn import Passage

PASSAGES = tuple(Passage(f"c{number}", f"text {number}", 0.5, "f1", "a.md") for number in range(3))


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Gives these scores whatever it is asked, and keeps what that was."""

    def __init__(self, scores: Sequence[float] = (0.9, 0.0, 1.0), tensors: Tensors = TENSORS, hangs: bool = False):
        self.scores, self.tensors, self.hangs = np.array(scores, dtype=np.float32), tensors, hangs
        self.asked: list[bytes] = []
        self.left = asyncio.Event()

    async def ModelMetadata(self, request, context):
        described = [
            service_pb2.ModelMetadataResponse.TensorMetadata(name=name, datatype=kind, shape=shape)
            for name, (kind, shape) in self.tensors.items()
        ]
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=described[:2], outputs=described[2:])

    async def ModelInfer(self, request, context):
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        self.asked.extend(request.raw_input_contents)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="SCORE", datatype="FP32", shape=self.scores.shape)
        answer.raw_output_contents.append(self.scores.tobytes())
        return answer


@asynccontextmanager
async def reranker(triton: Triton, deadline_s: float = 5.0) -> AsyncIterator[TritonReranker]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = TritonReranker(f"127.0.0.1:{port}", "reranker", deadline_s)
    try:
        yield client
    finally:
        await client.aclose()
        await server.stop(None)


async def test_one_call_carries_the_question_and_all_passages() -> None:
    triton = Triton()
    async with reranker(triton) as client:
        assert await client.rerank("What?", PASSAGES) == pytest.approx((0.9, 0.0, 1.0))
    assert triton.asked == [b"\5\0\0\0What?", b"".join(b"\6\0\0\0text %d" % number for number in range(3))]


async def test_no_passages_need_no_call() -> None:
    triton = Triton()
    async with reranker(triton) as client:
        assert await client.rerank("What?", ()) == ()
    assert triton.asked == []


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.5, 1.5])
async def test_a_score_that_is_no_probability_is_an_error_that_names_it(score: float) -> None:
    async with reranker(Triton((0.5, score, 0.5))) as client:
        with pytest.raises(RerankerUnavailable, match=f"'reranker' at .* returned the score {score:.4g}, which is no"):
            await client.rerank("What?", PASSAGES)


async def test_fewer_scores_than_passages_are_an_error() -> None:
    async with reranker(Triton((0.5, 0.5))) as client:
        with pytest.raises(RerankerUnavailable, match=r"SCORE of shape \(2,\) for 3 texts"):
            await client.rerank("What?", PASSAGES)


async def test_a_model_that_is_no_reranker_is_refused_by_its_tensors() -> None:
    async with reranker(Triton(tensors=CLASSIFIER)) as client:
        with pytest.raises(RerankerUnavailable, match=r"does not fit: QUESTION must be BYTES \[1\], is missing"):
            await client.rerank("What?", PASSAGES)


@pytest.mark.parametrize("ours", [True, False], ids=["deadline", "cancelled"])
async def test_a_hanging_call_is_ended_at_the_server_too(ours: bool) -> None:
    triton = Triton(hangs=True)
    async with reranker(triton, deadline_s=0.3 if ours else 30) as client, asyncio.timeout(10):
        with pytest.raises(RerankerUnavailable if ours else TimeoutError):
            async with asyncio.timeout(30 if ours else 0.3):
                await client.rerank("What?", PASSAGES)
        await triton.left.wait()


async def test_nobody_listening_is_said_with_the_address() -> None:
    url = f"127.0.0.1:{Ports.free().grpc}"
    client = reranker_of(RerankerSettings(backend="triton", url=url, deadline_ms=5_000))
    assert isinstance(client, TritonReranker)
    with pytest.raises(RerankerUnavailable, match=f"'reranker' at {url} failed: StatusCode.UNAVAILABLE"):
        await client.rerank("What?", PASSAGES)
    await client.aclose()


def test_without_a_server_the_embedded_reranker_reads_and_off_is_none() -> None:
    assert reranker_of(RerankerSettings()) == EmbeddedReranker.shipped()
    assert reranker_of(RerankerSettings(backend="off")) is None
