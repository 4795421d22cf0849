"""`manta manifests`: the Kubernetes side of a config."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError

from serve_app.settings import Config

manifests_app = typer.Typer(help="Kubernetes manifests of a config.", no_args_is_help=True)


@manifests_app.callback()
def manifests() -> None:
    """Kubernetes manifests of a config."""


@manifests_app.command()
def render(
    config: Annotated[Path, typer.Option(help="Config file to render.")] = Path("configs/a100.yaml"),
    output: Annotated[Path, typer.Option(help="Folder the manifests belong in.")] = Path("rayservice"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file differs.")] = False,
) -> None:
    """Write the RayService and its overlays."""
    from deployments.manifest import render as rendered

    try:
        files = rendered(Config.model_validate(yaml.safe_load(config.read_text(encoding="utf-8"))))
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as error:
        typer.echo(f"{config}: {error}", err=True)
        raise typer.Exit(1) from error
    wanted = {output / path: text for path, text in files.items()}
    if check:
        report(differing(wanted, output), config)
    else:
        write(wanted, output)


def differing(wanted: dict[Path, str], output: Path) -> list[Path]:
    """Files missing, changed, or left over from an earlier rendering."""
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return sorted({*changed, *leftovers(wanted, output)})


def leftovers(wanted: dict[Path, str], output: Path) -> list[Path]:
    return [path for path in output.rglob("*.yaml") if path not in wanted]


def report(paths: list[Path], config: Path) -> None:
    if not paths:
        typer.echo("The manifests are what the config renders to.")
        return
    typer.echo("\n".join(str(path) for path in paths))
    typer.echo(f"These differ from what {config} renders to: run `manta manifests render` and commit them.", err=True)
    raise typer.Exit(1)


def write(wanted: dict[Path, str], output: Path) -> None:
    for path in leftovers(wanted, output):
        typer.echo(f"{path} is not rendered from this config; remove it or move it elsewhere.", err=True)
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    typer.echo(f"{len(wanted)} files in {output}")
