import secrets
from typing import Annotated

import typer

from serve_app.authenticator import digest

keys_app = typer.Typer(no_args_is_help=True)


@keys_app.callback()
def keys() -> None:
    """API keys: the config holds their digests, never the keys."""


@keys_app.command()
def new(
    name: Annotated[str, typer.Argument(help="Id of the key in logs and limits.")],
    tenant: Annotated[str, typer.Option(help="Whose documents the key sees.")] = "default",
) -> None:
    """Print a new key, once, and the lines for the config."""
    key = f"sk-manta-{secrets.token_urlsafe(32)}"
    typer.echo(f"{key}\n\n- id: {name}\n  tenant: {tenant}\n  sha256: {digest(key)}")
