"""How an operator's command reaches the registry: through the running service, or straight on its database."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import typer

from serve_app.cli.client import LOCAL_KEY, fail, service_url
from serve_app.cli.remote_registry import RemoteRegistry
from serve_app.cli.service import Service
from serve_app.errors import InvalidRequest, MantaError
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult, RegistryOperations
from serve_app.registry.registry import Registry
from serve_app.registry.store import RegistryStore

Result = TypeVar("Result")
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database", help="URL of the registry's database, to work on it without the service (else DATABASE_URL)."
    ),
]
Output = Annotated[Literal["table", "json"], typer.Option(help="For readers, or one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Why = Annotated[str, typer.Option(help="Stands in the history.")]


@dataclass(frozen=True, kw_only=True)
class Reached:
    """One of `service` and `store` is None."""

    registry: RegistryOperations
    who: str
    """For the history, on the database; the service knows it by the key."""
    service: Service | None = None
    store: RegistryStore | None = None


def carried_out(work: Callable[[Reached], Awaitable[Result]], database: str | None = None) -> Result:
    """What `work` returns; see `sentences` for what it raises."""

    async def reached() -> Result:
        async with _reached(database) as there:
            return await work(there)

    with sentences():
        return asyncio.run(reached())


@contextmanager
def sentences() -> Iterator[None]:
    """What was refused or cannot be done is one sentence on standard error and exit status 2, not a traceback."""
    try:
        yield
    except MantaError as exc:
        fail(str(exc), exc)


def documented(value: Any) -> None:
    """On standard output, as one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def named_database(database: str | None) -> str:
    """Raises InvalidRequest where no database is named."""
    url = database or os.environ.get("DATABASE_URL")
    if not url:
        raise InvalidRequest("database: say which, as in --database sqlite:///var/registry.db, or set DATABASE_URL")
    return url


def confirmed(question: str, yes: bool) -> None:
    """Goes on only if someone says so. Without a terminal nobody can: exit status 2."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} There is no terminal to ask at: repeat it with --yes")
    typer.confirm(question, abort=True, err=True)


@asynccontextmanager
async def _reached(database: str | None) -> AsyncIterator[Reached]:
    """MANTA_URL before DATABASE_URL before the local service; the database too where no service answers."""
    at_hand = os.environ.get("DATABASE_URL")
    if database or (at_hand and "MANTA_URL" not in os.environ):
        async with _on_database(database or at_hand or "") as there:
            yield there
        return
    service = Service.at(service_url(), os.environ.get("MANTA_API_KEY", LOCAL_KEY))
    async with service.client:
        if not at_hand or await service.is_there():
            yield Reached(registry=RemoteRegistry(service), who="", service=service)
            return
    typer.secho(f"no service at {service.url}: working on the database of DATABASE_URL", err=True, fg="yellow")
    async with _on_database(at_hand) as there:
        yield there


@asynccontextmanager
async def _on_database(url: str) -> AsyncIterator[Reached]:
    # SQLAlchemy and its drivers take half a second to import: no other command pays for that
    from serve_app.adapters.registry_database import DatabaseRegistryStore

    store = DatabaseRegistryStore(url)
    try:
        yield Reached(registry=Registry(store, OutsideCheck()), who=f"{_user()} (database)", store=store)
    finally:
        await store.close()


class OutsideCheck:
    """Implements `EndpointCheck` where no service is asked: for what can be reached over HTTP from here."""

    async def check(self, entry: ModelEntry) -> CheckResult:
        if entry.application is not None:
            raise InvalidRequest(
                f"endpoint: {entry.endpoint} can only be checked by the running service; set MANTA_URL, "
                "or leave the check out with --no-check"
            )
        from serve_app.adapters.http_check import HttpCheck

        return await HttpCheck().check(entry)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"user {os.getuid()}"
