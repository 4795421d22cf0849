"""The registry as JSON: what comes in is checked, and what goes out can be read back."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serve_app.registry.entry import Environment, Key, ModelEntry
from serve_app.registry.forms import Weight
from serve_app.registry.plain import plain
from serve_app.registry.registration import Registration
from serve_app.registry.snapshot import Audit
from serve_app.section import Section

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL holds no such character."""
Why = Annotated[str, Field(max_length=2_000, pattern=NO_NUL)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Wanted = Annotated[str, Field(max_length=200, pattern=NO_NUL)]
"""Of a listing; empty for all."""


class RegistrationBody(Registration):
    check: bool = True
    """Ask the endpoint for its health, its models and one tiny completion first; unchecked it waits to be enabled."""
    why: Why = ""
    """Stands in the history."""

    @property
    def registration(self) -> Registration:
        return Registration.model_validate(self.model_dump(exclude={"check", "why"}))


class EntryChange(Section):
    """A new status, or a new weight; one that is enabled can be given its weight at once."""

    model: Name
    version: Name
    environment: Environment = "development"
    status: Literal["enabled", "disabled"] | None = None
    weight: Weight | None = None
    check: bool = True
    """Ask the endpoint before it is enabled."""
    why: Why = ""

    @model_validator(mode="after")
    def _says_something(self) -> "EntryChange":
        if self.status is None and self.weight is None:
            raise ValueError("say a `status` or a `weight`")
        if self.status == "disabled" and self.weight is not None:
            raise ValueError("`weight`: a disabled version takes no requests; leave it out")
        return self

    @property
    def key(self) -> Key:
        return self.model, self.version, self.environment


def entry_object(entry: ModelEntry) -> dict[str, Any]:
    return {"object": "registry.model", **plain(entry)}


def audit_object(row: Audit) -> dict[str, Any]:
    return {"object": "registry.change", **plain(row)}
