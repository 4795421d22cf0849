"""What a routing decision reads of a turn; never its text."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from serve_app.registry.entry import Capability
from serve_app.router_settings import Task
from serve_app.token_estimate import SPARE, estimated_tokens
from serve_app.turn import Message, Turn

ANSWER_TOKENS = 256
"""Taken for the answer where the caller set no limit."""
MESSAGE_TOKENS = 8
"""What a chat template puts around a message."""
PIECE = 200
PIECES = 20
"""Characters of a stretch, and stretches, that a long prompt's tokens are estimated by: a millisecond at most."""
PICTURE_TOKENS = 1_000
"""Of a picture or a sound: about what models take for a picture of a megapixel."""
BEGINNING = 4_000
"""Characters of a message that a conversation is known by."""
SPOKEN = frozenset({"text", "input_text", "refusal"})
"""Kinds of content parts that are text."""


@dataclass(frozen=True)
class Length:
    """Tokens of a prompt, worked out when somebody wants to know."""

    texts: tuple[str, ...]
    pictures: int = 0

    @cached_property
    def most(self) -> int:
        """At least `tokens`, for next to nothing: no token is shorter than a byte."""
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in self.texts)
        return int(SPARE * (size + 2 * len(self.texts))) + 1 + self._framed

    @cached_property
    def tokens(self) -> int:
        """Estimated, high rather than low; what is long from stretches of it."""
        text = "\n".join(self.texts)
        if len(text) <= PIECE * PIECES:
            return estimated_tokens(text) + self._framed
        step = len(text) // PIECES
        read = "".join(text[at : at + PIECE] for at in range(0, step * PIECES, step))
        return estimated_tokens(read) * len(text) // len(read) + self._framed

    @property
    def is_estimated(self) -> bool:
        """Somebody wanted to know more than `most`."""
        return "tokens" in self.__dict__

    def exceeds(self, limit: int) -> bool:
        return self.most > limit and self.tokens > limit

    @property
    def _framed(self) -> int:
        return MESSAGE_TOKENS * len(self.texts) + PICTURE_TOKENS * self.pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    model: str
    """As the caller wrote it: a model, `model@version`, or `auto`."""
    tenant: str
    key_id: str
    session: str = ""
    user: str = ""
    """OpenAI's `user` field, or `safety_identifier`, which is to take its place."""
    conversation: bytes = b""
    """Digest of how a conversation began; empty for a completion, which is none."""
    is_first: bool = True
    """Nothing was answered in it yet."""
    needs: frozenset[Capability] = frozenset()
    has_pictures: bool = False
    """Or sound: parts in which nothing can be redacted."""
    is_screened: bool = True
    """False where the screener was missing: nothing is redacted then."""
    prompt: Length = field(default_factory=lambda: Length(()))
    least: Length = field(default_factory=lambda: Length(()))
    """What is left of it where a long conversation loses its middle to make room."""
    sources_tokens: int = 0
    """Of passages that may be fitted in, roughly: they cost, but they make room."""
    output_tokens: int = 0
    """Most that the caller wants, all choices together; 0 where it set no limit."""
    difficulty: float | None = None
    """The classifier's; None where it was missing."""
    task: Task | None = None
    task_probability: float = 0.0
    max_cost: float | None = None
    """For the request, in the operator's currency."""
    max_first_token_ms: float | None = None

    def answer_tokens(self, context_tokens: int) -> int:
        """Room for the answer in a context."""
        return self.output_tokens or min(ANSWER_TOKENS, context_tokens // 4)


def asked_of(turn: Turn, difficulty: float | None, task: tuple[Task, float] | None) -> Asked:
    pictures = sum(1 for message in turn.messages for _ in _unspoken(message))
    given = turn.parameters
    most = given.get("max_completion_tokens") or given.get("max_tokens") or 0
    prompt = Length(tuple(_texts(turn, turn.messages)), pictures)
    return Asked(
        model=turn.model,
        tenant=turn.caller.tenant,
        key_id=turn.caller.key_id,
        session=turn.session,
        user=str(given.get("user") or given.get("safety_identifier") or ""),
        conversation=_beginning(turn) if turn.operation == "chat" else b"",
        is_first=all(message.role != "assistant" for message in turn.messages),
        needs=frozenset(_needs(turn)),
        has_pictures=pictures > 0,
        is_screened="screener" not in turn.degraded,
        prompt=prompt,
        least=Length(tuple(_texts(turn, _kept(turn)))) if turn.grounded_by_retrieval else prompt,
        sources_tokens=sum(len(passage.text) for passage in turn.passages) // 4,
        output_tokens=int(most) * int(given.get("n") or 1),
        difficulty=difficulty,
        task=task[0] if task else None,
        task_probability=task[1] if task else 0.0,
        max_cost=turn.ceilings.max_cost,
        max_first_token_ms=turn.ceilings.max_first_token_ms,
    )


def _needs(turn: Turn) -> Iterator[Capability]:
    if turn.parameters.get("tools"):
        yield "tools"
    wanted = turn.parameters.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema"):
        yield "json"
    if any("image" in str(part.get("type")) for message in turn.messages for part in _unspoken(message)):
        yield "vision"


def _unspoken(message: Message) -> Iterable[dict[str, Any]]:
    parts = message.fields.get("content")
    return (part for part in parts if part.get("type") not in SPOKEN) if isinstance(parts, list) else ()


def _texts(turn: Turn, messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        calls = message.fields.get("tool_calls")
        yield f"{message.text}{calls}" if calls else message.text
    if tools := turn.parameters.get("tools"):
        yield str(tools)


def _kept(turn: Turn) -> Iterator[Message]:
    """As `history.trimmed` keeps them at least: the operator's words, and all from the last question on."""
    last = max((n for n, message in enumerate(turn.messages) if message.role == "user"), default=0)
    return (message for n, message in enumerate(turn.messages) if n >= last or message.role in ("system", "developer"))


def _beginning(turn: Turn) -> bytes:
    """By the key, what the operator wrote, and the first question: all that every later request repeats."""
    question = next((n for n, message in enumerate(turn.messages) if message.role == "user"), 0)
    texts = (turn.caller.tenant, turn.caller.key_id, *(m.text[:BEGINNING] for m in turn.messages[: question + 1]))
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "replace"), digest_size=16).digest()
