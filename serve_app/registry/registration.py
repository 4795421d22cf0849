"""An entry as a person writes it, wherever: what is wrong with it is found here."""

from dataclasses import asdict, replace
from typing import Any, Literal

from pydantic import ValidationError

from serve_app.errors import InvalidRequest
from serve_app.registry.entry import Capability, Egress, EngineKind, Environment, Key, ModelEntry, Signature
from serve_app.registry.forms import (
    ContextTokens,
    Digest,
    Endpoint,
    KeyVariable,
    ModelName,
    Name,
    Price,
    Seconds,
    Weight,
    Words,
)
from serve_app.section import Section


class Registration(Section):
    """What is None was not said: it keeps its value, or is found out at the endpoint, or has its default."""

    model: ModelName
    version: Name
    environment: Environment = "development"
    endpoint: Endpoint | None = None
    """`serve://<application>`, or `http(s)://host[:port][/path]`; a first registration needs it."""
    engine: EngineKind | None = None
    served_name: Words | None = None
    """What the endpoint calls the model; empty: as `model`."""
    weight: Weight | None = None
    context_tokens: ContextTokens | None = None
    capabilities: frozenset[Capability] | None = None
    prompt_price: Price | None = None
    """For a million tokens; so is `output_price`."""
    output_price: Price | None = None
    licence: Words | None = None
    digest: Digest | None = None
    """Of the weights, `sha256:<64 hexadecimal digits>`."""
    signature: Signature | None = None
    owner: Words | None = None
    egress: Egress | None = None
    """Default: redacted for HTTP, raw for an application of this cluster."""
    key_env: KeyVariable | None = None
    """HTTP endpoints: the gateway's environment variable with their key, `..._API_KEY`."""
    first_event_deadline_s: Seconds | None = None
    screener_down: Literal["refuse", "pass"] | None = None

    @classmethod
    def of(cls, entry: ModelEntry, **changes: Any) -> "Registration":
        """All that a person could have said of `entry`, with `changes`: to register it in another environment.

        Raises InvalidRequest where nobody could have: a config names models more freely.
        """
        said = {field: value for field, value in asdict(entry).items() if field in cls.model_fields}
        try:
            return cls.model_validate({**said, **changes})
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_context=False)[0]
            field = str(first["loc"][0])
            raise InvalidRequest(f"{field}: {first['msg'].removeprefix('Value error, ')}").at(field) from exc

    @property
    def key(self) -> Key:
        return self.model, self.version, self.environment

    @property
    def name(self) -> str:
        return f"{self.model}@{self.version}"

    def onto(self, stood: ModelEntry | None) -> ModelEntry:
        """The entry that is wanted where `stood` is now; its weight, status and source are not decided here.

        Raises InvalidRequest where fields do not go together.
        """
        place = self.endpoint or (stood.endpoint if stood else "")
        if not place:
            raise InvalidRequest(
                f"endpoint: {self.name} is not registered in {self.environment} yet; say where it runs: "
                "serve://APPLICATION, or http(s)://HOST of a server that speaks OpenAI's API"
            ).at("endpoint")
        entry = stood if stood and stood.endpoint == place else self._at(place, stood)
        if self.digest not in (None, entry.digest):
            entry = replace(entry, signature="unknown")
        said = self.model_dump(exclude={"model", "version", "environment", "weight"}, exclude_none=True)
        wanted = replace(entry, **said)
        _check(wanted)
        return wanted

    def _at(self, place: str, stood: ModelEntry | None) -> ModelEntry:
        """With the defaults of its kind of endpoint. What was granted to the place before - its key, text that is not
        redacted - is not granted to another."""
        engine: EngineKind = "openai" if is_http(place) else "vllm"
        egress: Egress = "redacted" if is_http(place) else "raw"
        if stood:
            kept = stood.engine if is_http(stood.endpoint) == is_http(place) else engine
            return replace(stood, endpoint=place, engine=kept, egress=egress, served_name="", key_env="")
        return ModelEntry(
            model=self.model,
            version=self.version,
            environment=self.environment,
            endpoint=place,
            engine=engine,
            egress=egress,
        )


def is_http(place: str) -> bool:
    return not place.startswith("serve://")


def _check(entry: ModelEntry) -> None:
    if is_http(entry.endpoint) and entry.engine != "openai":
        raise InvalidRequest(
            f"engine: an HTTP endpoint is spoken to as 'openai', not {entry.engine!r}; leave it out"
        ).at("engine")
    if not is_http(entry.endpoint) and entry.engine == "openai":
        raise InvalidRequest("engine: 'openai' is for http(s):// endpoints; say 'vllm' or 'extractive'").at("engine")
    if not is_http(entry.endpoint) and entry.key_env:
        raise InvalidRequest("key_env: an application of this cluster needs no key; leave it out").at("key_env")
