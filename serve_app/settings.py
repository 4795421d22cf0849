"""One schema for every file in `configs/`.

A config file is a Ray Serve config: `serve run configs/local.yaml` starts it and it is the RayService's
`serveConfigV2`. Serve reads `applications`; what stands in their `args` is typed here, and so is `cluster`,
from which `manta manifests render` writes the Kubernetes part.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from serve_app.milvus_settings import MilvusSettings as MilvusSettings
from serve_app.policy import GuardrailSettings
from serve_app.registry.entry import Capability
from serve_app.registry.forms import ModelName, Name
from serve_app.registry_settings import RegistrySettings
from serve_app.retriever_settings import RerankerSettings as RerankerSettings
from serve_app.retriever_settings import RetrieverSettings as RetrieverSettings
from serve_app.router_settings import RouterSettings
from serve_app.section import Section

GATEWAY_BUILDER = "deployments.app:build_gateway"
EXTRACTIVE_BUILDER = "deployments.app:build_extractive"
VLLM_BUILDER = "deployments.vllm:build_vllm"


class KeySettings(Section):
    """An API key and whose it is. The key itself never stands in a file: its SHA-256, or where to find it."""

    id: str = Field(min_length=1)
    """Name in logs and limits."""
    tenant: str = Field(min_length=1)
    """Owner of the documents this key can see."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Hexadecimal SHA-256 of the key (`manta keys new` prints a key and this line)."""
    env: str | None = None
    """Environment variable that holds the key, for Kubernetes secrets."""
    roles: frozenset[Literal["user", "admin"]] = frozenset({"user"})
    groups: frozenset[str] = frozenset()
    """Groups of the key's owner: documents whose `access` names one of them can be seen with it."""
    requests_per_minute: int = Field(default=600, gt=0)
    concurrent_streams: int = Field(default=32, gt=0)
    """Answers under way at once, streamed or not."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.sha256 is None) == (self.env is None):
            raise ValueError(f"key {self.id!r} needs exactly one of `sha256` and `env`")
        return self


class ClassifierSettings(Section):
    backend: Literal["embedded", "triton"] = "embedded"
    triton_url: str = "127.0.0.1:8001"
    """gRPC address of the Triton server, host:port."""
    triton_model: str = "classifier"
    encoder_path: str = "var/encoder"
    """Folder in which the embedded encoder is kept, exported once; one folder may serve many services."""
    threads: int = Field(default=2, gt=0)
    """CPU threads of one encoder call, embedded backend."""
    deadline_ms: int = Field(default=2_000, gt=0)


class ModelSettings(Section):
    """A model the gateway offers from its start. It is an entry of the registry, which may hold further versions."""

    application: str
    """Name of the Serve application that runs it."""
    engine: Literal["extractive", "vllm"]
    context_tokens: int = Field(default=8_192, gt=0)
    """Context length; passages are fitted into it."""
    tokenizer_path: str | None = None
    """The model's `tokenizer.json`, on the gateway's machine, to fit passages by; None: tokens are estimated."""
    first_event_deadline_s: float = Field(default=120, gt=0)
    """Wait for a replica and its first token, queueing included, before the answer is a 502."""
    version: Name = "1"
    owned_by: str = "manta"
    capabilities: frozenset[Capability] | None = None
    """What `model: auto` may ask of it; None: tools and JSON of vllm, nothing of the extractive engine."""
    prompt_price: float = Field(default=0, ge=0)
    """For a million tokens; so is `output_price`."""
    output_price: float = Field(default=0, ge=0)
    licence: str = ""
    screener_down: Literal["refuse", "pass"] = "refuse"
    """Without the screener nothing reaches this model, or everything does, unscreened (and a header says so)."""


class HttpSettings(Section):
    max_body_bytes: int = Field(default=20 * 2**20, gt=0)
    """For JSON bodies; uploads are limited by `retriever.max_file_bytes`."""
    request_deadline_s: float = Field(default=600, gt=0)
    public_metrics: bool = False
    """Serve /metrics without a key."""


class GatewaySettings(Section):
    """`args` of the gateway application: a change replaces its replicas, not the engines."""

    keys: tuple[KeySettings, ...] = Field(min_length=1)
    models: dict[ModelName, ModelSettings] = Field(min_length=1)
    router: RouterSettings
    registry: RegistrySettings = RegistrySettings()
    guardrail: GuardrailSettings = GuardrailSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    retriever: RetrieverSettings = RetrieverSettings()
    http: HttpSettings = HttpSettings()

    @model_validator(mode="after")
    def _routes_end_at_models(self) -> Self:
        for field in ("small", "large"):
            name = getattr(self.router, field)
            if name not in self.models:
                raise ValueError(
                    f"router.{field}: no model named {name!r}; models are {', '.join(sorted(self.models))}"
                )
        return self


class ExtractiveSettings(Section):
    """`args` of the extractive engine's application."""

    context_tokens: int = Field(default=8_192, gt=0)
    max_sentences: int = Field(default=4, gt=0)


