"""Which database the registry is in, and what its failures are called."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from serve_app.adapters.registry_postgres import PostgresServer
from serve_app.adapters.registry_sqlite import SqliteFile
from serve_app.errors import Conflict, InvalidRequest, RegistryUnavailable

Backend = SqliteFile | PostgresServer


def backend(url: str) -> Backend:
    """Of a URL as people write it, with any driver or none. Raises InvalidRequest, without the URL's password."""
    scheme, separator, rest = url.partition("://")
    match scheme.split("+")[0], separator:
        case (("postgresql" | "postgres"), "://"):
            return PostgresServer(f"postgresql://{rest}")
        case "sqlite", "://" if rest.strip("/") and rest.startswith("/") and ":memory:" not in rest:
            return SqliteFile(str(make_url(f"sqlite://{rest}").database))
    said = repr(scheme) if separator else "no scheme"
    ways = "sqlite:///var/registry.db or postgresql://user:password@host/database"
    raise InvalidRequest(f"the registry's database URL has {said}; write it like {ways}")


@contextmanager
def reachable(place: Backend) -> Iterator[None]:
    try:
        yield
    except IntegrityError as refused:
        raise Conflict(f"the registry: the change contradicts what it holds ({_reason(refused)})") from refused
    except (SQLAlchemyError, OSError) as failure:
        said = _reason(failure)
        raise RegistryUnavailable(f"the registry's database {place.shown} cannot be used: {said}") from failure


def _reason(failure: Exception) -> str:
    """One line, in the database's own words where it has some."""
    while isinstance(failure, DBAPIError) and isinstance(failure.orig, Exception):
        failure = failure.orig.__cause__ if isinstance(failure.orig.__cause__, Exception) else failure.orig
    if isinstance(failure, TimeoutError):
        return "it does not answer"
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return (str(failure).splitlines() or [type(failure).__name__])[0]


def as_json(value: Any) -> str:
    """Figures that are no numbers become null: JSON has no NaN, and a verdict must not fail for one."""
    return orjson.dumps(value, default=_plainer, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def _plainer(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
