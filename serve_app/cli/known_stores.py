import openai
import typer
from openai.types import VectorStore


def known_store(client: openai.OpenAI, store: str) -> VectorStore:
    """The store with this id, else the one of this name; where there is none or are several, that is told: status 2."""
    stores = list(client.vector_stores.list(limit=100))
    found = [known for known in stores if known.id == store] or [known for known in stores if known.name == store]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(known.id for known in found)
        typer.secho(f"{len(found)} vector stores are named {store!r}: say which by its id ({ids})", err=True, fg="red")
    else:
        typer.secho(f"no vector store {store!r}: `manta stores list` shows those there are", err=True, fg="red")
    raise typer.Exit(2)
