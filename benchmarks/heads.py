"""Milliseconds and resident memory of the encoder and the heads in one process: `python benchmarks/heads.py`."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from serve_app.adapters.encoder import Encoder, ensure  # noqa: E402
from serve_app.heads import SHIPPED, Heads  # noqa: E402

QUESTION = "How do I roll back a model that was deployed with the wrong tensor parallel size last night?"


def percentiles(work: Callable[[], object], repeats: int = 200) -> str:
    for _ in range(20):
        work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.002)  # As in service: the threads have gone to sleep when the next question comes.
    cuts = statistics.quantiles(times, n=100)
    return f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms"


def spinning(folder: Path, threads: int) -> Encoder:
    """The encoder with ONNX Runtime's default of threads that spin, for comparison."""
    encoder = Encoder(folder, threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    encoder._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    return encoder


def main() -> None:
    folder = ensure(ROOT / "var" / "encoder")
    before = psutil.Process().memory_info().rss
    encoder, heads = Encoder(folder, 2), Heads.load(SHIPPED)
    embedding = encoder.encode([QUESTION])
    resident = psutil.Process().memory_info().rss
    print(f"resident: {before / 2**20:.0f} MiB before, {resident / 2**20:.0f} MiB with encoder and heads")
    for threads in (1, 2):
        for name, made in (("asleep", Encoder(folder, threads)), ("spinning", spinning(folder, threads))):
            print(f"17 words, {threads} threads, {name}: {percentiles(lambda made=made: made.encode([QUESTION]))}")
        made = Encoder(folder, threads)
        print(f"256 tokens, {threads} threads: {percentiles(lambda made=made: made.encode(['word ' * 300]), 40)}")
    text = (QUESTION + " ") * 4
    print(f"heads, 300 characters: {percentiles(lambda: heads.scores([text[:300]], embedding))}")
    print(f"read, 2,500 characters: {percentiles(lambda: heads.read([(text * 7)[:2500]], encoder.encode), 40)}")


if __name__ == "__main__":
    main()
