"""The command line is a client of the public API like any other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import typer

LOCAL_URL = "http://127.0.0.1:8000"
LOCAL_KEY = "sk-manta-local"


def service_url() -> str:
    return os.environ.get("MANTA_URL", LOCAL_URL).rstrip("/")


def connect() -> openai.OpenAI:
    """A client of the service at MANTA_URL, with the key in MANTA_API_KEY."""
    return openai.OpenAI(
        base_url=f"{service_url()}/v1", api_key=os.environ.get("MANTA_API_KEY", LOCAL_KEY), max_retries=1
    )


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with the service is one sentence on standard error and exit status 2, not a traceback."""
    try:
        yield
    except openai.APIConnectionError as exc:
        fail(f"no service at {service_url()}: start one with `make serve`, or set MANTA_URL", exc)
    except openai.AuthenticationError as exc:
        fail(f"{service_url()} does not know this key: set MANTA_API_KEY", exc)
    except openai.APIStatusError as exc:
        fail(f"{exc.status_code}: {message(exc)}", exc)
    except openai.APIError as exc:
        fail(str(exc), exc)


def message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)


def fail(sentence: str, cause: Exception) -> None:
    typer.secho(sentence, err=True, fg="red")
    raise typer.Exit(2) from cause
