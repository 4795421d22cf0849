"""Where the registry, Ray Serve and Kubernetes say different things, one sentence each."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from serve_app.deployed.applications import Application
from serve_app.deployed.cluster import RayService
from serve_app.registry.entry import ModelEntry

OPEN = "open"
"""A circuit's word for: nothing is sent there for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The three sides of one environment."""

    environment: str
    entries: tuple[ModelEntry, ...]
    """Of every environment: the same version may not be other weights in another."""
    applications: tuple[Application, ...] | None = None
    """None where the gateway could not be asked: nothing is said about Serve then."""
    circuits: Mapping[str, str] = field(default_factory=dict)
    """State by the entry's name, on the ingress replica that was asked."""
    rayservices: tuple[RayService, ...] = ()

    @property
    def own(self) -> tuple[ModelEntry, ...]:
        return tuple(entry for entry in self.entries if entry.environment == self.environment)

    def application(self, entry: ModelEntry) -> Application | None:
        return next((one for one in self.applications or () if one.name == entry.application), None)

    def of_model(self, model: str) -> "Picture":
        """Less what has to do with other models alone: their entries and applications."""
        mine = {e.application for e in self.own if e.model == model}
        others = {e.application for e in self.own if e.model != model} - mine
        applications = self.applications
        if applications is not None:
            applications = tuple(one for one in applications if one.name not in others)
        return Picture(
            environment=self.environment,
            entries=tuple(entry for entry in self.entries if entry.model == model),
            applications=applications,
            circuits=self.circuits,
            rayservices=self.rayservices,
        )


def disagreements(picture: Picture) -> tuple[str, ...]:
    """Sentences that name who says what, and the way out; none where all agree."""
    found = [*digests(picture)]
    for entry in picture.own:
        found += entry_faults(picture, entry)
    found += unnamed(picture)
    for rayservice in picture.rayservices:
        found += undeclared(picture, rayservice)
        found += rayservice_faults(rayservice)
        found += pod_faults(rayservice)
    return tuple(found)


def digests(picture: Picture) -> Iterator[str]:
    by_name: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in picture.entries:
        if entry.digest:
            by_name[entry.name][entry.environment] = entry.digest
    for name, known in by_name.items():
        if len(set(known.values())) > 1:
            said = ", ".join(f"{digest[:19]}... in {environment}" for environment, digest in known.items())
            yield f"{name} has other weights by environment ({said}): register what is really there, or a new version"


def entry_faults(picture: Picture, entry: ModelEntry) -> Iterator[str]:
    if entry.is_enabled and picture.circuits.get(entry.name) == OPEN:
        yield f"{entry.name} is enabled, but its circuit is open: its last requests failed, nothing is sent there now"
    if entry.application is None or picture.applications is None:
        return
    application = picture.application(entry)
    if application is None:
        if entry.is_enabled:
            yield (
                f"{entry.name} is enabled, but Ray Serve has no application {entry.application!r}: "
                f"add it to the cluster, or `manta registry disable --model {entry.model} --version {entry.version} "
                f"--environment {entry.environment}`"
            )
    elif entry.is_enabled:
        yield from application_faults(entry, application)
    elif application.running and not shared(picture, entry):
        yield (
            f"{entry.name} is {entry.status}, but {application.running} replica(s) of its application "
            f"{application.name!r} still run: remove the application, or enable the version"
        )


def application_faults(entry: ModelEntry, application: Application) -> Iterator[str]:
    subject = f"{entry.name} is enabled, but its application {application.name!r}"
    if application.status != "RUNNING":
        reason = f": {first_line(application.message)}" if application.message else ""
        yield f"{subject} is {application.status}{reason}"
    for part in application.deployments:
        if part.is_short:
            reason = f": {first_line(part.message)}" if part.message else ""
            yield f"{subject} has {part.running} of {part.wanted} replicas of {part.deployment!r}{reason}"
        elif part.status == "UNHEALTHY":
            yield f"{subject} has an unhealthy deployment {part.deployment!r}: {first_line(part.message)}"


def shared(picture: Picture, entry: ModelEntry) -> bool:
    """Another version is enabled on the same application."""
    return any(other.is_enabled and other.endpoint == entry.endpoint for other in picture.own)


def unnamed(picture: Picture) -> Iterator[str]:
    known = {entry.application for entry in picture.own}
    for application in picture.applications or ():
        if not application.is_gateway and application.name not in known:
            yield (
                f"application {application.name!r} is {application.status} in Ray Serve, but no entry of "
                f"{picture.environment} names it: `manta registry register --endpoint serve://{application.name}`"
            )


def undeclared(picture: Picture, rayservice: RayService) -> Iterator[str]:
    for entry in picture.own:
        if entry.application is None or not entry.is_enabled:
            continue
        if entry.application not in rayservice.declared:
            yield (
                f"{entry.name} is enabled, but the serveConfigV2 of RayService {rayservice.full_name} has no "
                f"application {entry.application!r}: its next cluster will start without it"
            )
        elif (status := rayservice.applications.get(entry.application, "")) not in ("", "RUNNING"):
            yield f"{entry.name} is enabled, but RayService {rayservice.full_name} says its application is {status}"


def rayservice_faults(rayservice: RayService) -> Iterator[str]:
    subject = f"RayService {rayservice.full_name}"
    if not rayservice.is_observed:
        yield f"{subject} was changed and the operator has not acted on it: is the KubeRay operator running?"
    ready = rayservice.condition("Ready")
    if ready is None or ready.status != "True":
        reason = "; ".join(filter(None, [ready.reason, first_line(ready.message)])) if ready else "no condition yet"
        yield f"{subject} is not ready ({reason})"
    for kind, words in (
        ("UpgradeInProgress", "is being upgraded: requests move to another RayCluster"),
        ("RollbackInProgress", "is going back to its former RayCluster"),
        ("Suspending", "is being suspended"),
        ("Suspended", "is suspended: none of its pods run"),
    ):
        if rayservice.is_true(kind):
            yield f"{subject} {words}"
    if rayservice.endpoints == 0 and ready is not None and ready.status == "True":
        yield f"{subject} says that it is ready, but its Service has no endpoint"


def pod_faults(rayservice: RayService) -> Iterator[str]:
    ids: dict[str, set[str]] = defaultdict(set)
    for pod in rayservice.pods:
        if not pod.is_ready and pod.phase != "Succeeded":
            yield f"pod {pod.name} is {pod.phase} and not ready{': ' + pod.reason if pod.reason else ''}"
        for container in pod.containers:
            if container.image_id:
                ids[container.image].add(container.image_id.rpartition("@")[2])
            if container.name.startswith("ray-") and rayservice.images and container.image not in rayservice.images:
                yield (
                    f"pod {pod.name} runs {container.image}, but RayService {rayservice.full_name} asks for "
                    f"{', '.join(sorted(rayservice.images))}"
                )
    for image, digests_of in ids.items():
        if len(digests_of) > 1:
            yield f"{image} is {len(digests_of)} different images by pod: name it by its digest"


def first_line(text: str) -> str:
    """The last line of a trace says what went wrong; of anything else the first does."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    line = lines[-1] if "Traceback" in text else lines[0]
    return line if len(line) <= 200 else f"{line[:197]}..."
