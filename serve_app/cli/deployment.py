"""`manta deployment status`: registry, Ray Serve and Kubernetes side by side."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from serve_app.cli.admin import DatabaseUrl, Output, Reached, carried_out, documented
from serve_app.cli.deployment_sides import Sides, Where, sides
from serve_app.cli.deployment_tables import deployment_view
from serve_app.cli.registry_tables import details
from serve_app.deployed.disagreements import disagreements
from serve_app.registry.entry import Environment

deployment_app = typer.Typer(no_args_is_help=True)
RayServiceName = Annotated[str, typer.Option("--rayservice", help="Of this name alone, which must be there.")]
Namespace = Annotated[str, typer.Option(help="Of Kubernetes; without it the context's.")]


@deployment_app.callback()
def main() -> None:
    """What is registered, and what runs."""


@deployment_app.command()
def status(
    model: Annotated[str, typer.Option(help="One model's alone.")] = "",
    environment: Annotated[Environment | None, typer.Option(help="Without it the gateway's.")] = None,
    rayservice: RayServiceName = "",
    namespace: Namespace = "",
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Put registry, Ray Serve and Kubernetes side by side. Exit status 1 where they disagree."""
    where = Where(model=model, environment=environment, rayservice=rayservice, namespace=namespace)

    async def work(there: Reached) -> Sides:
        return await sides(there, where)

    found = carried_out(work, database)
    faults = disagreements(found.picture)
    if output == "json":
        documented(document(found, faults))
    else:
        Console(highlight=False, soft_wrap=False).print(deployment_view(found.picture, faults, found.notes))
    if faults:
        raise typer.Exit(1)


def document(found: Sides, faults: tuple[str, ...]) -> dict[str, Any]:
    picture, gateway = found.picture, found.gateway
    return {
        "environment": picture.environment,
        "entries": [details(entry, picture.own) for entry in picture.own],
        "applications": None if picture.applications is None else [asdict(one) for one in picture.applications],
        "circuits": dict(picture.circuits),
        "registry_copy": (
            {"revision": gateway.revision, "age_s": gateway.age_s, "is_stale": gateway.is_stale} if gateway else None
        ),
        "rayservices": [
            {**asdict(one), "declared": sorted(one.declared), "images": sorted(one.images)}
            for one in picture.rayservices
        ],
        "disagreements": list(faults),
        "notes": list(found.notes),
    }
