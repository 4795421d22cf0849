"""What the registry says."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from serve_app.cli.admin import DatabaseUrl, Output, Reached, carried_out, documented, named_database, sentences
from serve_app.cli.registry_tables import details, entry_table, history_table, shares, versions_table
from serve_app.errors import NotFound
from serve_app.registry.entry import Environment, ModelEntry
from serve_app.registry.plain import plain
from serve_app.registry.snapshot import Audit
from serve_app.rollout.rollout import Rollout

SHOWN_CHANGES = 5
MOST_ROWS = 1_000
AnyModel = Annotated[str, typer.Option(help="One model's alone.")]
AnyEnvironment = Annotated[Environment | None, typer.Option(help="One environment's alone.")]


def list_versions(
    model: AnyModel = "", environment: AnyEnvironment = None, output: Output = "table", database: DatabaseUrl = None
) -> None:
    """List the versions of all models, with what share of the requests each takes."""

    async def work(there: Reached) -> tuple[ModelEntry, ...]:
        return await there.registry.entries(model=model, environment=environment or "")

    entries = carried_out(work, database)
    if output == "json":
        documented([details(entry, entries) for entry in entries])
    else:
        Console(highlight=False).print(versions_table(entries))


def show(
    model: Annotated[str, typer.Option(help="What callers ask for.")],
    version: Annotated[str | None, typer.Option(help="One version alone.")] = None,
    environment: AnyEnvironment = None,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Show all that is known of a model: its versions, the rollout under way, the last changes."""

    async def work(there: Reached) -> tuple[tuple[ModelEntry, ...], list[Rollout], list[Audit]]:
        place = environment or ""
        entries = await there.registry.entries(model=model, environment=place)
        if not any(version in (None, entry.version) for entry in entries):
            raise await _nothing(there, model, version, environment)
        rollouts = await there.registry.rollouts(model=model, environment=place)
        rows = await there.registry.history(model=model, environment=place, limit=MOST_ROWS)
        about = [row for row in rows if version in (None, row.version)]
        return entries, [one for one in rollouts if one.is_under_way], about[:SHOWN_CHANGES]

    entries, rollouts, rows = carried_out(work, database)
    shown = [entry for entry in entries if version in (None, entry.version)]
    if output == "json":
        of = {"versions": [details(entry, entries) for entry in shown], "rollouts": list(map(plain, rollouts))}
        documented({**of, "history": list(map(plain, rows))})
        return
    console = Console(highlight=False)
    for entry in shown:
        under_way = next((one for one in rollouts if one.environment == entry.environment), None)
        console.print(entry_table(entry, shares(entries).get(entry.key), under_way))
    console.print(history_table(rows))


async def _nothing(there: Reached, model: str, version: str | None, environment: str | None) -> NotFound:
    """What there is instead."""
    entries = await there.registry.entries()
    versions = sorted({f"{entry.version} ({entry.environment})" for entry in entries if entry.model == model})
    if versions:
        wanted = " ".join(part for part in (f"version {version!r}" if version else "", environment or "") if part)
        return NotFound(f"version: {model} has no {wanted}; there are: {', '.join(versions)}")
    known = ", ".join(sorted({entry.model for entry in entries})) or "none"
    return NotFound(f"model: no model {model!r} is registered; there are: {known}")


def history(
    model: AnyModel = "",
    environment: AnyEnvironment = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="So many changes.")] = 20,
    output: Output = "table",
    database: DatabaseUrl = None,
) -> None:
    """Say who changed what, when and why, the newest first."""

    async def work(there: Reached) -> tuple[Audit, ...]:
        return await there.registry.history(model=model, environment=environment or "", limit=limit)

    rows = carried_out(work, database)
    if output == "json":
        documented([plain(row) for row in rows])
    else:
        Console(highlight=False).print(history_table(rows))


def upgrade(database: DatabaseUrl = None) -> None:
    """Bring the database's tables to this version of Manta: all of it at once, or nothing."""
    from serve_app.adapters.registry_schema import upgrade as upgraded

    with sentences():
        before = asyncio.run(upgraded(named_database(database)))
    if before.state == "current":
        typer.echo(f"the registry's database has version {before.head} already")
    else:
        typer.echo(f"the registry's database: version {before.found or 'none'} -> {before.head}")
