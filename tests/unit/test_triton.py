"""The Triton adapter against a server of its protocol in this process, and what starts the real one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deployments.triton.environment import REQUIREMENTS, ROOT, check_machine, python_library
from deployments.triton.server import Model, Ports, TritonServer, main
from serve_app import heads
from serve_app.adapters.triton import HEADS, TENSORS, Slice, TritonClassifier
from serve_app.errors import ClassifierUnavailable

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Speaks Triton's protocol: every embedding is the text's length in each of its 384 places."""

    def __init__(self, tensors: Tensors = TENSORS, rows_short: int = 0, delay_s: float = 0, failure: str = "") -> None:
        self.tensors, self.rows_short, self.delay_s, self.failure = tensors, rows_short, delay_s, failure
        self.batches: list[list[bytes]] = []

    async def ModelMetadata(self, request, context):
        described = [
            service_pb2.ModelMetadataResponse.TensorMetadata(name=name, datatype=kind, shape=shape)
            for name, (kind, shape) in self.tensors.items()
        ]
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=described[:1], outputs=described[1:])

    async def ModelInfer(self, request, context):
        await asyncio.sleep(self.delay_s)
        if self.failure:
            await context.abort(grpc.StatusCode.INTERNAL, self.failure)
        texts = unpacked(request.raw_input_contents[0])
        self.batches.append(texts)
        lengths = np.array([len(text) for text in texts[self.rows_short :]], dtype=np.float32)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        for output in request.outputs:
            columns = TENSORS[output.name][1][1:]
            rows = np.repeat(lengths, *columns).reshape(len(lengths), *columns) if columns else lengths
            rows = rows if output.name == "EMBEDDING" else rows / 100
            answer.outputs.add(name=output.name, datatype="FP32", shape=rows.shape)
            answer.raw_output_contents.append(rows.tobytes())
        return answer


def unpacked(content: bytes) -> list[bytes]:
    """Texts of a BYTES tensor: each behind its length in four bytes, little-endian."""
    texts = []
    while content:
        end = 4 + int.from_bytes(content[:4], "little")
        texts.append(content[4:end])
        content = content[end:]
    return texts


@asynccontextmanager
async def classifier(triton: Triton, deadline_s: float = 5.0) -> AsyncIterator[TritonClassifier]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = TritonClassifier(f"127.0.0.1:{port}", "classifier", deadline_s)
    try:
        yield client
    finally:
        await client.aclose()
        await server.stop(None)


async def test_a_question_is_answered_with_its_embedding_and_a_probability_per_head() -> None:
    async with classifier(Triton()) as client:
        signals = await client.classify("four")
    assert signals.embedding.shape == (384,)
    assert signals.embedding.dtype == np.float32
    assert signals.scores == pytest.approx(dict.fromkeys(HEADS, 0.04))


async def test_rows_come_back_in_the_order_of_their_texts() -> None:
    texts = tuple("x" * length for length in (700, 3, 1500, 40, 0, 2399, 2400, 9000, 5))
    async with classifier(Triton()) as client:
        rows = await client.encode(texts)
    assert rows[:, 0].tolist() == [float(len(text)) for text in texts]


async def test_scores_come_back_in_the_order_of_their_texts() -> None:
    texts = tuple("x" * length for length in (70, 3, 40, 0))
    async with classifier(Triton()) as client:
        scores = await client.score(texts)
    assert [row["jailbreak"] for row in scores] == pytest.approx([0.7, 0.03, 0.4, 0.0])


async def test_suspicions_come_back_in_the_order_of_their_texts() -> None:
    async with classifier(Triton()) as client:
        assert await client.inspect(("x" * 70, "", "x" * 4)) == pytest.approx((0.7, 0.0, 0.04))


async def test_a_long_batch_goes_out_in_slices() -> None:
    triton = Triton()
    async with classifier(triton) as client:
        await client.encode(("x" * 1000,) * 5)
    assert [len(batch) for batch in triton.batches] == [2, 2, 1]


async def test_no_texts_need_no_call() -> None:
    triton = Triton()
    async with classifier(triton) as client:
        assert (await client.encode(())).shape == (0, 384)
    assert triton.batches == []


async def test_a_lone_surrogate_travels_as_a_question_mark() -> None:
    triton = Triton()
    async with classifier(triton) as client:
        await client.classify("a\ud800b")
    assert triton.batches == [[b"a?b"]]


async def test_a_model_that_does_not_fit_is_refused_by_name_type_and_dimension() -> None:
    tensors = {**TENSORS, "EMBEDDING": ("FP32", (-1, 768))}
    del tensors["SCORES"]
    async with classifier(Triton(tensors)) as client:
        with pytest.raises(ClassifierUnavailable) as caught:
            await client.classify("hello")
    assert "EMBEDDING must be FP32 [-1, 384], is FP32 [-1, 768]" in str(caught.value)
    assert "SCORES must be FP32 [-1, 9], is missing" in str(caught.value)


