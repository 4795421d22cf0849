"""Steps about what runs: applications, replicas, and what they take."""

from collections.abc import Iterator, Sequence

from serve_app.deployed.applications import Application
from serve_app.deployed.cluster import Container, Pod, RayService
from serve_app.deployed.disagreements import first_line
from serve_app.deployed.gateway import Gateway
from serve_app.registry.entry import ModelEntry
from serve_app.validation.finding import Finding, failed, passed, skipped, together, warning

CROWDED = 0.9
"""Of a memory limit: the kernel ends a container at 1, and a long context takes what is left."""
MIB = 2**20


def released(enabled: Sequence[ModelEntry], gateway: Gateway | None, rayservice: RayService | None) -> Finding:
    """Whether the model's applications run, by Serve and by the RayService."""
    found = [*_releases(rayservice)] if rayservice else []
    for entry in enabled:
        if entry.application is None:
            found.append(skipped(f"{entry.name} runs elsewhere, at {entry.endpoint}"))
            continue
        if gateway:
            found.append(_application(entry, _named(entry, gateway)))
        if rayservice:
            found.append(_declared(entry, rayservice))
    return together(found) if found else skipped("nothing is known of what the model runs in")


def _named(entry: ModelEntry, gateway: Gateway) -> Application | None:
    return next((one for one in gateway.applications if one.name == entry.application), None)


def _application(entry: ModelEntry, application: Application | None) -> Finding:
    if application is None:
        return failed(f"Ray Serve has no application {entry.application!r}, where {entry.name} is registered")
    if application.status != "RUNNING":
        return failed(f"application {application.name!r} is {application.status}: {first_line(application.message)}")
    return passed(f"application {application.name!r} is RUNNING")


def _releases(rayservice: RayService) -> Iterator[Finding]:
    ready = rayservice.condition("Ready")
    if ready is None or ready.status != "True":
        reason = first_line(ready.message or ready.reason) if ready else "the operator has said nothing of it yet"
        yield failed(f"RayService {rayservice.full_name} is not ready: {reason}")
    else:
        yield passed(f"RayService {rayservice.full_name} is ready, {rayservice.endpoints} endpoint(s)")
    if not rayservice.is_observed:
        yield failed(f"the operator has not acted on the last change of RayService {rayservice.full_name}")
    for kind in ("UpgradeInProgress", "RollbackInProgress"):
        if rayservice.is_true(kind):
            yield warning(f"RayService {rayservice.full_name} says {kind}")


def _declared(entry: ModelEntry, rayservice: RayService) -> Finding:
    status = rayservice.applications.get(entry.application or "")
    if entry.application not in rayservice.declared:
        return failed(
            f"the serveConfigV2 of RayService {rayservice.full_name} has no application {entry.application!r}"
        )
    if status not in (None, "RUNNING"):
        return failed(f"RayService {rayservice.full_name} says that application {entry.application!r} is {status}")
    return passed(f"RayService {rayservice.full_name} declares application {entry.application!r}")


def replicated(enabled: Sequence[ModelEntry], gateway: Gateway | None, rayservice: RayService | None) -> Finding:
    """Whether replicas and pods are as many as they should be, those of the gateway included."""
    wanted = {entry.application for entry in enabled}
    found = [
        _replicas(application)
        for application in (gateway.applications if gateway else ())
        if application.is_gateway or application.name in wanted
    ]
    found += [_pods(rayservice)] if rayservice else []
    return together(found) if found else skipped("nobody says how many replicas there are")


def _replicas(application: Application) -> Finding:
    short = [part for part in application.deployments if part.is_short]
    figures = {f"{application.name}/{part.deployment}": part.running for part in application.deployments}
    if short:
        counts = ", ".join(f"{part.running} of {part.wanted} of {part.deployment!r}" for part in short)
        return failed(f"application {application.name!r} has {counts}", **figures)
    if not application.running:
        return warning(f"application {application.name!r} has no replica: the first request has to wait", **figures)
    return passed(f"{application.name} {application.running}/{application.wanted or '?'}", **figures)


def _pods(rayservice: RayService) -> Finding:
    pods = [pod for pod in rayservice.pods if pod.ray_cluster == rayservice.active]
    late = [pod for pod in pods if not pod.is_ready]
    if late:
        names = "; ".join(f"{pod.name} is {pod.phase}{': ' + pod.reason if pod.reason else ''}" for pod in late)
        return failed(f"{len(late)} of {len(pods)} pods are not ready: {names}")
    if not pods:
        return warning(f"no pods of RayService {rayservice.full_name} can be seen")
    return passed(f"{len(pods)} pods are ready", pods=len(pods))


def consumed(enabled: Sequence[ModelEntry], gateway: Gateway | None, rayservice: RayService | None) -> Finding:
    """What the model's replicas, the gateway's and the pods take. What nobody knows is a warning, not a pass."""
    wanted = {entry.application for entry in enabled if entry.application}
    applications = [one for one in (gateway.applications if gateway else ()) if one.is_gateway or one.name in wanted]
    found = [_taken(one) for one in applications]
    found += [_pod_use(pod) for pod in (rayservice.pods if rayservice else ())]
    return together(found) if found else warning("not known: nobody says what the model's replicas take")


def _taken(application: Application) -> Finding:
    memory = [part.memory_bytes for part in application.deployments]
    cores = [part.cpu_cores for part in application.deployments]
    if not memory or any(one is None for one in memory):
        return warning(f"what {application.name!r} takes is not known: its replicas are not on the gateway's machine")
    taken, busy = sum(one or 0 for one in memory), sum(one or 0.0 for one in cores)
    figures = {f"{application.name} memory_bytes": taken, f"{application.name} cpu_cores": round(busy, 3)}
    return passed(f"{application.name} {taken / MIB:.0f} MiB, {busy:.2f} cores", **figures)


def _pod_use(pod: Pod) -> Finding:
    found = [_container_use(pod, container) for container in pod.containers]
    return together(found) if found else warning(f"what pod {pod.name} takes is not known")


def _container_use(pod: Pod, container: Container) -> Finding:
    if container.last_end == "OOMKilled":
        return failed(f"pod {pod.name} was ended for its memory ({container.restarts} restart(s))")
    if container.memory_bytes is None:
        return warning(f"what pod {pod.name} takes is not known")
    figures = {f"{pod.name} memory_bytes": container.memory_bytes, f"{pod.name} cpu_cores": container.cpu_cores}
    limit = container.memory_limit_bytes
    if limit and container.memory_bytes > CROWDED * limit:
        share = container.memory_bytes / limit
        return warning(f"pod {pod.name} takes {share:.0%} of its memory limit", **figures)
    return passed(f"pod {pod.name} {container.memory_bytes / MIB:.0f} MiB", **figures)
