"""An engine without weights: it quotes the sentences of the passages that answer, and says so when none does."""

import asyncio
import re
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import ClassifierUnavailable, ContextLengthExceeded, InvalidRequest
from serve_app.events import Delta, Events, Finished
from serve_app.evidence import Candidate, candidates, chosen
from serve_app.playbook import is_of
from serve_app.quotation import quoted, quoted_whole
from serve_app.settings import ExtractiveSettings
from serve_app.standalone import standalone
from serve_app.turn import Passage, Turn

Encode = Callable[[tuple[str, ...]], Awaitable[NDArray[np.float32]]]

NOT_COVERED = "The documents do not answer this question."
NOT_SEARCHED = (
    "This model answers only from documents and none were searched: "
    'switch retrieval on by adding {"type": "file_search"} to `tools`, or choose a generative model.'
)
SEARCH_FAILED = "This model answers only from documents and they cannot be searched at the moment: try again shortly."

PIECE = re.compile(r"\s*\S+\s*")

ENCODER_DEADLINE_S = 1.0
"""After this the words alone decide: an answer from them now is better than a better one later."""


@dataclass(frozen=True)
class ExtractiveEngine:
    """Raises InvalidRequest for what only a generative model can do, ContextLengthExceeded for a long conversation."""

    settings: ExtractiveSettings
    encode: Encode | None
    """Shape (len(texts), dimension), rows L2-normalised; None ranks by words alone."""
    count: Callable[[str], int]
    """Tokens of a text."""

    async def generate(self, turn: Turn) -> Events:
        refuse_generative(turn.parameters)
        prompt_tokens, passages = self._fitted(turn)
        text, finish_reason = self._limited(await self._answer(turn, passages), turn.parameters)
        choices = int(turn.parameters.get("n") or 1)
        for delta in _deltas(turn, text, choices, finish_reason):
            yield delta
        yield Finished(prompt_tokens=prompt_tokens, output_tokens=choices * self.count(text))

    def _fitted(self, turn: Turn) -> tuple[int, tuple[Passage, ...]]:
        """Tokens of the prompt, and the longest run of best passages that fits the context beside the messages."""
        limit = self.settings.context_tokens
        used = sum(self.count(message.text) for message in turn.messages)
        if used > limit:
            raise ContextLengthExceeded(
                f"messages: this model's context is {limit} tokens and the messages have {used}; "
                "shorten the conversation or choose a model with a longer context"
            ).at("messages")
        kept: list[Passage] = []
        for passage in turn.passages:
            tokens = self.count(passage.text)
            if used + tokens > limit:
                break
            used += tokens
            kept.append(passage)
        return used, tuple(kept)

    async def _answer(self, turn: Turn, passages: Sequence[Passage]) -> str:
        if not turn.grounded_by_retrieval and not passages:
            return SEARCH_FAILED if "retriever" in turn.degraded else NOT_SEARCHED
        if turn.grounding.playbook and passages and is_of(passages[0], turn.grounding.playbook):
            return quoted_whole(passages[0].text, 1, len(turn.passages))
        found = candidates(standalone(turn.messages), passages)
        meanings = await self._meanings(turn, found)
        picked = chosen(found, meanings, self.settings.max_sentences)
        return quoted(picked, len(turn.passages)) or NOT_COVERED

    async def _meanings(self, turn: Turn, found: Sequence[Candidate]) -> NDArray[np.float32] | None:
        """Cosine of each candidate to the question; None when there is no encoder to ask."""
        if self.encode is None or not found:
            return None
        try:
            async with asyncio.timeout(min(ENCODER_DEADLINE_S, turn.seconds_left)):
                rows = await self.encode(tuple(candidate.reading for candidate in found))
                question = (
                    (await self.encode((standalone(turn.messages),)))[0] if turn.embedding is None else turn.embedding
                )
        except (TimeoutError, ClassifierUnavailable):
            return None
        cosines: NDArray[np.float32] = rows @ question
        return cosines

    def _limited(self, text: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
        """The text up to the first stop sequence and the token limit, and the finish reason."""
        stops = parameters.get("stop") or ()
        for stop in (stops,) if isinstance(stops, str) else stops:
            text = text.partition(stop)[0] if stop else text
        limit = parameters.get("max_completion_tokens") or parameters.get("max_tokens")
        if limit is None or self.count(text) <= limit:
            return text, "stop"
        ends = [match.end() for match in PIECE.finditer(text)]
        fitting = bisect_right(ends, limit, key=lambda end: self.count(text[:end].rstrip()))
        return text[: ends[fitting - 1]].rstrip() if fitting else "", "length"


def refuse_generative(parameters: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for parameters that would change the form of the answer; sampling ones are harmless."""
    tool_choice = parameters.get("tool_choice")
    if isinstance(tool_choice, dict):
        tool_choice = "auto" if tool_choice.get("type") == "file_search" else tool_choice.get("type")
    response_format = (parameters.get("response_format") or {}).get("type", "text")
    asked = {
        "tool_choice": tool_choice not in (None, "auto", "none"),
        "function_call": parameters.get("function_call") not in (None, "auto", "none"),
        "response_format": response_format != "text",
        # Completions ask with a number, and 0 asks for the chosen token's.
        "logprobs": parameters.get("logprobs") is not None and parameters["logprobs"] is not False,
        "echo": bool(parameters.get("echo")),
    }
    for field, is_asked in asked.items():
        if is_asked:
            raise InvalidRequest(
                f"{field}: {parameters[field]!r} needs a model that generates, and this one quotes documents; "
                f"leave {field} out or choose a generative model"
            ).at(field)


def _deltas(turn: Turn, text: str, choices: int, finish_reason: str) -> Iterator[Delta]:
    """One word with its trailing space each, or the whole text where the caller does not stream."""
    pieces = (PIECE.findall(text) if turn.stream else [text]) or [""]
    field = "content" if turn.operation == "chat" else "text"
    fields: dict[str, str] = {"role": "assistant"} if turn.operation == "chat" else {}
    for n, piece in enumerate(pieces):
        fields[field] = piece
        finish = finish_reason if n + 1 == len(pieces) else None
        for choice in range(choices):
            yield Delta(fields, choice, finish)
        fields = {}
