"""The registry in PostgreSQL, shared by all that reach it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

CONNECT_S = 2.0
LONGEST_CALL_S = 5.0
IDLE_S = 3
"""A client that stops in the middle of a change must not keep those behind it waiting for longer than they wait."""
LOOK_S = 1.0
"""Longest time between two looks at the revision: where notices do not arrive (PgBouncer, a peer that has vanished)."""
CHANNEL = "manta_registry"
SCHEMA_LOCK = 0x6D616E7461
"""Whoever makes or upgrades tables holds it."""
LIBPQ_ONLY = {"channel_binding", "connect_timeout", "keepalives", "gssencmode"}
"""Options of a URL that asyncpg would hand on to the server, which does not know them."""


@dataclass(frozen=True)
class PostgresServer:
    url: str = field(repr=False)
    """As libpq reads it, `postgresql://...`."""
    longest_call_s: ClassVar[float] = LONGEST_CALL_S
    reading: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    writing: ClassVar[Mapping[str, Any]] = {"isolation_level": "READ COMMITTED"}
    watching: ClassVar[Mapping[str, Any]] = {"isolation_level": "AUTOCOMMIT"}

    @property
    def shown(self) -> str:
        """Host and database, never the account."""
        return self.url.split("://", 1)[1].rsplit("@", 1)[-1].split("?", 1)[0]

    def engine(self, json: Callable[[Any], str], *, statement_s: float | None) -> AsyncEngine:
        """A connection to each call, 5 ms: none is there that a restart of the server could have made useless.

        `statement_s` None: for as long as it takes.
        """

        async def connect() -> Any:
            with _plain_errors():
                return await asyncpg.connect(_for_asyncpg(self.url), timeout=CONNECT_S, command_timeout=statement_s)

        return create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool, json_serializer=json
        )

    def prepare(self) -> None:
        """The server is there already."""

    async def limit(self, connection: AsyncConnection) -> None:
        """Of this transaction alone: PgBouncer knows no settings of a session."""
        setting = "idle_in_transaction_session_timeout"
        await connection.execute(
            text("select set_config(:name, :value, true)"), {"name": setting, "value": f"{IDLE_S}s"}
        )

    async def lock_schema(self, connection: AsyncConnection) -> None:
        await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})

    async def announce(self, connection: AsyncConnection, revision: int) -> None:
        """Listeners hear of it when the transaction is committed."""
        await connection.execute(text("select pg_notify(:channel, :said)"), {"channel": CHANNEL, "said": str(revision)})

    @asynccontextmanager
    async def moves(self, connection: AsyncConnection) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """What waits until there may be something new: a notice, the end of the connection, or LOOK_S."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        noticed = asyncio.Event()
        await driver.add_listener(CHANNEL, lambda *_: noticed.set())
        driver.add_termination_listener(lambda _: noticed.set())

        async def moved() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(noticed.wait(), LOOK_S)
            noticed.clear()

        yield moved


def _for_asyncpg(url: str) -> str:
    """What psycopg's and SQLAlchemy's users write, in asyncpg's words."""
    parts = urlsplit(url)
    options = [("sslmode" if name == "ssl" else name, value) for name, value in parse_qsl(parts.query)]
    return parts._replace(query=urlencode([option for option in options if option[0] not in LIBPQ_ONLY])).geturl()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """As OSError: SQLAlchemy wraps what goes wrong on a connection, not what goes wrong before there is one."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as refused:
        raise ConnectionError(str(refused)) from refused
    except ValueError:
        # Its words may be a part of the password.
        raise ConnectionError("its URL cannot be read: %-encode / @ : ? # in the password") from None
