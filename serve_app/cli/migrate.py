"""`manta migrate`: the indexed chunks for another encoder, or for another version of Manta."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serve_app.cli.serve import configured, refuse
from serve_app.errors import Unavailable
from serve_app.settings import GatewaySettings


def migrate(
    config: Annotated[Path, typer.Option(help="Config file of the service.")] = Path("configs/local.yaml"),
    port: Annotated[int, typer.Option(help="Port of a service that `make serve` starts.")] = 8000,
    data: Annotated[Path | None, typer.Option(help="Folder of its documents; without it var/<port>.")] = None,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Then drop the collections of before.")] = False,
) -> None:
    """Embed every indexed chunk anew, with the encoder of the config, and switch to that in one call.

    Stop what ingests: documents that come meanwhile are not carried over. A Milvus server may answer questions from the
    old collection until the service is started again; Milvus Lite is one process's, so the service must be stopped.
    Interrupted, it goes on where it was. The old collection stays until --drop-old.
    """
    asyncio.run(_migrate(configured(config, data or Path("var") / str(port), "", 1).gateway, drop_old))


async def _migrate(gateway: GatewaySettings, drop_old: bool) -> None:
    # Both take seconds to import, and `manta --help` needs neither.
    from deployments.roles import classifier_of, milvus_token
    from serve_app.adapters.milvus_migration import migrate as migrated

    settings = gateway.retriever.milvus
    console = Console(highlight=False, soft_wrap=True, markup=False)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        token, encode = milvus_token(settings), classifier_of(gateway.classifier).encode
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=None)
            done = await migrated(
                settings,
                token,
                encode,
                lambda chunks, total: bar.update(task, completed=chunks, total=total),
                drop_old=drop_old,
            )
    except (Unavailable, ValueError) as exc:
        refuse(str(exc))
    if done.source == done.target:
        console.print(f"{done.target}: {done.chunks} chunk(s) of {settings.encoder}, nothing to migrate")
    else:
        console.print(f"{done.source} -> {done.target}: {done.chunks} chunk(s), {done.embedded} embedded in this run")
    for name in done.dropped:
        console.print(f"{name}: dropped")
