"""Which pods a config needs: how many of each kind, and what Ray may place on one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from serve_app.settings import Application, Config, GatewaySettings, ReplicaOptions, VllmSettings

ENGINE = "engine"
"""The one deployment of an engine application, as in deployments.remote, which would bring Ray here."""
GATEWAY_ROLES = ("ingress", "screener", "classifier", "retriever")
SERVE_AUTO_REPLICAS = (1, 100)
"""What Serve makes of `num_replicas: auto`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """The replicas of one deployment on CPU pods."""

    cpus: float
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One vLLM application, as the cluster sees it."""

    application: str
    accelerator: str
    gpus: int
    """Cards of one replica, all on one node."""
    cpus: float
    """Ray CPUs of one replica, all its bundles together."""
    resources: frozenset[str]
    """Custom resources the replica asks for, by which it finds its worker group."""
    minimum: int
    maximum: int

    @property
    def group(self) -> str:
        return f"{self.accelerator.lower()}-x{self.gpus}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGroup:
    """Pods of one kind. A GPU pod holds exactly one replica; a CPU pod as many as its cores."""

    name: str
    cpus: int
    """Ray CPUs of a pod. A GPU pod offers what its engine takes and no more: nothing else can be placed there."""
    minimum: int
    maximum: int
    gpus: int = 0
    resources: dict[str, int] = field(default_factory=dict)


def worker_groups(config: Config) -> tuple[WorkerGroup, ...]:
    """The gateway's group, then one group per accelerator and number of cards.

    Raises ValueError, naming the field, for an engine that cannot be placed or could be placed on another's pods.
    """
    engines = tuple(
        engine(application) for application in config.applications if isinstance(application.args, VllmSettings)
    )
    names = sorted({engine.group for engine in engines})
    groups = [gpu_group([engine for engine in engines if engine.group == name]) for name in names]
    refuse_strangers(engines, groups)
    return (gateway_group(config), *groups)


def gateway_group(config: Config) -> WorkerGroup:
    """As many pods as hold the CPU deployments, each deployment's replicas at their fewest and at their most."""
    size = config.cluster.gateway_cpus
    replicas = [found for application in config.applications for found in cpu_replicas(application)]
    return WorkerGroup(
        name="gateway",
        cpus=size,
        minimum=max(config.cluster.gateway_min_pods, pods([(r.cpus, r.minimum) for r in replicas], size)),
        maximum=max(config.cluster.gateway_min_pods, pods([(r.cpus, r.maximum) for r in replicas], size)),
    )


def cpu_replicas(application: Application) -> Iterator[Replicas]:
    if isinstance(application.args, VllmSettings):
        return
    listed = {options.name: options for options in application.deployments}
    known = GATEWAY_ROLES if isinstance(application.args, GatewaySettings) else (ENGINE,)
    refuse_unknown(application, known)
    for name in known:
        options = listed.get(name, ReplicaOptions(name=name))
        minimum, maximum = replica_range({}, options) or (1, 1)
        yield Replicas(cpus=(options.ray_actor_options or {}).get("num_cpus", 1), minimum=minimum, maximum=maximum)


def refuse_unknown(application: Application, known: tuple[str, ...]) -> None:
    """Serve would find out when it deploys, and leave the application failed."""
    for options in application.deployments:
        if options.name not in known:
            raise ValueError(
                f"{application.name}.deployments: there is no deployment {options.name!r}; use {', '.join(known)}"
            )


def pods(needs: list[tuple[float, int]], size: int) -> int:
    """Pods of `size` cores that hold every (cores, replicas), first fit decreasing."""
    free: list[float] = []
    for cores in sorted((cores for cores, count in needs for _ in range(count)), reverse=True):
        if cores > size:
            raise ValueError(f"cluster.gateway_cpus: a replica asks for {cores:g} CPUs, a pod has {size}; raise it")
        at = next((index for index, left in enumerate(free) if left >= cores), None)
        if at is None:
            free.append(size - cores)
        else:
            free[at] -= cores
    return len(free)


