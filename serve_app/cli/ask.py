from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from serve_app.cli.client import connect, told


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    model: Annotated[str, typer.Option(help="A model of the service, or `auto`.")] = "auto",
    store: Annotated[
        list[str] | None, typer.Option(help="Vector store ids to look in; without it all your stores.")
    ] = None,
    retrieval: Annotated[bool, typer.Option(help="Look for passages in your documents.")] = True,
    playbook: Annotated[str, typer.Option(help="Name of a playbook's entry to answer by.")] = "",
) -> None:
    """Ask the service; the answer streams, then its sources are listed."""
    console = Console(highlight=False, soft_wrap=True)
    with told():
        stream = connect().chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            stream=True,
            extra_body={"manta": {"retrieval": retrieval, "stores": store or [], "playbook": playbook}},
        )
        citations: list[dict[str, Any]] = []
        for chunk in stream:
            for choice in chunk.choices:
                console.print(escape(choice.delta.content or ""), end="")
            citations = getattr(chunk, "citations", None) or citations
    console.print()
    for cited in citations:
        number = escape(f"[{cited['index']}]")
        console.print(f"[bold]{number}[/bold] {escape(source_line(cited))}")


def source_line(cited: dict[str, Any]) -> str:
    page = f", page {cited['page']}" if cited["page"] else ""
    return f"{cited['place']} ({cited['source']}{page}, score {cited['score']:.2f})"
