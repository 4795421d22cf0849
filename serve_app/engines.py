"""The engine behind each entry of the registry."""

from collections.abc import Callable
from dataclasses import dataclass, field

from serve_app.ports import Engine
from serve_app.registry.entry import ModelEntry

Connection = tuple[str, str, str, str, str, float]
"""All of an entry that an engine is made from."""


@dataclass(frozen=True)
class Engines:
    """One engine for each connection, made when it is first asked for and kept: an engine holds handles and sockets.

    A changed weight leaves it as it is; a changed endpoint has a new one, while streams of the old one go on.
    """

    make: Callable[[ModelEntry], Engine]
    _made: dict[Connection, Engine] = field(default_factory=dict)

    def of(self, entry: ModelEntry) -> Engine:
        connection = connection_of(entry)
        made = self._made.get(connection)
        if made is None:
            made = self._made[connection] = self.make(entry)
        return made


def connection_of(entry: ModelEntry) -> Connection:
    deadline_s = entry.first_event_deadline_s
    return entry.model, entry.endpoint, entry.engine, entry.id_there, entry.key_env, deadline_s
