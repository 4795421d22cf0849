"""The deltas of one choice, held back as far as its texts are: those with nothing to change leave as they came."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.answer_policy import AnswerPolicy
from serve_app.events import Delta
from serve_app.screened_stream import Edit, Strand

TEXTS = ("reasoning_content", "reasoning", "content", "text", "refusal")
"""Fields of a delta that are text."""
NAMES_OF_TOKENS = ("logprobs", "token_ids", "prompt_token_ids")
"""Extras that spell the text out; they go when it changes."""

CALLS = ("tool_calls", "function_call")
"""Fields that hold text as JSON: the arguments of calls."""

Key = tuple[str, int]
"""A field of the delta, and the index of the tool call within it."""


@dataclass(slots=True)
class Piece:
    """A delta, and which stretch of its strand it carries."""

    delta: Delta
    key: Key | None
    text: str
    begin: int

    @property
    def end(self) -> int:
        return self.begin + len(self.text)


@dataclass
class ScreenedChoice:
    policy: AnswerPolicy
    strand: Strand = field(init=False)
    finished: bool = False
    denied: bool = False
    _key: Key | None = None
    _strands: dict[Key, Strand] = field(default_factory=dict)
    _pieces: deque[Piece] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.strand = Strand(self.policy)

    async def take(self, delta: Delta) -> list[Delta]:
        """What may leave now that this delta is here. After a denied phrase: what stood before it, and nothing more."""
        texts = texts_of(delta)
        self.finished = self.finished or delta.finish_reason is not None
        if len(texts) > 1:
            return [*await self.flush(), *([] if self.denied else await self._whole(delta, texts))]
        key, text = texts[0] if texts else (None, "")
        leaving: list[Delta] = []
        if key is not None and key != self._key:
            leaving = await self.flush()
            if self.denied:
                return leaving
            self._key, self.strand = key, self._strand(key)
        if key is None and not self.finished and not self._pieces:
            return [delta]
        self._pieces.append(Piece(delta, key, text, self.strand.taken))
        if text or self.finished:
            await self.strand.advance(text, at_end=self.finished)
        return leaving + self._leaving()

    async def flush(self) -> list[Delta]:
        """Everything that is still held, screened: nothing follows it."""
        if self.denied:
            return []
        await self.strand.advance("", at_end=True)
        return self._leaving()

    def _strand(self, key: Key) -> Strand:
        """A field that goes on after another is still one text: a leak may be spread over both its parts."""
        return self._strands.setdefault(key, Strand(self.policy, in_json=key[0] in CALLS))

    async def _whole(self, delta: Delta, texts: list[tuple[Key, str]]) -> list[Delta]:
        """A delta with several texts is a whole message: each of them is complete."""
        changed = delta
        for key, text in texts:
            strand = Strand(self.policy, in_json=key[0] in CALLS)
            await strand.advance(text, at_end=True)
            if strand.denied:
                self.denied = True
                kept = {name: value for name, value in changed.fields.items() if name in ("role", *TEXTS[:2])}
                return [Delta(kept, delta.choice)]
            changed = with_text(changed, key, edited(text, 0, strand.edits))
        self._key = None
        return [changed]

    def _leaving(self) -> list[Delta]:
        leaving: list[Delta] = []
        pieces, strand = self._pieces, self.strand
        while pieces and pieces[0].end <= strand.released:
            leaving += self._rewritten(pieces.popleft())
        if pieces and pieces[0].begin < strand.released and (strand.denied or _is_divisible(pieces[0].delta)):
            leaving += self._split(pieces[0], strand.released)
        if strand.denied:
            self.denied = True
            pieces.clear()
        strand.edits = [edit for edit in strand.edits if pieces and edit.end > pieces[0].begin]
        return leaving

    def _split(self, piece: Piece, at: int) -> list[Delta]:
        assert piece.key is not None
        first, rest = piece.text[: at - piece.begin], piece.text[at - piece.begin :]
        shortened = replace(with_text(piece.delta, piece.key, first), finish_reason=None)
        leaving = self._rewritten(Piece(shortened, piece.key, first, piece.begin))
        piece.delta = with_text(Delta({}, piece.delta.choice), piece.key, rest)
        piece.text, piece.begin = rest, at
        return leaving

    def _rewritten(self, piece: Piece) -> list[Delta]:
        if piece.key is None or not piece.text or not self.strand.edits:
            return [piece.delta]
        text = edited(piece.text, piece.begin, self.strand.edits)
        if text == piece.text:
            return [piece.delta]
        changed = with_text(piece.delta, piece.key, text)
        return [] if not text and _says_nothing_else(changed, piece.key) else [changed]


@dataclass
class ScreenedAnswer:
    """All choices of one answer; a denied phrase in one of them ends them all."""

    policy: AnswerPolicy
    deltas: int = 0
    """Deltas with text taken so far: about the tokens the engine made."""
    denied: bool = False
    """Something forbidden began: nothing more may leave."""
    _choices: dict[int, ScreenedChoice] = field(default_factory=dict)

    async def take(self, delta: Delta) -> list[Delta]:
        """What may leave now that this delta is here."""
        choice = self._choices.get(delta.choice)
        if choice is None:
            choice = self._choices[delta.choice] = ScreenedChoice(self.policy)
        self.deltas += 1
        leaving = await choice.take(delta)
        self.denied = self.denied or choice.denied
        return leaving

    @property
    def unscreened(self) -> bool:
        """The screener was down and the policy let the answer go on without it."""
        return self.policy.unscreened

    async def flush(self) -> list[Delta]:
        """Everything that is still held, screened."""
        leaving: list[Delta] = []
        for choice in self._choices.values():
            if not self.denied:
                leaving += await choice.flush()
                self.denied = choice.denied
        return leaving

    def endings(self) -> list[Delta]:
        """The last delta of every choice that had not finished when a denied phrase came."""
        return [
            Delta({}, index, finish_reason="content_filter")
            for index, choice in self._choices.items()
            if choice.denied or not choice.finished
        ]


def texts_of(delta: Delta) -> list[tuple[Key, str]]:
    """The non-empty texts of a delta: its own, and the arguments of its tool calls."""
    fields = delta.fields
    found: list[tuple[Key, str]] = []
    for name in TEXTS:
        if isinstance(text := fields.get(name), str) and text:
            found.append(((name, 0), text))
    calls = [
        (("tool_calls", int(call.get("index", position))), call.get("function"))
        for position, call in enumerate(fields.get("tool_calls") or ())
    ]
    for key, function in [*calls, (("function_call", 0), fields.get("function_call"))]:
        if isinstance(text := (function or {}).get("arguments"), str) and text:
            found.append((key, text))
    return found


def with_text(delta: Delta, key: Key, text: str) -> Delta:
    """The same delta saying something else, without what spells out its former tokens."""
    if delta.fields.get(key[0]) == text:
        return delta
    extras = {name: value for name, value in delta.extras.items() if name not in NAMES_OF_TOKENS}
    value: Any = text
    if key[0] == "tool_calls":
        value = _calls_with(delta.fields, key[1], text)
    elif key[0] == "function_call":
        value = {**delta.fields["function_call"], "arguments": text}
    return replace(delta, fields={**delta.fields, key[0]: value}, extras=extras)


def _calls_with(fields: Mapping[str, Any], index: int, arguments: str) -> list[Mapping[str, Any]]:
    calls = list(fields.get("tool_calls") or ())
    for position, call in enumerate(calls):
        if int(call.get("index", position)) == index:
            calls[position] = {**call, "function": {**call["function"], "arguments": arguments}}
    return calls


def edited(text: str, begin: int, edits: list[Edit]) -> str:
    """`text` stands at `begin` of its strand; an edit's replacement goes where the edit starts."""
    parts: list[str] = []
    position, end = begin, begin + len(text)
    for edit in sorted(edits, key=lambda edit: edit.start):
        if edit.end <= begin or edit.start >= end:
            continue
        parts.append(text[position - begin : max(position, edit.start) - begin])
        if edit.start >= begin:
            parts.append(edit.replacement)
        position = max(position, min(edit.end, end))
    parts.append(text[position - begin :])
    return "".join(parts)


def _is_divisible(delta: Delta) -> bool:
    """A delta that carries nothing that belongs to all of its text."""
    return not (delta.extras or delta.envelope or delta.finish_reason or any(name in delta.fields for name in CALLS))


def _says_nothing_else(delta: Delta, key: Key) -> bool:
    return len(delta.fields) == 1 and key[0] not in CALLS and delta.finish_reason is None and not delta.extras
