"""`manta rollout`: a new version takes a model's requests step by step, watched, and goes back by itself."""

import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from serve_app.cli.admin import DatabaseUrl, Output, Reached, Why, Yes, carried_out, confirmed, documented
from serve_app.cli.durations import percents_of, seconds
from serve_app.cli.remote_rollouts import rollouts_of
from serve_app.cli.rollout_acting import Hold, In, Model, Shadow, Steps, acted, tell
from serve_app.cli.rollout_places import only_rollout, place_of
from serve_app.cli.rollout_promote import promote
from serve_app.cli.rollout_tables import history_list, standing_view
from serve_app.cli.rollout_watch import Watch, watched
from serve_app.http.rollouts_wire import rollout_object, standing_object
from serve_app.rollout.operations import Plan, Standing
from serve_app.rollout.rollout import Rollout

rollout_app = typer.Typer(no_args_is_help=True)
AnyModel = Annotated[str, typer.Argument(help="One model's alone.")]


@rollout_app.command()
def start(
    model: Model,
    to: Annotated[str, typer.Option(help="The version that takes the requests.")],
    steps: Steps = "5,25,50,100",
    hold: Hold = "10m",
    shadow: Shadow = 0,
    environment: In = None,
    why: Why = "",
    yes: Yes = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Send a version its first share of the requests; more after each hold, unless its gates take it back."""

    async def work(there: Reached) -> Standing:
        percents, hold_s = percents_of(steps), seconds(hold, "hold")
        place = await place_of(there, model, environment, to_version=to)
        if sys.stdin.isatty():  # a script need not say --yes: nothing is lost, and what is worse goes back by itself
            share = f"{percents[0]} %" if percents else "a copy"
            confirmed(f"Send {share} of {model}'s requests in {place.environment} to version {to}?", yes)
        plan = Plan(
            model=place.model,
            environment=place.environment,
            to_version=to,
            steps=percents,
            hold_s=hold_s,
            shadow_percent=shadow,
        )
        return await rollouts_of(there).start(plan, who=there.who, why=why)

    tell(carried_out(work, database), output)


@rollout_app.command()
def status(
    model: AnyModel = "",
    environment: In = None,
    watch: Annotated[bool, typer.Option("--watch", help="Until they end: status 0 when promoted, 1 if not.")] = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Show rollouts under way and what their gates found; of a model without one how its last one ended."""
    console = Console(highlight=False, stderr=output == "json")

    async def work(there: Reached) -> tuple[Standing, ...]:
        looking = Watch(rollouts_of(there), model, environment or "")
        if watch:
            await watched(looking, console)
        else:
            await looking.look()
        return tuple(looking.seen.values())

    found = carried_out(work, database)
    if output == "json":
        documented([standing_object(one) for one in found])
    elif not found:
        console.print(
            f"no rollout{' of ' + model if model else ''} yet; `manta rollout start` begins one", markup=False
        )
    elif not watch:
        for one in found:
            console.print(standing_view(one, time.time()))
    if watch and any(one.rollout and one.rollout.state == "rolled_back" for one in found):
        raise typer.Exit(1)


@rollout_app.command()
def pause(
    model: Model, environment: In = None, why: Why = "", output: Output = "table", database: DatabaseUrl = None
) -> None:
    """Stay on this step; a breach still takes the version back."""
    tell(carried_out(lambda there: acted(there, "pause", model, environment, why), database), output)


@rollout_app.command()
def resume(
    model: Model, environment: In = None, why: Why = "", output: Output = "table", database: DatabaseUrl = None
) -> None:
    """Go on after a pause; the step's hold begins anew."""
    tell(carried_out(lambda there: acted(there, "resume", model, environment, why), database), output)


@rollout_app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="Without it the one whose rollout is under way.")] = "",
    to: Annotated[str | None, typer.Option(help="A version that takes all requests; without it as before.")] = None,
    environment: In = None,
    why: Why = "",
    yes: Yes = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Put the weights back to what they were before the rollout under way, else before the last one."""

    async def work(there: Reached) -> Standing:
        place = await place_of(there, model, environment) if model else await only_rollout(there, environment)
        target = f"to version {to}" if to else "to the weights before its rollout"
        confirmed(f"Take {place.model} in {place.environment} back {target}?", yes)
        return await rollouts_of(there).act(
            "rollback", place.model, place.environment, to_version=to, who=there.who, why=why
        )

    tell(carried_out(work, database), output)


rollout_app.command()(promote)


@rollout_app.command()
def history(
    model: AnyModel = "",
    environment: In = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="So many, the newest.")] = 20,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """List rollouts, the newest first: how far each came, and why it ended."""

    async def work(there: Reached) -> tuple[Rollout, ...]:
        return await rollouts_of(there).history(model=model, environment=environment or "", limit=limit)

    found = carried_out(work, database)
    if output == "json":
        documented([rollout_object(one) for one in found])
    else:
        Console(highlight=False).print(history_list(found))
