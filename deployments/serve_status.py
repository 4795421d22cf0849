"""What Ray Serve runs, read from its controller, and what its replicas on this machine take."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve.context import _get_global_client

from deployments.remote import GATEWAY
from serve_app.deployed.applications import Application, Replicas
from serve_app.errors import Unavailable

DEADLINE_S = 5.0
PAGE_BYTES, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class ServeApplications:
    """Implements `ServeStatus`."""

    async def applications(self) -> tuple[Application, ...]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                details = await asyncio.to_thread(serve_details)
        except (RayError, TimeoutError) as failure:
            raise Unavailable(f"Ray Serve's controller does not answer ({type(failure).__name__})") from failure
        here = ray.get_runtime_context().get_node_id()
        return tuple(application(name, found, here) for name, found in sorted(details["applications"].items()))


def serve_details() -> dict[str, Any]:
    """What Serve's own REST API answers; blocks."""
    details: dict[str, Any] = _get_global_client().get_serve_details()
    return details


def application(name: str, found: dict[str, Any], here: str) -> Application:
    return Application(
        name=name,
        status=word(found["status"]),
        message=found["message"],
        deployments=tuple(replicas(part, here) for part in found["deployments"].values()),
        is_gateway=name == GATEWAY,
    )


def replicas(found: dict[str, Any], here: str) -> Replicas:
    """`here`: id of the node whose processes can be looked at; figures are known only where all replicas are on it."""
    running = [one for one in found["replicas"] if word(one["state"]) == "RUNNING"]
    pids = [one["pid"] for one in running if one["node_id"] == here and one["pid"]]
    known = bool(pids) and len(pids) == len(running)
    return Replicas(
        deployment=found["name"],
        status=word(found["status"]),
        running=len(running),
        wanted=found["target_num_replicas"],
        message=found["message"],
        memory_bytes=resident(pids) if known else None,
        cpu_cores=busy(pids) if known else None,
    )


def word(status: Any) -> str:
    """Serve's own, whether it comes as an enumeration or as text."""
    return str(getattr(status, "value", status))


def resident(pids: Sequence[int]) -> int | None:
    """Bytes, together; None where one has ended."""
    try:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES for pid in pids)
    except OSError:
        return None


def busy(pids: Sequence[int]) -> float | None:
    """Cores busy on average since the processes began, together; None where one has ended."""
    try:
        now_s = float(Path("/proc/uptime").read_text().split()[0])
        return sum(share(pid, now_s) for pid in pids)
    except OSError:
        return None


def share(pid: int, now_s: float) -> float:
    """Of one core. Fields 14, 15 and 22 of proc_pid_stat(5), counted after the name, which may hold anything."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    spent_s, began_s = (int(fields[11]) + int(fields[12])) / TICKS, int(fields[19]) / TICKS
    return spent_s / max(now_s - began_s, 1.0)
