"""What Kubernetes has of a service: its RayService, and the pods of that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str
    status: str
    """True, False or Unknown, as Kubernetes writes it."""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Its image as the pod asks for it, and what the node made of that."""

    name: str
    image: str
    image_id: str = ""
    """With the digest; empty until it was pulled."""
    restarts: int = 0
    last_end: str = ""
    """Why it ended the last time: OOMKilled, Error... Empty where it never did."""
    memory_limit_bytes: int | None = None
    memory_bytes: int | None = None
    """From the metrics API; None where there is none. So is `cpu_cores`."""
    cpu_cores: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    name: str
    ray_cluster: str
    group: str
    """Of the RayCluster: `headgroup`, or a worker group's name."""
    phase: str
    is_ready: bool
    reason: str = ""
    """Why it is not ready; empty where nobody says."""
    containers: tuple[Container, ...] = ()

    @property
    def restarts(self) -> int:
        return sum(container.restarts for container in self.containers)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayService:
    name: str
    namespace: str
    conditions: tuple[Condition, ...] = ()
    applications: Mapping[str, str] = field(default_factory=dict)
    """Serve's status by application, in the cluster that answers."""
    declared: frozenset[str] = frozenset()
    """Applications in its `serveConfigV2`."""
    environment: str = ""
    """Whose entries its gateway serves, by that config; empty where that has no gateway of Manta's."""
    images: frozenset[str] = frozenset()
    """Of the Ray containers, as its spec asks for them."""
    active: str = ""
    """The RayCluster that answers; empty where none does yet."""
    pending: str = ""
    """The one being prepared to take over; empty outside an upgrade."""
    endpoints: int = 0
    is_observed: bool = True
    """The operator has seen the spec as it is now."""
    pods: tuple[Pod, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    def condition(self, kind: str) -> Condition | None:
        return next((one for one in self.conditions if one.type == kind), None)

    def is_true(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found.status == "True"


class Cluster(Protocol):
    async def rayservices(self, *, namespace: str = "", name: str = "") -> tuple[RayService, ...]:
        """Those there are; of one name, or all of a namespace (empty: the one of the configuration at hand).

        Raises Unavailable, Forbidden or NotFound with a sentence: no cluster answers, its permissions do not
        suffice, it knows no RayServices.
        """
        ...