async def test_heads_of_another_number_or_type_are_refused() -> None:
    async with classifier(Triton({**TENSORS, "SCORES": ("FP64", (-1, 2))})) as client:
        with pytest.raises(ClassifierUnavailable, match=r"SCORES must be FP32 \[-1, 9\], is FP64 \[-1, 2\]"):
            await client.score(("hello",))


async def test_a_model_with_more_outputs_than_asked_for_fits() -> None:
    async with classifier(Triton({**TENSORS, "LANGUAGE": ("FP32", (-1,))})) as client:
        assert set((await client.classify("hello")).scores) == set(HEADS)


async def test_fewer_rows_than_texts_are_an_error_not_an_answer() -> None:
    async with classifier(Triton(rows_short=1)) as client:
        with pytest.raises(ClassifierUnavailable, match=r"EMBEDDING of shape \(1, 384\) for 2 texts"):
            await client.encode(("a", "b"))


async def test_a_failing_model_is_reported_without_its_traceback() -> None:
    async with classifier(Triton(failure="RuntimeError: out of memory\n\nAt:\n  /srv/model.py(31): execute")) as client:
        with pytest.raises(ClassifierUnavailable) as caught:
            await client.classify("hello")
    assert str(caught.value).endswith("failed: StatusCode.INTERNAL: RuntimeError: out of memory")


async def test_a_slow_server_costs_no_more_than_the_deadline() -> None:
    async with classifier(Triton(delay_s=30), deadline_s=0.2) as client:
        async with asyncio.timeout(5):
            with pytest.raises(ClassifierUnavailable, match="within 200 ms"):
                await client.classify("hello")


async def test_a_question_cancelled_by_its_asker_stays_cancelled() -> None:
    async with classifier(Triton(delay_s=30)) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.classify("hello")


async def test_nobody_listening_is_said_with_the_address() -> None:
    port = Ports.free().grpc
    client = TritonClassifier(f"127.0.0.1:{port}", "classifier", 5.0)
    with pytest.raises(ClassifierUnavailable, match=f"'classifier' at 127.0.0.1:{port} failed: StatusCode.UNAVAILABLE"):
        await client.classify("hello")
    await client.aclose()


@given(st.lists(st.integers(0, 6000)), st.integers(1, 40), st.integers(1, 5000))
def test_slices_cover_every_text_once_and_keep_their_limits(lengths: list[int], texts: int, chars: int) -> None:
    parts = [lengths[part] for part in Slice(texts=texts, chars=chars).cut(lengths)]
    assert [length for part in parts for length in part] == lengths
    assert all(part and len(part) <= texts and (len(part) == 1 or sum(part) <= chars) for part in parts)


def test_the_adapter_and_the_heads_agree_on_names() -> None:
    assert heads.NAMES == HEADS


def test_both_environments_compute_with_the_same_libraries() -> None:
    triton = pins(REQUIREMENTS)
    manta = pins(ROOT / "constraints.txt")
    assert triton["onnxruntime"] == manta["onnxruntime"]
    assert triton["tokenizers"] == manta["tokenizers"]


def pins(path: Path) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line)


def test_a_taken_port_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = Ports(grpc=port, metrics=Ports.free().metrics, http=Ports.free().http)
        server = TritonServer(Model(encoder=tmp_path, heads=tmp_path), ports=ports, log=tmp_path / "log")
        with pytest.raises(ClassifierUnavailable, match=f"grpc port {port} .*Address already in use.*--grpc-port"):
            server.__enter__()


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (("Linux", "x86_64", "2.31"), "glibc 2.35 or newer, this machine has 2.31"),
        (("Linux", "x86_64", ""), "glibc 2.35 or newer, this machine has none"),
        (("Linux", "aarch64", "2.36"), "this is Linux on aarch64"),
        (("Darwin", "arm64", ""), "this is Darwin on arm64"),
    ],
)
def test_a_machine_that_cannot_run_triton_is_told_why_and_what_to_do(
    machine: tuple[str, str, str], sentence: str
) -> None:
    with pytest.raises(ClassifierUnavailable, match=sentence) as caught:
        check_machine(*machine)
    assert "classifier.backend: embedded" in str(caught.value)


def test_the_interpreters_own_library_is_found() -> None:
    assert python_library().is_file()


def test_an_unknown_argument_is_answered_with_the_usage() -> None:
    assert "--install" in (main(["--start"]) or "")
