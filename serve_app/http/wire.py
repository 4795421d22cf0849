"""OpenAI's request shapes: what we need is checked, everything else is kept and relayed to the engine."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve_app.turn import Ceilings

Tokens = Annotated[int, Field(gt=0)]
MAX_CHOICES = 16


class Wire(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class ChatMessage(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "ChatMessage":
        if self.role in ("user", "system", "developer", "tool") and not self.content:
            raise ValueError(f"a {self.role} message needs non-empty content")
        if isinstance(self.content, list) and not all(isinstance(part.get("type"), str) for part in self.content):
            raise ValueError("every content part needs a `type`, such as {'type': 'text', 'text': '...'}")
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""


class MantaOptions(BaseModel):
    """Manta's own field of a request: `manta: {...}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retrieval: bool | None = None
    """Whether to look for passages; without it `model: auto` does and other models do not."""
    stores: tuple[str, ...] = ()
    """Vector store ids; without it all your stores."""
    top_k: int | None = Field(default=None, gt=0, le=50)
    filters: dict[str, Any] | None = None
    playbook: str = Field(default="", max_length=200)
    """Name of an entry of a playbook store: it is the first source, whole, and the answer goes by it."""
    session: str = Field(default="", max_length=200)
    """Your name for a conversation: over its turns personal data keep their placeholders, and it keeps its version of
    the model."""
    max_cost: float | None = Field(default=None, gt=0)
    """Most that the answer may cost, by estimate, in the operator's currency: dearer models are left out."""
    max_first_token_ms: float | None = Field(default=None, gt=0)
    """Models are left out whose first token took longer of late, at the 95th percentile."""

    @property
    def ceilings(self) -> Ceilings:
        return Ceilings(max_cost=self.max_cost, max_first_token_ms=self.max_first_token_ms)


class _Sampled(Wire):
    model: str = Field(min_length=1)
    stream: Annotated[bool, Field(strict=True)] | None = None
    stream_options: dict[str, Any] | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    max_tokens: Tokens | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    manta: MantaOptions = MantaOptions()


class ChatRequest(_Sampled):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: Tokens | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class CompletionRequest(_Sampled):
    """`POST /v1/completions`, for one prompt of text."""

    prompt: str = Field(min_length=1)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None
    suffix: str | None = None


class EmbeddingRequest(Wire):
    """`POST /v1/embeddings`, with the service's own encoder."""

    model: str = Field(min_length=1)
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
