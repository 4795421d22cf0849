"""What a user types, on a second service beside the first: its classifier runs on a real Triton server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from deployments.cluster import free_ports
from deployments.triton.environment import TritonEnvironment
from deployments.triton.server import Model, TritonServer
from serve_app.adapters.encoder import ensure
from serve_app.heads import SHIPPED
from tests.e2e.conftest import KEY, ROOT, Running, is_ready

pytestmark = [
    pytest.mark.ray,
    pytest.mark.triton,
    pytest.mark.skipif(
        not TritonEnvironment().is_installed,
        reason=".venv-triton is missing or old: run `python -m deployments.triton.server --install`",
    ),
]

MANTA = Path(sys.executable).parent / "manta"


@dataclass
class Typed:
    """A `manta serve` that somebody started in a terminal."""

    process: subprocess.Popen[str] | subprocess.Popen[bytes]
    port: int
    said: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *words: str, key: str = KEY, url: str = "") -> subprocess.CompletedProcess[str]:
        return manta(*words, MANTA_URL=url or self.url, MANTA_API_KEY=key)

    def ask(self) -> httpx.Response:
        asked = {"model": "auto", "messages": [{"role": "user", "content": "How do I roll back a model?"}]}
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=asked, headers=headers, timeout=60)


def manta(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "COLUMNS": "200"}
    return subprocess.run([MANTA, *words], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def triton() -> Iterator[TritonServer]:
    with TritonServer(Model(encoder=ensure(ROOT / "var" / "encoder"), heads=SHIPPED)) as server:
        yield server


@pytest.fixture(scope="module")
def typed(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    folder = tmp_path_factory.mktemp("typed")
    config = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    config["applications"][0]["args"]["classifier"] = {
        "backend": "triton",
        "triton_url": triton.url,
        "deadline_ms": 800,
    }
    file = folder / "triton.yaml"
    file.write_text(yaml.safe_dump(config))
    [port] = free_ports(1)
    # Without the variables of the service in this process: a user's shell has none of them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [MANTA, "serve", "--config", file, "--port", str(port), "--data", folder / "data"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    yield Typed(process, port, said)
    process.kill()
    process.wait(30)


def test_serve_prints_the_url_and_the_key(typed: Typed) -> None:
    assert f"http://127.0.0.1:{typed.port}/v1" in typed.said
    assert KEY in typed.said


def test_two_services_on_one_machine_both_answer(service: Running, typed: Typed) -> None:
    assert typed.ask().status_code == 200
    assert service.ask(model="extractive").status_code == 200


def test_documents_are_ingested_bad_ones_skipped_with_their_reason_and_questions_answered(
    typed: Typed, tmp_path: Path
) -> None:
    (tmp_path / "rollback.md").write_text("# Operations\n\nTo roll back a model, run `manta registry rollback chat`.\n")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 not really")
    (tmp_path / "empty.txt").write_text("")
    ingested = typed.run("ingest", str(tmp_path))
    assert ingested.returncode == 1, ingested.stderr
    for skipped in ("broken.pdf: the PDF is damaged", "empty.txt: the file is empty"):
        assert skipped in ingested.stdout
    asked = typed.run("ask", "How do I roll back a model?")
    assert asked.returncode == 0, asked.stderr
    assert "manta registry rollback chat" in asked.stdout
    assert "[1]" in asked.stdout.splitlines()[-1]
    assert "rollback.md" in asked.stdout.splitlines()[-1]


def test_a_wrong_key_and_no_service_are_one_sentence_each(typed: Typed) -> None:
    wrong_key = typed.run("ask", "Hello?", key="sk-wrong")
    nobody = typed.run("ask", "Hello?", url="http://127.0.0.1:9")
    assert (wrong_key.returncode, nobody.returncode) == (2, 2)
    assert "MANTA_API_KEY" in wrong_key.stderr
    assert "make serve" in nobody.stderr
    assert "Traceback" not in wrong_key.stderr + nobody.stderr


def test_a_taken_port_is_said_before_anything_starts(typed: Typed) -> None:
    second = manta("serve", "--port", str(typed.port))
    assert second.returncode == 1
    assert f"port {typed.port} is taken" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_bad_config_is_refused_with_file_and_key(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    config["applications"][0]["args"]["guardrial"] = {}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(config))
    refused = manta("serve", "--config", str(tmp_path / "bad.yaml"))
    assert refused.returncode == 1
    assert "bad.yaml: applications.0.args.guardrial: unknown key" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_dead_triton_means_the_default_route_and_it_is_found_again(typed: Typed, triton: TritonServer) -> None:
    assert "x-manta-degraded" not in typed.ask().headers
    server = psutil.Process(triton.pid)
    server.suspend()
    try:
        degraded = typed.ask()
    finally:
        server.resume()
    assert degraded.status_code == 200
    assert degraded.headers["x-manta-degraded"] == "classifier"
    assert degraded.headers["x-manta-route"] == "auto; no classifier, default model"


def test_ctrl_c_ends_everything_it_started(typed: Typed) -> None:
    """Last in the file."""
    started = [*psutil.Process(typed.process.pid).children(recursive=True)]
    assert any("haproxy" in " ".join(process.cmdline()) for process in started)
    typed.process.send_signal(signal.SIGINT)
    assert typed.process.wait(60) == 0
    _, alive = psutil.wait_procs(started, timeout=15)
    assert alive == []


def test_serve_run_takes_the_config_too(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    [port] = free_ports(1)
    config["http_options"]["port"] = port
    (tmp_path / "local.yaml").write_text(yaml.safe_dump(config))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen([MANTA.with_name("serve"), "run", "local.yaml"], env=environment, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 90
        while not is_ready(f"http://127.0.0.1:{port}"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert Typed(process, port, "").ask().status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
