"""Which database the registry is in, and what its failures are called."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError

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
    except (SQLAlchemyError, OSError, UnicodeError) as failure:
        if _is_about_a_value(failure):
            raise InvalidRequest(f"the registry cannot keep a value of this change: {_reason(failure)}") from failure
        said = f"{place.shown} cannot be used: {_reason(failure)}"
        raise RegistryUnavailable(f"the registry's database {said}") from failure


def _is_about_a_value(failure: Exception) -> bool:
    """Half a character, a number beyond its column; SQLAlchemy names no class for them."""
    cause = _cause(failure)
    return isinstance(cause, UnicodeError | TypeError) or str(getattr(cause, "sqlstate", "")).startswith("22")


def _cause(failure: Exception) -> Exception:
    """What the driver raised; the failure itself where no driver had a part in it."""
    wrapped = failure.orig if isinstance(failure, StatementError) else None
    if not isinstance(wrapped, Exception):
        return failure
    return wrapped.__cause__ if isinstance(wrapped.__cause__, Exception) else wrapped


def _reason(failure: Exception) -> str:
    """One line, in the database's own words where it has some."""
    match cause := _cause(failure):
        case TimeoutError():
            return "it does not answer"
        case ConnectionRefusedError():
            return "connection refused"
        case OSError(strerror=str(said)):
            return said
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def as_json(value: Any) -> str:
    """Figures that are no numbers become null: JSON has no NaN, and a verdict must not fail for one."""
    return orjson.dumps(value, default=_plainer, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def _plainer(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
