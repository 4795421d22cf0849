import re
from typing import Literal, Self

from pydantic import Field, model_validator

from serve_app.milvus_settings import MilvusSettings
from serve_app.section import Fraction, Section


class RerankerSettings(Section):
    backend: Literal["embedded", "vllm", "triton", "off"] = "embedded"
    """embedded: a small model on what the two searches say, in this process; vllm: a cross-encoder behind `/v1/rerank`
    (vLLM, Cohere, Jina, llama.cpp); triton: a cross-encoder on Triton."""
    url: str = ""
    """vllm: http(s)://host:port of the server, a path in place of `/v1`; triton: host:port of its gRPC."""
    model: str = "reranker"
    """Name of the model on that server."""
    key_env: str | None = None
    """vllm: environment variable with the server's key."""
    scores: Literal["probabilities", "logits"] = "probabilities"
    """vllm: what the server answers. logits: there is no sigmoid at the model's end (ms-marco's cross-encoders on vLLM,
    BERT's kind on llama.cpp), and Manta applies it."""
    candidates: int = Field(default=50, gt=0, le=200)
    """Passages read beside the question; no other can be found. A server's time grows with them and with their length:
    measure a call on yours, and take as many as fit into half of `deadline_ms`. Fifty are for a GPU: a cross-encoder of
    22 M parameters takes some 60 ms of a core for each chunk of 170 tokens."""
    deadline_ms: int = Field(default=300, gt=0)
    """After this the order of the search stands, and the answer says `degraded: reranker`. Above the p99 of a call
    under load, and well below `retriever.deadline_ms`, of which it is a part."""

    @model_validator(mode="after")
    def _has_a_server(self) -> Self:
        if (self.backend in ("vllm", "triton")) != bool(self.url):
            raise ValueError(f"`url` is what vllm and triton need, and no other backend (it is {self.backend!r})")
        shape = {"vllm": r"https?://[^\s/]+(/\S*)?", "triton": r"[^\s/]+:\d+"}.get(self.backend, "")
        if not re.fullmatch(shape, self.url):
            expected = "http(s)://host:port" if self.backend == "vllm" else "host:port"
            raise ValueError(f"`url` of the backend {self.backend!r} is {expected}, not {self.url!r}")
        if self.key_env is not None and self.backend != "vllm":
            raise ValueError(f"`key_env` is for the backend vllm alone (it is {self.backend!r})")
        return self


class RetrieverSettings(Section):
    milvus: MilvusSettings = MilvusSettings()
    reranker: RerankerSettings = RerankerSettings()
    catalog_url: str = "sqlite+aiosqlite:///var/catalog.db"
    """SQLAlchemy URL of the catalog of files and vector stores."""
    files_path: str = "var/files"
    """Folder of the uploaded bytes."""
    top_k: int = Field(default=6, gt=0, le=50)
    min_score: Fraction = 0.35
    """Passages below this relevance are not shown to an engine; with none left the documents do not answer."""
    sources_tokens: int = Field(default=4_096, gt=0)
    """Most tokens of passages that an engine reads; of a smaller context they get what the conversation leaves."""
    history: Literal["trim", "refuse"] = "trim"
    """trim: a conversation that does not fit beside its passages loses its middle (`x-manta-degraded: history`);
    refuse: it is an error 400, as one without passages is."""
    deadline_ms: int = Field(default=500, gt=0)
    """After this a question is answered without passages."""
    chunk_tokens: int = Field(default=200, gt=16, le=250)
    """Most encoder tokens in a chunk; the encoder reads 256."""
    inspected_at: Literal["ingestion", "search"] = "ingestion"
    """Where chunks are judged for planted instructions: once, as they are ingested, which costs half of encoding them,
    or when a question first finds them, which waits for it. Nothing reaches an engine unjudged either way."""
    max_file_bytes: int = Field(default=50 * 2**20, gt=0)
    parse_deadline_s: float = Field(default=90, gt=0)
    """Processor seconds for one document, three times as many by the clock: 50 MB of prose take some 60."""

    @model_validator(mode="after")
    def _reranks_in_time(self) -> Self:
        if self.reranker.url and self.reranker.deadline_ms >= self.deadline_ms:
            raise ValueError(
                f"`reranker.deadline_ms` is {self.reranker.deadline_ms} and must be less than `deadline_ms`, "
                f"{self.deadline_ms}: a reranker that hangs would cost the passages too"
            )
        return self
