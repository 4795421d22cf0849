from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from serve_app.errors import UnknownModel
from serve_app.events import Events
from serve_app.ports import Engine
from serve_app.turn import Turn


@dataclass(frozen=True)
class EngineTable:
    """Many engines behind the port of one, chosen by `turn.model`."""

    engines: Mapping[str, Engine]

    async def generate(self, turn: Turn) -> Events:
        if turn.model not in self.engines:
            raise UnknownModel(f"no engine runs a model named {turn.model!r}")
        async with aclosing(self.engines[turn.model].generate(turn)) as events:
            async for event in events:
                yield event