class VllmSettings(Section):
    """`args` of a vLLM application."""

    llm_config: dict[str, Any]
    """Ray's `LLMConfig`, unchanged: what works in `ray.serve.llm` works here."""

    @property
    def model_id(self) -> str:
        return str(self.llm_config.get("model_loading_config", {}).get("model_id", ""))


class ReplicaOptions(Section):
    """Serve's options of one deployment, by Serve's names; a change is applied without a restart where Serve can."""

    name: str
    num_replicas: int | Literal["auto"] | None = None
    autoscaling_config: dict[str, Any] | None = None
    max_ongoing_requests: int | None = Field(default=None, gt=0)
    max_queued_requests: int | None = None
    health_check_period_s: float | None = Field(default=None, gt=0)
    health_check_timeout_s: float | None = Field(default=None, gt=0)
    graceful_shutdown_timeout_s: float | None = Field(default=None, ge=0)
    graceful_shutdown_wait_loop_s: float | None = Field(default=None, ge=0)
    ray_actor_options: dict[str, Any] | None = None


ARGUMENTS: dict[str, type[Section]] = {
    GATEWAY_BUILDER: GatewaySettings,
    EXTRACTIVE_BUILDER: ExtractiveSettings,
    VLLM_BUILDER: VllmSettings,
}
"""The schema of `args`, by builder."""


class Application(Section):
    name: str = Field(min_length=1)
    import_path: Literal[
        "deployments.app:build_gateway", "deployments.app:build_extractive", "deployments.vllm:build_vllm"
    ]
    route_prefix: str | None = None
    args: GatewaySettings | ExtractiveSettings | VllmSettings
    deployments: tuple[ReplicaOptions, ...] = ()
    runtime_env: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _args_by_builder(cls, given: Any) -> Any:
        """Validate `args` against the one schema its builder takes, so that an error names the real field."""
        if not isinstance(given, dict) or given.get("import_path") not in ARGUMENTS:
            return given
        schema = ARGUMENTS[given["import_path"]]
        args = given.get("args") or {}
        return {**given, "args": args if isinstance(args, schema) else schema.model_validate(args)}


class ClusterSettings(Section):
    """What Kubernetes must bring; Serve ignores this section."""

    name: str = Field(default="manta", pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=47)
    """Name of the RayService. KubeRay appends to it and refuses more than 47 characters."""
    namespace: str = Field(default="manta", pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=50)
    """Namespace of the production overlay; the development overlay appends `-development`."""
    image: str = "manta:latest"
    """Image of every pod; it needs bash, wget and grep, with which KubeRay probes its workers."""
    ray_version: str = "2.60.0"
    upgrade: Literal["NewCluster", "None"] = "NewCluster"
    """NewCluster: a changed cluster is built beside the old one, which needs its GPUs twice; None: refuse to swap."""
    secret: str = Field(default="manta", pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$")
    """Kubernetes Secret with one entry per environment variable the config names, and optionally HF_TOKEN."""
    documents_claim: str | None = None
    """PersistentVolumeClaim (ReadWriteMany) at /data for catalog and files; None: they are lost with their pod."""
    models_claim: str | None = None
    """PersistentVolumeClaim (ReadWriteMany) at /models for weights; None: every pod downloads its own."""
    gpu_node_selector: dict[str, str] = {}
    """Node labels by which the GPU nodes of this cluster are found."""
    head_cpus: int = Field(default=4, gt=0)
    head_memory_gib: int = Field(default=8, gt=0)
    gateway_cpus: int = Field(default=8, gt=0)
    """Cores of one gateway pod; its replicas are packed into as many pods as their `num_cpus` need."""
    gateway_memory_gib: int = Field(default=16, gt=0)
    gateway_min_pods: int = Field(default=1, gt=0)
    """Gateway pods kept even when fewer would hold the replicas."""
    cpus_per_gpu: int = Field(default=8, gt=0)
    """Cores of a GPU pod for each of its GPUs."""
    memory_gib_per_gpu: int = Field(default=48, gt=0)


class Config(Section):
    http_options: dict[str, Any] = {}
    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] = "EveryNode"
    logging_config: dict[str, Any] = {}
    cluster: ClusterSettings = ClusterSettings()
    applications: tuple[Application, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _models_have_engines(self) -> Self:
        names = {application.name for application in self.applications}
        if len(names) != len(self.applications):
            raise ValueError("applications: two have the same name")
        for model, settings in self.gateway.models.items():
            if settings.application not in names:
                raise ValueError(
                    f"models.{model}.application: there is no application {settings.application!r}; "
                    f"applications are {', '.join(sorted(names))}"
                )
        return self

    @property
    def gateway(self) -> GatewaySettings:
        found = [app.args for app in self.applications if isinstance(app.args, GatewaySettings)]
        if len(found) != 1:
            raise ValueError(f"applications: exactly one must be built by {GATEWAY_BUILDER}, found {len(found)}")
        return found[0]


def asset(path: str) -> Path:
    """A path from a config file: absolute, or below the folder the service was started in."""
    return Path(path).expanduser().resolve()