def engine(application: Application) -> Engine:
    assert isinstance(application.args, VllmSettings)
    given = application.args.llm_config
    name = application.name
    refuse_unknown(application, (ENGINE,))
    accelerator = given.get("accelerator_type")
    if not accelerator:
        raise ValueError(
            f"{name}.llm_config.accelerator_type: missing; name the card, for example A100, to give it GPU pods"
        )
    kwargs = given.get("engine_kwargs") or {}
    gpus = int(kwargs.get("tensor_parallel_size", 1)) * int(kwargs.get("pipeline_parallel_size", 1))
    deployment = given.get("deployment_config") or {}
    actor = {**(deployment.get("ray_actor_options") or {}), **live_actor_options(application)}
    counts = replica_range(deployment, *application.deployments)
    if counts is None:
        raise ValueError(
            f"{name}.deployments: say how many replicas, with autoscaling_config or num_replicas, so that the GPU "
            f"group gets its size"
        )
    return Engine(
        application=name,
        accelerator=str(accelerator),
        gpus=gpus,
        cpus=actor.get("num_cpus", 1) + worker_cpus(given.get("placement_group_config") or {}, gpus),
        resources=frozenset(actor.get("resources") or {}),
        minimum=counts[0],
        maximum=counts[1],
    )


def live_actor_options(application: Application) -> dict[str, Any]:
    return next(
        (dict(options.ray_actor_options) for options in application.deployments if options.ray_actor_options), {}
    )


def worker_cpus(placement: dict[str, Any], gpus: int) -> float:
    """CPUs of the bundles beside the replica's own actor; Ray's default bundles hold a GPU and none."""
    bundles = placement.get("bundles") or [placement.get("bundle_per_worker") or {}] * gpus
    return float(sum(bundle.get("CPU", 0) for bundle in bundles))


def replica_range(deployment: dict[str, Any], *options: ReplicaOptions) -> tuple[int, int] | None:
    """(fewest, most) replicas by Serve's rules: what `deployments` says wins over the application's own code."""
    given = deployment
    for option in options:
        if option.num_replicas is not None or option.autoscaling_config is not None:
            given = {"num_replicas": option.num_replicas, "autoscaling_config": option.autoscaling_config}
    if scaling := given.get("autoscaling_config"):
        fewest = scaling.get("min_replicas", 1)
        return fewest, scaling.get("max_replicas", max(1, fewest))
    if (count := given.get("num_replicas")) is None:
        return None
    return SERVE_AUTO_REPLICAS if count == "auto" else (count, count)


def gpu_group(engines: list[Engine]) -> WorkerGroup:
    first = engines[0]
    return WorkerGroup(
        name=first.group,
        cpus=max(ceil(engine.cpus) for engine in engines),
        gpus=first.gpus,
        resources={
            f"accelerator_type:{first.accelerator}": 1,
            **{name: 1 for name in sorted(frozenset().union(*(engine.resources for engine in engines)))},
        },
        minimum=sum(engine.minimum for engine in engines),
        maximum=sum(engine.maximum for engine in engines),
    )


def refuse_strangers(engines: tuple[Engine, ...], groups: list[WorkerGroup]) -> None:
    """A one-card model on a four-card pod strands three cards, and the four-card model then waits for ever."""
    for engine in engines:
        wanted = engine.resources | {f"accelerator_type:{engine.accelerator}"}
        fitting = [group.name for group in groups if wanted <= group.resources.keys() and engine.gpus <= group.gpus]
        if fitting != [engine.group]:
            raise ValueError(
                f"{engine.application}.llm_config: replicas fit the worker groups {', '.join(fitting)} and belong on "
                f"{engine.group}; add deployment_config.ray_actor_options.resources: {{{engine.group}: 0.001}}"
            )
