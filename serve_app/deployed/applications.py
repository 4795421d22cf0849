"""What Ray Serve runs, as the gateway sees it."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Of one deployment of an application."""

    deployment: str
    status: str
    """Serve's word: HEALTHY, UPDATING, UNHEALTHY, DEPLOY_FAILED, UPSCALING, DOWNSCALING."""
    running: int
    wanted: int | None = None
    """None where Serve does not say."""
    message: str = ""
    memory_bytes: int | None = None
    """Resident, all replicas together; None where it cannot be seen from the gateway."""
    cpu_cores: float | None = None
    """Busy on average, all replicas together; None likewise."""

    @property
    def is_short(self) -> bool:
        return self.wanted is not None and self.running < self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    name: str
    status: str
    """Serve's word: NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY, DELETING."""
    message: str = ""
    deployments: tuple[Replicas, ...] = ()
    is_gateway: bool = False
    """It answers callers; it is no model."""

    @property
    def running(self) -> int:
        return sum(part.running for part in self.deployments)

    @property
    def wanted(self) -> int | None:
        known = [part.wanted for part in self.deployments if part.wanted is not None]
        return sum(known) if len(known) == len(self.deployments) else None


class ServeStatus(Protocol):
    async def applications(self) -> tuple[Application, ...]:
        """Raises Unavailable when Serve's controller does not answer."""
        ...
