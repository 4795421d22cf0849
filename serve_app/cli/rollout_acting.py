"""What the commands of `manta rollout` share: their options, an operator's word to one rollout, and how it is told."""

import time
from typing import Annotated, Literal

import typer
from rich.console import Console

from serve_app.cli.admin import Reached, documented
from serve_app.cli.remote_rollouts import rollouts_of
from serve_app.cli.rollout_places import place_of
from serve_app.cli.rollout_tables import standing_view
from serve_app.http.rollouts_wire import standing_object
from serve_app.registry.entry import Environment
from serve_app.rollout.operations import Action, Standing

Model = Annotated[str, typer.Argument(help="The model, as callers ask for it.")]
In = Annotated[
    Environment | None, typer.Option("--environment", help="Without it the one that has the model or its rollout.")
]
Steps = Annotated[str, typer.Option(help="Percent of the model's requests, rising; empty for shadow traffic alone.")]
Hold = Annotated[str, typer.Option(help="Least time on each step: 30s, 10m, 2h.")]
Shadow = Annotated[int, typer.Option(help="Percent of the requests that the version answers too, unseen.")]


async def acted(there: Reached, action: Action, model: str, environment: str | None, why: str) -> Standing:
    place = await place_of(there, model, environment)
    return await rollouts_of(there).act(action, place.model, place.environment, who=there.who, why=why)


def tell(standing: Standing, output: Literal["table", "json"]) -> None:
    """How far it is now."""
    if output == "json":
        documented(standing_object(standing))
    else:
        Console(highlight=False).print(standing_view(standing, time.time()))
