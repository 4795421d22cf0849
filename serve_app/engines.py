"""The engine behind each entry of the registry."""

from collections.abc import Callable
from dataclasses import dataclass, field

from serve_app.ports import Engine
from serve_app.registry.entry import ModelEntry


@dataclass(frozen=True)
class Engines:
    """One engine for each endpoint, made when it is first asked for and kept: an engine holds connections."""

    make: Callable[[ModelEntry], Engine]
    _made: dict[str, tuple[ModelEntry, Engine]] = field(default_factory=dict)

    def of(self, entry: ModelEntry) -> Engine:
        """A changed entry has a new engine; streams of the old one end as they would have."""
        made = self._made.get(entry.name)
        if made is None or made[0] != entry:
            made = self._made[entry.name] = entry, self.make(entry)
        return made[1]
