"""A tritonserver process with this project's model repository; `--install` only makes its environment."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deployments.triton.environment import ROOT, TritonEnvironment
from serve_app.errors import ClassifierUnavailable

MODEL_REPOSITORY = Path(__file__).with_name("model_repository")
HOST = "127.0.0.1"
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    grpc: int = 8001
    metrics: int = 8002
    http: int = 8003
    """Triton's own default is 8000, which is Manta's."""

    @classmethod
    def free(cls) -> Self:
        """Three ports nobody listens on now."""
        sockets = [socket.create_server((HOST, 0)) for _ in range(3)]
        grpc, metrics, http = (each.getsockname()[1] for each in sockets)
        for each in sockets:
            each.close()
        return cls(grpc=grpc, metrics=metrics, http=http)

    def check(self) -> None:
        """Raises ClassifierUnavailable, naming the first port that is taken."""
        for name in ("grpc", "metrics", "http"):
            port = getattr(self, name)
            try:
                socket.create_server((HOST, port)).close()
            except OSError as exc:
                raise ClassifierUnavailable(
                    f"Triton's {name} port {port} on {HOST} cannot be used ({os.strerror(exc.errno or 0)}): "
                    f"stop what listens there, or choose another with --{name}-port"
                ) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What the models of the repository are given to load."""

    encoder: Path
    heads: Path
    threads: int = 2
    reranker: Path | None = None
    """Folder of a cross-encoder in ONNX; without it there is no model `reranker`."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("classifier", "reranker") if self.reranker else ("classifier",)

    def variables(self) -> dict[str, str]:
        given = {
            "MANTA_ENCODER_PATH": str(self.encoder),
            "MANTA_HEADS_PATH": str(self.heads),
            "MANTA_ENCODER_THREADS": str(self.threads),
        }
        if self.reranker:
            given |= {"MANTA_RERANKER_PATH": str(self.reranker), "MANTA_RERANKER_THREADS": str(self.threads)}
        return given


class TritonServer:
    """Runs while entered: ready on the first line inside, gone with all its processes after the last.

    Raises ClassifierUnavailable with the end of its log when it does not become ready.
    """

    def __init__(
        self,
        model: Model,
        *,
        ports: Ports | None = None,
        log: Path | None = None,
        environment: TritonEnvironment | None = None,
        repository: Path = MODEL_REPOSITORY,
    ) -> None:
        self.model = model
        self.ports = ports or Ports.free()
        self.log = log or ROOT / "var" / f"triton-{self.ports.grpc}.log"
        self.environment = environment or TritonEnvironment()
        self.repository = repository
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """gRPC address, as `classifier.triton_url` takes it."""
        return f"{HOST}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ClassifierUnavailable("the Triton server was not started")
        return self.process.pid

    def __enter__(self) -> Self:
        self.ports.check()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(),
                env=self._variables(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group: a Ctrl-C in the terminal is ours to pass on, and the group is what `stop` ends.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> None:
        """Watches until the server can serve no more; then raises ClassifierUnavailable."""
        while self.process is not None and self.process.poll() is None and not self._lost_its_stub():
            time.sleep(1)
        raise ClassifierUnavailable(
            f"tritonserver stopped serving; start it again. Its log, {self.log}, says:\n{self._complaints()}"
        )

    def stop(self) -> None:
        """End the server and its Python stubs; they are killed when they do not end in ten seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_WITHIN_S)
        finally:
            # Also after a second Ctrl-C: nothing of it may stay behind.
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for region in Path("/dev/shm").glob(f"{self._shared_memory}*"):
                region.unlink(missing_ok=True)
        self.process = None

    @property
    def _shared_memory(self) -> str:
        """Prefix of the stubs' regions: a killed server leaves them behind, and only its own may be removed."""
        return f"manta_triton_{os.getpid()}_{self.ports.grpc}_"

    def _lost_its_stub(self) -> bool:
        """Whether the model's process died, for want of memory say.

        Triton does not start it again, and its health goes on saying that it is ready:
        https://github.com/triton-inference-server/server/issues/7230
        """
        try:
            tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
            children = [pid for path in tasks for pid in path.read_text().split()]
            states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
        except (FileNotFoundError, ProcessLookupError):
            return True  # They go while they are read.
        return not states or "Z" in states

    def _command(self) -> list[str]:
        return [
            str(self.environment.executable),
            f"--model-repository={self.repository}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in self.model.names),
            f"--backend-directory={self.environment.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            f"--grpc-address={HOST}",
            f"--grpc-port={self.ports.grpc}",
            f"--http-address={HOST}",
            f"--http-port={self.ports.http}",
            f"--metrics-address={HOST}",
            f"--metrics-port={self.ports.metrics}",
            "--exit-timeout-secs=5",
        ]

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_"))}
        return {**kept, **self.environment.variables(), **self.model.variables()}

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            status = self.process.poll() if self.process else None
            if status is not None or time.monotonic() > deadline:
                ended = f"ended with {status}" if status is not None else f"was not ready in {READY_WITHIN_S:.0f} s"
                raise ClassifierUnavailable(f"tritonserver {ended}; its log, {self.log}, says:\n{self._complaints()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.ports.http, timeout=1)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _complaints(self) -> str:
        """Triton's log without its information lines and tables: what is left says why."""
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line[:800] for line in lines if line.startswith(("E", "error:"))]
        return "\n".join(errors[-5:] or lines[-5:])


def main(arguments: list[str]) -> str | None:
    """`--install` makes the environment. Returns what to complain about, as `sys.exit` takes it."""
    if arguments != ["--install"]:
        return "usage: python -m deployments.triton.server --install (to start a server: manta triton)"
    try:
        TritonEnvironment().install()
    except ClassifierUnavailable as exc:
        return str(exc)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
