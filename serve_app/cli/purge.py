"""`manta purge`: remove what the service holds about one person."""

from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from serve_app.cli.client import connect, told


def purge(
    subject: Annotated[str, typer.Option(help="The subject, as `consent_subject` of the documents names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove every document and chunk about a subject for good, and say what was removed. Needs an admin key."""
    if not yes:
        typer.confirm(f"Remove everything about {subject!r} for good?", abort=True)
    with told():
        gone = connect().delete(f"/subjects/{quote(subject, safe='')}", cast_to=dict[str, object])
    files = gone["files"]
    assert isinstance(files, list)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{subject}: removed {len(files)} file(s), {gone['chunks']} chunk(s)")
    for file_id in files:
        console.print(f"  {file_id}")
    for name in ("cached_answers", "training_rows"):
        console.print(f"{name.replace('_', ' ')}: {gone[name] or 'none; the service keeps none'}")
