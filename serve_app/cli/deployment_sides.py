"""The three sides of a deployment as the command line reaches them."""

from collections.abc import Callable
from dataclasses import dataclass

from serve_app.cli.admin import Reached
from serve_app.cli.remote_rollouts import site_of
from serve_app.deployed.cluster import Cluster, RayService
from serve_app.deployed.disagreements import Picture
from serve_app.deployed.gateway import Gateway
from serve_app.errors import Forbidden, InvalidRequest, NotFound, Unavailable
from serve_app.registry.entry import Environment, ModelEntry

Connect = Callable[[], Cluster | None]


def kubernetes_at_hand() -> Cluster | None:
    # the client takes a third of a second to import: no other command pays for that
    from serve_app.adapters.kubernetes import KubernetesCluster

    return KubernetesCluster.at_hand()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    picture: Picture
    gateway: Gateway | None
    notes: tuple[str, ...] = ()
    """What could not be asked or compared, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What the command line says of where to look."""

    environment: Environment | None = None
    """None: the gateway's; straight on the database the only one there is."""
    model: str = ""
    rayservice: str = ""
    namespace: str = ""
    connect: Connect = kubernetes_at_hand

    @property
    def names_kubernetes(self) -> bool:
        return bool(self.rayservice or self.namespace)


async def sides(there: Reached, where: Where) -> Sides:
    """Raises NotFound for a model nobody knows; Unavailable, Forbidden or NotFound for what was asked for by name."""
    entries = await there.registry.entries()
    gateway, notes = await _gateway(there)
    environment = where.environment or (gateway.environment if gateway else _only_environment(entries))
    applications = gateway.applications if gateway else None
    circuits = gateway.circuits if gateway else {}
    if gateway and gateway.environment != environment:
        notes.append(f"the gateway asked serves {gateway.environment}: what runs for {environment} is not known to it")
        applications, circuits = None, {}
    found, said = await rayservices(where)
    own = tuple(one for one in found if one.environment in ("", environment))
    others = (f"RayService {one.full_name} serves {one.environment}" for one in found if one not in own)
    picture = Picture(
        environment=environment, entries=entries, applications=applications, circuits=circuits, rayservices=own
    )
    if where.model:
        _refuse_unknown(picture, where.model)
        picture = picture.of_model(where.model)
    notes += [*said, *others, *(note for one in own for note in one.notes)]
    return Sides(picture=picture, gateway=gateway, notes=tuple(notes))


async def _gateway(there: Reached) -> tuple[Gateway | None, list[str]]:
    try:
        gateway = await site_of(there).gateway()
    except Unavailable as error:
        return None, [f"what runs in Ray Serve is not known: {error}"]
    if gateway is None:
        return None, ["straight on the database nobody knows what runs in Ray Serve: set MANTA_URL"]
    if gateway.is_stale:
        stale = (
            f"the gateway has not reached the registry's database for {gateway.age_s:.0f} s and serves its last copy"
        )
        return gateway, [stale]
    return gateway, []


def _only_environment(entries: tuple[ModelEntry, ...]) -> str:
    """Where no gateway says which it serves."""
    found = sorted({entry.environment for entry in entries})
    if len(found) > 1:
        raise InvalidRequest(
            f"environment: models are registered in {' and '.join(found)}; say which with --environment"
        )
    return found[0] if found else "development"


async def rayservices(where: Where) -> tuple[tuple[RayService, ...], list[str]]:
    """Those at hand, and why there are none. What was named must be there."""
    try:
        cluster = where.connect()
        if cluster is None:
            if where.names_kubernetes:
                raise NotFound("there is no Kubernetes at hand: set KUBECONFIG, or run where a service account is")
            return (), []
        found = await cluster.rayservices(namespace=where.namespace, name=where.rayservice)
    except (Unavailable, Forbidden, NotFound) as error:
        if where.names_kubernetes:
            raise
        return (), [f"what Kubernetes has is not known: {error}"]
    return found, [] if found else ["there is a Kubernetes at hand, but no RayService in its namespace (--namespace)"]


def _refuse_unknown(picture: Picture, model: str) -> None:
    known = sorted({entry.model for entry in picture.own})
    if model not in known:
        there = f"there are: {', '.join(known)}" if known else "none is registered"
        raise NotFound(f"model: no model {model!r} in {picture.environment}; {there}")
