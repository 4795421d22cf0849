"""`manta rollout promote`: all requests to a rollout's version, or a version into another environment."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from serve_app.cli.admin import DatabaseUrl, Output, Reached, Why, Yes, carried_out, confirmed, documented
from serve_app.cli.durations import percents_of, seconds
from serve_app.cli.rollout_acting import Hold, In, Model, Shadow, Steps, acted, tell
from serve_app.cli.rollout_places import place_of
from serve_app.cli.rollout_promotion import STATUS, Asked, Told, promoted
from serve_app.errors import InvalidRequest
from serve_app.promotion.gates import REQUIREMENTS, Requirement
from serve_app.registry.entry import Environment
from serve_app.rollout.operations import Standing

REQUIRED: tuple[Requirement, ...] = ("licence", "digest")
ALL = ", ".join(REQUIREMENTS)


def promote(
    context: typer.Context,
    model: Model,
    environment: In = None,
    source: Annotated[
        Environment | None, typer.Option("--from", help="Bring a version from here into the environment of --to.")
    ] = None,
    target: Annotated[Environment | None, typer.Option("--to", help="Where it comes to.")] = None,
    version: Annotated[str | None, typer.Option(help="Else the one that takes most requests in --from.")] = None,
    endpoint: Annotated[str, typer.Option(help="Where it runs in --to, if elsewhere than in --from.")] = "",
    evaluation: Annotated[Path | None, typer.Option(help="Report of `manta eval retrieval`: retrieval.json.")] = None,
    least: Annotated[float | None, typer.Option(help="Least nDCG@10 of the report.", min=0, max=1)] = None,
    max_age: Annotated[str, typer.Option(help="Of the report.")] = "30d",
    no_evaluation: Annotated[bool, typer.Option("--no-evaluation", help="There is none.")] = False,
    require: Annotated[
        list[str] | None, typer.Option(help=f"What the registry must know of it; again for each: {ALL}.")
    ] = None,
    require_nothing: Annotated[bool, typer.Option("--require-nothing", help="Else licence and digest.")] = False,
    may_do_less: Annotated[bool, typer.Option("--may-do-less", help="Fewer capabilities, less context.")] = False,
    at_once: Annotated[bool, typer.Option("--at-once", help="All requests, without a rollout.")] = False,
    steps: Steps = "5,25,50,100",
    hold: Hold = "10m",
    shadow: Shadow = 0,
    from_url: Annotated[str, typer.Option(envvar="MANTA_FROM_URL", help="Gateway of --from, if another.")] = "",
    why: Why = "",
    yes: Yes = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Send a rollout's version all requests now; or with --from and --to bring a version into another environment.

    It goes there through gates, and by a rollout; what was done is undone when a step fails."""
    if source or target:
        _between(context.params)
    else:
        _now(model, environment, why, yes, output, database)


def _now(model: str, environment: Environment | None, why: str, yes: bool, output: Any, database: str | None) -> None:
    async def work(there: Reached) -> Standing:
        place = await place_of(there, model, environment)
        confirmed(f"Send all of {model}'s requests in {place.environment} to its new version?", yes)
        return await acted(there, "promote", model, place.environment, why)

    tell(carried_out(work, database), output)


def _between(options: Mapping[str, Any]) -> None:
    is_json = options["output"] == "json"
    told = Told(None if is_json else Console(highlight=False))

    async def work(there: Reached) -> str:
        return await promoted(there, asked_of(options), told, options["yes"])

    outcome = carried_out(work, options["database"])
    if is_json:
        documented(told.document(outcome))
    else:
        told.title(ending(outcome, options))
    raise typer.Exit(STATUS[outcome])


def asked_of(options: Mapping[str, Any]) -> Asked:
    """Raises InvalidRequest for options that do not go together."""
    if options["source"] is None or options["target"] is None:
        missing = "--from" if options["source"] is None else "--to"
        raise InvalidRequest(
            f"{missing}: a promotion between environments names both, as in --from staging --to production"
        )
    if options["environment"]:
        raise InvalidRequest("environment: --from and --to say which environments; leave --environment out")
    same = ("model", "source", "target", "version", "endpoint", "evaluation", "no_evaluation", "least")
    return Asked(
        **{name: options[name] for name in (*same, "may_do_less", "at_once", "why")},
        newest_s=seconds(options["max_age"], "max_age"),
        require=frozenset() if options["require_nothing"] else required(options["require"] or REQUIRED),
        steps=percents_of(options["steps"]),
        hold_s=seconds(options["hold"], "hold"),
        shadow_percent=options["shadow"],
        source_url=options["from_url"],
    )


def required(given: Iterable[str]) -> frozenset[Requirement]:
    """Raises InvalidRequest for what the registry knows nothing of."""
    wanted = set(given)
    if unknown := sorted(wanted.difference(REQUIREMENTS)):
        raise InvalidRequest(f"require: {unknown[0]!r} is none of {ALL}")
    return frozenset(fact for fact in REQUIREMENTS if fact in wanted)


def ending(outcome: str, options: Mapping[str, Any]) -> str:
    model, target = options["model"], options["target"]
    match outcome:
        case "promoted" if options["at_once"]:
            return f"promoted; `manta rollout rollback {model} --environment {target}` takes it back"
        case "promoted":
            return f"under way; `manta rollout status {model} --environment {target} --watch` shows how it goes"
        case "left":
            return (
                "NOT ALL OF IT WAS UNDONE: see above what is left, and put it right with `manta rollout rollback` "
                f"and `manta registry deregister`; `manta registry show --model {model}` shows what is there"
            )
    return "nothing was changed" if outcome == "refused" else "nothing is left changed"
