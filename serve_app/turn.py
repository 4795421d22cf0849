"""The one value that flows in: built at the edge, enriched by copies, never mutated."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""Shape (dimension,), L2-normalised: the dot product of two is their cosine."""

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Operation = Literal["chat", "completion"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as proven by the key. Nothing a request says can change it."""

    tenant: str
    key_id: str
    roles: frozenset[str] = frozenset({"user"})
    groups: frozenset[str] = frozenset()
    """Whose documents, beyond those open to the whole tenant, the caller may see."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else the wire message carried (`tool_calls`, `name`, `tool_call_id`, image parts...), relayed unchanged."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A span of a text that is personal or secret: `text[start:end]`."""

    kind: str
    """Presidio's entity name, e.g. EMAIL_ADDRESS, or API_KEY."""
    start: int
    end: int
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Screening:
    """What the screener has to say of one text."""

    findings: tuple[Finding, ...] = ()
    policy: str = ""
    """Name of the lexical rule that forbids this text; empty when none does."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which policy a text is screened under, and on which side of the engine it stands."""

    policy: str = "default"
    answer: bool = False
    """An engine's words: only the policy's `answer_entities` are looked for."""


Scores = Mapping[str, float]
"""Probability by head name: `prompt_injection`, `violence`, `difficulty`..."""


@dataclass(frozen=True, slots=True)
class Signals:
    """One encoder pass over the question, and what the heads read in it."""

    embedding: Embedding
    scores: Scores


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document that may answer, as the retriever returns it."""

    id: str
    text: str
    score: float
    """Relevance in [0, 1]; comparable within one search, not across stores."""
    file_id: str
    source: str
    """Name the document was ingested under: a path, a file name or a URL."""
    title: str = ""
    heading: str = ""
    """Path of headings above the passage: `Operations > Rollback`."""
    page: int | None = None
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)
    ordinal: int | None = None
    """Position in its document, from 0."""
    suspicion: float | None = None
    """Probability that an instruction stands in it that is not its own, as judged at ingestion; None: not judged."""

    @property
    def key(self) -> tuple[str, str]:
        """Unique among the passages of one turn: a chunk's id is its own only within its file."""
        return self.file_id, self.id

    @property
    def place(self) -> str:
        """Title and heading path, for a reader; the title once, though it often is the first heading."""
        title = self.title or self.source
        return (
            self.heading if self.heading.split(" > ")[0] == title else f"{title} > {self.heading}".removesuffix(" > ")
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a search brought."""

    passages: tuple[Passage, ...] = ()
    """Best first."""
    degraded: tuple[str, ...] = ()
    """Parts that were missing while it was made: `reranker`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How a search is to be ranked, where the caller says so."""

    meaning: float | None = None
    """Weight in [0, 1] of the embedding against the words; 1 is the embedding alone, 0 BM25 alone, without reranking.
    None: as Manta does it."""
    rerank: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """Whether and where to look for passages."""

    stores: tuple[str, ...] = ()
    """Vector store ids; empty means all the tenant's stores."""
    wanted: bool | None = None
    """True: the caller asked for it; False: the caller refused it; None: the model's default decides."""
    top_k: int | None = None
    filters: Mapping[str, Any] | None = None
    """OpenAI's comparison/compound filter, as sent. It can narrow what the tenant sees, never widen it."""
    ranking: Ranking = Ranking()
    min_score: float | None = None
    """Least relevance of a passage, where the caller wants more than the service does."""
    playbook: str = ""
    """Name of an entry of a playbook store that the answer is to follow; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What an answer may take; None is no ceiling."""

    max_cost: float | None = None
    """For the request, in the operator's currency, as estimated before it is answered."""
    max_first_token_ms: float | None = None
    """By the 95th percentile of what a model's version took of late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    id: str
    caller: Caller
    messages: tuple[Message, ...]
    model: str
    """What the caller asked for until `routed`, a served model after."""
    operation: Operation = "chat"
    stream: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Every other field of the request (`temperature`, `tools`, `n`, `seed`...), relayed to the engine unchanged."""
    grounding: Grounding = Grounding()
    ceilings: Ceilings = Ceilings()
    expires_at: float = field(default_factory=lambda: time.time() + 600)
    """Absolute UTC seconds: a monotonic clock means nothing in another process."""
    passages: tuple[Passage, ...] = ()
    embedding: Embedding | None = field(default=None, compare=False, repr=False)
    """Of the standalone question, once it is encoded; nothing encodes the same text twice."""
    grounded_by_retrieval: bool = False
    """A search was made: an engine may then say that the documents do not answer."""
    withheld: tuple[str, ...] = ()
    """Passages and tool results an engine does not see as they are, because of what stands in them; by name."""
    session: str = ""
    """The caller's name for a conversation: its placeholders stay the same over turns. Empty for none."""
    degraded: tuple[str, ...] = ()
    """Parts that were missing for this turn, in the order they failed."""

    @property
    def question(self) -> str:
        """Text of the last user message; of the last message when no user spoke."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), self.messages[-1].text)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.expires_at - time.time())

    def asking(self, messages: tuple[Message, ...]) -> Self:
        return replace(self, messages=messages)

    def encoded(self, embedding: Embedding) -> Self:
        return replace(self, embedding=embedding)

    def grounded(self, passages: tuple[Passage, ...]) -> Self:
        """This turn after a search, whether or not it found anything."""
        return replace(self, passages=passages, grounded_by_retrieval=True)

    def routed(self, model: str) -> Self:
        return replace(self, model=model)

    def without(self, part: str) -> Self:
        """This turn, remembering that `part` was missing."""
        return self if part in self.degraded else replace(self, degraded=(*self.degraded, part))
