"""`manta registry`: which versions of which models there are, and what share of the requests each takes."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from serve_app.cli.admin import DatabaseUrl, Output, Reached, Why, Yes, carried_out, documented
from serve_app.cli.registry_questions import ask_to_deregister, ask_to_disable, ask_to_register
from serve_app.cli.registry_reading import history, list_versions, show, upgrade
from serve_app.cli.registry_tables import details, percent, shares
from serve_app.cli.rollout_places import place_of
from serve_app.http.requests import invalid
from serve_app.registry.entry import Egress, EngineKind, Environment, Key, ModelEntry
from serve_app.registry.registration import Registration

Versions = tuple[ModelEntry, ...]
registry_app = typer.Typer(no_args_is_help=True)
Model = Annotated[str, typer.Option(help="What callers ask for.")]
Version = Annotated[str, typer.Option()]
In = Annotated[Environment, typer.Option()]
Where = Annotated[Environment | None, typer.Option(help="Where it is registered, if in several.")]
Check = Annotated[bool, typer.Option("--check/--no-check", help="Ask the endpoint first, with one tiny completion.")]
Weight = Annotated[int | None, typer.Option(help="0 to 100, beside the weights of the model's other versions.")]
Text = Annotated[str | None, typer.Option()]
Number = Annotated[float | None, typer.Option(help="For a million tokens.")]


@registry_app.command()
def register(
    context: typer.Context,
    model: Model,
    version: Version,
    environment: In = "development",
    endpoint: Annotated[str | None, typer.Option(help="serve://APPLICATION, or http(s)://HOST:PORT/PATH.")] = None,
    weight: Weight = None,
    engine: Annotated[EngineKind | None, typer.Option(help="How it is spoken to, where it does not say.")] = None,
    served_name: Annotated[str | None, typer.Option(help="What the endpoint calls the model.")] = None,
    context_tokens: Annotated[int | None, typer.Option("--context", help="Context length in tokens.")] = None,
    capabilities: Annotated[
        list[str] | None, typer.Option("--capability", help="tools, json, vision, embeddings, once for each; or none.")
    ] = None,
    prompt_price: Number = None,
    output_price: Number = None,
    licence: Text = None,
    digest: Annotated[str | None, typer.Option(help="Of the weights: sha256:...")] = None,
    owner: Text = None,
    egress: Annotated[Egress | None, typer.Option(help="What text it gets; over HTTP redacted, if not told.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The gateway's variable with the endpoint's key.")] = None,
    check: Check = True,
    why: Why = "",
    yes: Yes = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Put a version of a model in, or change what is said of one that is in."""

    async def work(there: Reached) -> tuple[ModelEntry, Versions]:
        asked = registration(context.params)
        ask_to_register(asked, await there.registry.entries(model=model, environment=environment), check, yes)
        entry = await there.registry.register(asked, check=check, who=there.who, why=why)
        return entry, await there.registry.entries(model=model, environment=environment)

    tell(*carried_out(work, database), output)


def registration(options: Mapping[str, Any]) -> Registration:
    """Of the options that were given. Raises InvalidRequest, which names the field."""
    said = {name: value for name, value in options.items() if name in Registration.model_fields}
    capabilities = [] if said["capabilities"] == ["none"] else said["capabilities"] or None
    try:
        return Registration.model_validate({**said, "capabilities": capabilities})
    except ValidationError as exc:
        raise invalid(exc) from exc


async def key_of(there: Reached, model: str, version: str, environment: str | None) -> Key:
    """Of a version that is registered. Raises where it is so in several environments and none was said."""
    place = await place_of(there, model, environment, to_version=version)
    return model, version, place.environment


def tell(entry: ModelEntry, versions: Versions, output: str) -> None:
    """What has become of it, among the versions of its model."""
    if output == "json":
        documented(details(entry, versions))
        return
    share = shares(versions).get(entry.key)
    taking = "takes no requests" if share is None else f"weight {entry.weight}, {percent(share)} of its requests"
    typer.echo(f"{entry.name} in {entry.environment}: {entry.status}, {taking}")
    if entry.status == "registered":
        typer.echo(f"`manta registry enable --model {entry.model} --version {entry.version}` checks and enables it")


@registry_app.command()
def enable(
    model: Model,
    version: Version,
    environment: Where = None,
    weight: Weight = None,
    check: Check = True,
    why: Why = "",
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Let a version take requests, by its weight."""

    async def work(there: Reached) -> tuple[ModelEntry, Versions]:
        key = await key_of(there, model, version, environment)
        entry = await there.registry.enable(key, weight=weight, check=check, who=there.who, why=why)
        return entry, await there.registry.entries(model=model, environment=entry.environment)

    tell(*carried_out(work, database), output)


@registry_app.command()
def disable(
    model: Model,
    version: Version,
    environment: Where = None,
    why: Why = "",
    yes: Yes = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Send a version no more requests; those under way end as they would have."""

    async def work(there: Reached) -> tuple[ModelEntry, Versions]:
        key = await key_of(there, model, version, environment)
        ask_to_disable(key, await there.registry.entries(), yes)
        entry = await there.registry.disable(key, who=there.who, why=why)
        return entry, await there.registry.entries(model=model, environment=entry.environment)

    tell(*carried_out(work, database), output)


@registry_app.command()
def deregister(
    model: Model,
    version: Version,
    environment: Where = None,
    why: Why = "",
    yes: Yes = False,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Take a version out of the registry; its history stays."""

    async def work(there: Reached) -> Key:
        key = await key_of(there, model, version, environment)
        ask_to_deregister(key, await there.registry.entries(), yes)
        await there.registry.deregister(key, who=there.who, why=why)
        return key

    *_, place = carried_out(work, database)
    if output == "json":
        documented({"model": model, "version": version, "environment": place, "deregistered": True})
    else:
        typer.echo(f"{model}@{version} in {place}: taken out")


registry_app.command("list")(list_versions)
registry_app.command()(show)
registry_app.command()(history)
registry_app.command()(upgrade)
