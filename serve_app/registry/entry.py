"""What the registry knows of one version of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Environment = Literal["development", "staging", "production"]
Status = Literal["registered", "enabled", "disabled", "failed"]
"""registered: its endpoint not yet checked; enabled: routed to; disabled: by an operator; failed: by a rollback."""
Capability = Literal["tools", "json", "vision", "embeddings"]
EngineKind = Literal["extractive", "vllm", "openai"]
"""How the endpoint is spoken to: Manta's own engine, Ray's LLMServer (both `serve://`), or HTTP."""
Signature = Literal["unknown", "unsigned", "signed", "verified"]
Egress = Literal["raw", "redacted"]
Source = Literal["operator", "config", "withdrawn"]
"""config: it stands in the gateway's config, which may change it when the gateway starts; withdrawn: it stood there."""

ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)
STATUSES: tuple[Status, ...] = get_args(Status)
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
CAPABILITIES_OF: Mapping[EngineKind, frozenset[Capability]] = {
    "vllm": frozenset({"tools", "json"}),
    "openai": frozenset({"tools", "json"}),
    "extractive": frozenset(),
}
"""Of engines of which nobody said more. An upstream that can do less says so itself, in an error of its own."""

Key = tuple[str, str, str]
"""(model, version, environment): unique in the registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    model: str
    """What callers ask for."""
    version: str
    environment: Environment
    endpoint: str
    """`serve://<application>`, or `http(s)://host[:port][/path]` of a server that speaks OpenAI's API below `/v1`."""
    engine: EngineKind
    served_name: str = ""
    """What the endpoint calls the model; empty: as `model`."""
    status: Status = "registered"
    weight: int = 0
    """0 to 100: its share of the model's requests among the weights of the enabled versions. 0 takes none."""
    context_tokens: int = 8_192
    capabilities: frozenset[Capability] = frozenset()
    prompt_price: float = 0.0
    """For a million tokens, in the operator's currency; so is `output_price`."""
    output_price: float = 0.0
    licence: str = ""
    digest: str = ""
    """Of the weights, `sha256:<64 hexadecimal digits>`; empty where nobody gave one."""
    signature: Signature = "unknown"
    owner: str = ""
    egress: Egress = "raw"
    """redacted: no personal data that the guardrail finds is sent there, whatever the tenant's policy allows."""
    key_env: str = ""
    """HTTP endpoints: the gateway's environment variable with their key, `..._API_KEY`."""
    first_event_deadline_s: float = 120.0
    screener_down: Literal["refuse", "pass"] = "refuse"
    source: Source = "operator"
    created_at: float = field(default=0.0, compare=False)
    """Unix seconds, set by the store; so is `updated_at`."""
    updated_at: float = field(default=0.0, compare=False)

    @property
    def key(self) -> Key:
        return self.model, self.version, self.environment

    @property
    def name(self) -> str:
        """For people, headers and metrics."""
        return f"{self.model}@{self.version}"

    @property
    def id_there(self) -> str:
        return self.served_name or self.model

    @property
    def application(self) -> str | None:
        """Name of the Serve application; None for HTTP."""
        return self.endpoint.removeprefix("serve://") if self.endpoint.startswith("serve://") else None

    @property
    def is_enabled(self) -> bool:
        return self.status == "enabled"

    def price(self, prompt_tokens: int, output_tokens: int) -> float:
        return (prompt_tokens * self.prompt_price + output_tokens * self.output_price) / 1_000_000
