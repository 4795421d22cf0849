"""A deployment for readers."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from serve_app.cli.registry_tables import COLOURS, percent, shares
from serve_app.deployed.applications import Application
from serve_app.deployed.cluster import Pod, RayService
from serve_app.deployed.disagreements import Picture
from serve_app.registry.entry import ModelEntry

WELL = {"RUNNING", "HEALTHY", "closed", "True"}


def deployment_view(picture: Picture, found: Sequence[str], notes: Sequence[str]) -> RenderableType:
    parts: list[RenderableType] = [f"[bold]{picture.environment}[/]", sides_table(picture)]
    parts += [rayservice_view(one) for one in picture.rayservices]
    if notes:
        parts += ["[yellow]not known[/]", sentences(notes)]
    if found:
        parts += [f"[bold red]{len(found)} disagreement{'s' if len(found) > 1 else ''}[/]", sentences(found)]
    else:
        parts.append("[green]all that is known agrees[/]" if notes else "[green]all sides agree[/]")
    return Group(*parts)


def sentences(said: Iterable[str]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for sentence in said:
        table.add_row("-", escape(sentence))
    return table


def sides_table(picture: Picture) -> Table:
    """A row for each entry, then for each application that no entry names."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("version", "registry", "share", "endpoint", "Ray Serve", "circuit"):
        table.add_column(heading, overflow="fold")
    of = shares(picture.own)
    for entry in picture.own:
        table.add_row(
            escape(entry.name),
            f"[{COLOURS[entry.status]}]{entry.status}[/]",
            percent(of.get(entry.key)) or "-",
            escape(entry.endpoint),
            _serve(picture, entry),
            coloured(picture.circuits.get(entry.name, "-")),
        )
    named = {entry.application for entry in picture.own}
    for application in picture.applications or ():
        if application.name not in named:
            kind = "the gateway" if application.is_gateway else "[red]no entry[/]"
            table.add_row("-", kind, "-", escape(f"serve://{application.name}"), running(application), "-")
    return table


def _serve(picture: Picture, entry: ModelEntry) -> str:
    if entry.application is None:
        return "-"
    if picture.applications is None:
        return "?"
    application = picture.application(entry)
    return running(application) if application else "[red]none[/]"


def running(application: Application) -> str:
    wanted = "?" if application.wanted is None else str(application.wanted)
    return f"{coloured(application.status)} {application.running}/{wanted}"


def coloured(word: str) -> str:
    return word if word == "-" else f"[{'green' if word in WELL else 'red'}]{escape(word)}[/]"


def rayservice_view(rayservice: RayService) -> RenderableType:
    conditions = ", ".join(f"{one.type} {one.status}" for one in rayservice.conditions) or "no conditions yet"
    place = f"RayCluster {rayservice.active or 'none yet'}"
    following = f", then {rayservice.pending}" if rayservice.pending else ""
    lines = [
        f"[bold]RayService {escape(rayservice.full_name)}[/]: {escape(conditions)}",
        escape(f"{place}{following}; {rayservice.endpoints} endpoint(s)"),
    ]
    return Group(*lines, pods_table(rayservice.pods)) if rayservice.pods else Group(*lines)


def pods_table(pods: Iterable[Pod]) -> Table:
    """A row for each kind of pod: which of them is not well stands among the disagreements."""
    by_group: dict[tuple[str, str], list[Pod]] = defaultdict(list)
    for pod in pods:
        by_group[pod.ray_cluster, pod.group].append(pod)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("pods of", "ready", "restarts", "memory", "CPU"):
        table.add_column(heading, overflow="fold", justify="left" if heading == "pods of" else "right")
    clusters = {cluster for cluster, _ in by_group}
    for (cluster, group), found in sorted(by_group.items()):
        ready = sum(pod.is_ready for pod in found)
        table.add_row(
            escape(group if len(clusters) == 1 else f"{cluster} {group}"),
            f"[{'green' if ready == len(found) else 'red'}]{ready}/{len(found)}[/]",
            str(sum(pod.restarts for pod in found)),
            _memory(found),
            _cores(found),
        )
    return table


def _memory(pods: Sequence[Pod]) -> str:
    used = [one.memory_bytes for pod in pods for one in pod.containers if one.memory_bytes is not None]
    limits = [one.memory_limit_bytes for pod in pods for one in pod.containers if one.memory_limit_bytes is not None]
    if not used:
        return "not known"
    return decimal(sum(used)) + (f" of {decimal(sum(limits))}" if limits else "")


def _cores(pods: Sequence[Pod]) -> str:
    used = [one.cpu_cores for pod in pods for one in pod.containers if one.cpu_cores is not None]
    return f"{sum(used):.1f}" if used else "not known"
