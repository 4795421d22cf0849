"""What a validation asks of a service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serve_app.deployed.cluster import RayService
from serve_app.deployed.gateway import Gateway
from serve_app.registry.entry import ModelEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """/health/ready."""

    is_ready: bool
    parts: Mapping[str, str]
    """ "ok", or the reason it is not, by part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One streamed chat completion, to its end."""

    model: str
    """Who answered, by the response's headers; so is `version`."""
    version: str
    first_token_s: float
    seconds: float
    characters: int
    finish_reason: str
    is_whole: bool
    """Its stream ended as OpenAI's do."""


class Target(Protocol):
    """Each raises MantaError with a sentence: Unavailable when nothing answers."""

    async def health(self) -> Health: ...

    async def gateway(self) -> Gateway: ...

    async def entries(self, model: str) -> tuple[ModelEntry, ...]:
        """Of all environments."""
        ...

    async def rayservice(self) -> RayService | None:
        """None where none was named."""
        ...

    async def answer(self, model: str, *, plain: bool) -> Answered:
        """`plain`: without parameters, for engines that generate nothing."""
        ...

    async def metrics(self) -> str:
        """Prometheus' text format, of whichever ingress replica answers."""
        ...
