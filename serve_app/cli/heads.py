"""`manta heads`: train the classifier's heads, show what the shipped ones are worth."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serve_app.heads import SHIPPED, Heads

heads_app = typer.Typer(help="The small classifiers over a question: injection and difficulty.", no_args_is_help=True)

Data = Annotated[Path, typer.Option(help="Folder of public data sets; those of them that are there are used.")]
Output = Annotated[Path, typer.Option(help="File to write; its description goes beside it as .json.")]
Extra = Annotated[
    list[Path] | None,
    typer.Argument(help='Your own .jsonl: {"text": ..., "label": 0 or 1, "head": "injection" or "difficulty"}.'),
]
EncoderFolder = Annotated[Path, typer.Option(help="Where the exported encoder lies.")]


@heads_app.command()
def train(
    data: Data = Path("data"),
    output: Output = Path("heads.npz"),
    extra: Extra = None,
    encoder: EncoderFolder = Path("var/encoder"),
    threads: Annotated[int, typer.Option(help="CPU threads of the encoder.")] = 2,
) -> None:
    """Train both heads and measure them; about five minutes on two cores with every data set there."""
    # scikit-learn takes a second to import, and `show` does not need it.
    from serve_app.adapters.encoder import Encoder, ensure
    from serve_app.training.course import train as train_heads

    console = Console()
    try:
        encode = Encoder(ensure(encoder), threads).encode
        heads, description = train_heads(data, extra or [], encode, console.print)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    heads.save(output)
    described = output.with_suffix(".json")
    described.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    show(output)


@heads_app.command()
def show(path: Annotated[Path, typer.Argument(help="The heads to describe.")] = SHIPPED) -> None:
    """What trained the heads, how good they are and where they fail."""
    console = Console()
    described = path.with_suffix(".json")
    if not described.is_file():
        raise typer.BadParameter(f"{described} is missing: {path} has no description; `manta heads train` writes both")
    thresholds = Heads.load(path).thresholds
    description = json.loads(described.read_text(encoding="utf-8"))
    console.print(f"{path} · {path.stat().st_size / 1024:.0f} KiB · trained {description['trained']}")
    console.print(description["measured"], style="dim")
    for name, figures in description["heads"].items():
        console.print(_table(f"{name} at {thresholds[name]:.3f}", figures, description["licences"]))
    for weakness in description["weaknesses"]:
        console.print(f"- {weakness}")


def _table(title: str, figures: dict[str, Any], licences: dict[str, str]) -> Table:
    table = Table("measure", "source", "licence", "texts", "share", title=title, title_justify="left")
    for measure, by_source in figures.items():
        for source, found in by_source.items() if isinstance(by_source, dict) else ():
            licence = licences.get(source, licences["manta-*"] if source.startswith("manta-") else "")
            table.add_row(measure, source, licence, str(found["texts"]), f"{found['share']:.3f}")
    return table
