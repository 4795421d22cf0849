"""One real service for all tests of this folder: Ray, HAProxy, the extractive engine, and vLLM twice on a CPU."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import openai
import psutil
import pytest

from deployments.cluster import Service, free_ports, running
from serve_app.authenticator import digest
from serve_app.checkpoint import ensure_demo
from serve_app.configuration import at_home, dump, load, with_model

ROOT = Path(__file__).parents[2]
KEY, OTHER_KEY, LIMITED_KEY, LEGAL_KEY = "sk-manta-local", "sk-other-tenant", "sk-limited", "sk-legal"
START_S = 300


@dataclass(frozen=True)
class Running:
    url: str
    folder: Path

    def client(self, key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def post(self, path: str, key: str = KEY, **sent: Any) -> httpx.Response:
        return httpx.post(self.url + path, headers={"authorization": f"Bearer {key}"}, timeout=120, **sent)

    def ask(self, question: str = "How do I roll back a model?", **changes: Any) -> httpx.Response:
        sent = {"model": "auto", "messages": [{"role": "user", "content": question}], **changes}
        return self.post("/v1/chat/completions", json=sent)


def config(folder: Path) -> dict[str, Any]:
    """The local profile with the demo model on one and on two ranks, two more keys, and short deadlines."""
    demo = ensure_demo(folder / "models" / "demo")
    (folder / "models" / "demo-tp2").symlink_to(demo)
    chosen = at_home(load(ROOT / "configs" / "local.yaml"), folder)
    chosen = with_model(chosen, str(demo), gpu=False)
    chosen = with_model(chosen, str(folder / "models" / "demo-tp2"), gpu=False, tensor_parallel_size=2)
    tree = dump(chosen)
    gateway = tree["applications"][0]["args"]
    gateway["router"] = {"small": "extractive", "large": "demo", "difficulty_threshold": 0.5}
    gateway["guardrail"]["deadline_ms"] = 2_000
    gateway["classifier"]["deadline_ms"] = 1_000
    gateway["guardrail"]["policies"]["default"]["deny"] = ["project bluebird"]
    for model in gateway["models"].values():
        model["first_event_deadline_s"] = 20
    gateway["keys"] += [
        {"id": "other", "tenant": "other", "sha256": digest(OTHER_KEY), "requests_per_minute": 6000},
        {"id": "legal", "tenant": "local", "sha256": digest(LEGAL_KEY), "groups": ["legal"]},
        {"id": "limited", "tenant": "other", "sha256": digest(LIMITED_KEY), "requests_per_minute": 2},
    ]
    return tree


@pytest.fixture(scope="session")
def service() -> Iterator[Running]:
    with TemporaryDirectory(prefix="manta-") as folder, TemporaryDirectory(prefix="manta-") as runtime:
        tree = config(Path(folder))
        with running(tree, "127.0.0.1", free_ports(1)[0], Path(runtime)) as started:
            wait_until_running(started)
            yield Running(started.url, Path(folder))


def manta(service: Running, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """The command line, as a person at the running service types it."""
    command = [str(Path(sys.executable).with_name("manta")), *arguments]
    environment = {**os.environ, "MANTA_URL": service.url, "MANTA_API_KEY": KEY}
    return subprocess.run(command, input=given, env=environment, capture_output=True, text=True, timeout=300)


def wait_until_running(started: Service) -> None:
    """Until every application runs, not only those that /health/ready asks."""
    deadline = time.monotonic() + START_S
    while set(started.states().values()) != {"RUNNING"} or not is_ready(started.url):
        assert time.monotonic() < deadline, f"not running after {START_S} s: {started.states()}"
        if failure := started.failure():
            pytest.fail(failure)
        time.sleep(0.2)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=6).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def documents(service: Running) -> str:
    """The id of a store that holds three small pages, ingested once."""
    client = service.client()
    store = client.vector_stores.create(name="handbook")
    pages = {
        "rollback.md": "# Operations\n\n## Rollback\n\nTo roll back a model, run `manta registry rollback chat`. "
        "The previous version takes all traffic within two seconds.\n",
        "limits.md": "# Limits\n\nEach key may send 600 requests per minute. One more gets status 429.\n",
        "people.txt": "The on-call engineer answers at oncall@example.com. The office is closed on Sundays.\n",
    }
    uploads = [(name, text.encode()) for name, text in pages.items()]
    batch = client.vector_stores.file_batches.upload_and_poll(vector_store_id=store.id, files=uploads)
    assert batch.file_counts.completed == 3, batch
    return store.id


@pytest.fixture
def replica() -> Callable[[str], psutil.Process]:
    """The process of a deployment's replica, found as `application:deployment` in the titles Ray gives its workers."""

    def find(name: str) -> psutil.Process:
        titled = f"ray::ServeReplica:{name}"
        [found] = [child for child in psutil.Process().children(recursive=True) if is_titled(child, titled)]
        return found

    return find


def is_titled(process: psutil.Process, title: str) -> bool:
    try:
        return bool(process.cmdline()) and process.cmdline()[0].split(".")[0] == title
    except psutil.NoSuchProcess:
        return False


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """A process that hangs: it is there, and answers nothing."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
