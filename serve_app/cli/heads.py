"""`manta heads`: train the classifier's heads, show what the shipped ones are worth."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from serve_app.heads import SHIPPED, Heads
from serve_app.indirect import Inspector

heads_app = typer.Typer(help="The classifiers of a text: attacks, harms and difficulty.", no_args_is_help=True)

Part = Literal["heads", "inspector"]
Data = Annotated[Path, typer.Option(help="Folder of public data sets; those of them that are there are used.")]
Output = Annotated[Path, typer.Option(help="File to write; its description goes beside it as .json.")]
Extra = Annotated[
    list[Path] | None,
    typer.Argument(
        help='Your own .jsonl: {"text": ..., "label": 0 or 1, "head": "prompt_injection", "violence", ...}.'
    ),
]
EncoderFolder = Annotated[Path, typer.Option(help="Where the exported encoder lies.")]


@heads_app.command()
def train(
    data: Data = Path("data"),
    output: Output = Path("heads.npz"),
    extra: Extra = None,
    encoder: EncoderFolder = Path("var/encoder"),
    threads: Annotated[int, typer.Option(help="Trainings side by side, and threads of the encoder.")] = 2,
    only: Annotated[Part | None, typer.Option(help="Train this part alone; without it both.")] = None,
) -> None:
    """Train the heads of questions, and the inspector of passages beside them as indirect.npz, and measure both.

    Half an hour on two cores with every data set there.
    """
    # torch and scikit-learn take seconds to import, and `show` does not need them.
    from serve_app.adapters.encoder import Encoder, ensure

    try:
        from serve_app.training.course import train as train_heads
        from serve_app.training.indirect import train as train_inspector
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"training needs {error.name}, which serving does not: pip install {error.name}"
        ) from error
    console = Console()
    try:
        reader = Encoder(ensure(encoder), threads)
        if only != "inspector":
            _written(train_heads(data, extra or [], reader, console.print, threads), output)
            show(output)
        if only != "heads":
            _written(train_inspector(data, reader.encode, console.print), output.with_name("indirect.npz"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _written(made: tuple[Heads | Inspector, dict[str, Any]], path: Path) -> None:
    model, description = made
    model.save(path)
    described = path.with_suffix(".json")
    described.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@heads_app.command()
def show(path: Annotated[Path, typer.Argument(help="The heads to describe.")] = SHIPPED) -> None:
    """What trained the heads, how good they are and where they fail."""
    console = Console()
    described = path.with_suffix(".json")
    if not described.is_file():
        raise typer.BadParameter(f"{described} is missing: {path} has no description; `manta heads train` writes both")
    description = json.loads(described.read_text(encoding="utf-8"))
    console.print(f"{path} · {path.stat().st_size / 2**20:.1f} MiB")
    console.print(", ".join(f"{name} {limit:.3f}" for name, limit in Heads.load(path).thresholds.items()))
    console.print(description["measured"], style="dim")
    for name, figures in description["heads"].items():
        console.print(_table(name, figures, description["licences"]))
    for limit in description["limits"]:
        console.print(f"- {limit}")


def _table(title: str, figures: dict[str, Any], licences: dict[str, str]) -> Table:
    table = Table("measure", "source", "licence", "texts", "share", title=title, title_justify="left")
    for measure, by_source in figures.items():
        for source, found in by_source.items():
            licence = licences.get(source.partition("/")[0], licences["manta-*"] if "manta-" in source else "")
            table.add_row(measure, source, licence, str(found["texts"]), f"{found['share']:.3f}")
    return table
