"""Personal data out of a conversation and placeholders in, the same one for the same value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.turn import Finding, Message, Passage, Screening, Turn

Vault = Mapping[str, str]
"""Placeholder -> the caller's own value. It lives as long as its turn and is never logged."""

PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*_\d+>")
BETWEEN_TEXTS = "\n\n"

Place = tuple[str | int, ...]
"""Where a text stands in `Message.fields`; empty for `Message.text`."""


def texts_of(message: Message) -> list[tuple[Place, str]]:
    """Everything of a message that an engine reads as text: also text parts and arguments of earlier tool calls.

    Pictures, ids and names are not.
    """
    return [((), message.text), *((place, text) for place, text in _carried(message.fields) if text)]


def _carried(fields: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    for name in ("reasoning_content", "reasoning", "refusal", "suffix"):
        if isinstance(text := fields.get(name), str):
            yield (name,), text
    for number, part in enumerate(_dicts(fields.get("content"))):
        if isinstance(text := part.get("text"), str):
            yield ("content", number, "text"), text
    for number, call in enumerate(_dicts(fields.get("tool_calls"))):
        if isinstance(text := _mapping(call.get("function")).get("arguments"), str):
            yield ("tool_calls", number, "function", "arguments"), text
    if isinstance(text := _mapping(fields.get("function_call")).get("arguments"), str):
        yield ("function_call", "arguments"), text


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [_mapping(item) for item in value] if isinstance(value, list | tuple) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def screened_text(message: Message) -> str:
    """What the screener reads of a message; findings count from its start."""
    return BETWEEN_TEXTS.join(text for _, text in texts_of(message))


def passage_texts(passage: Passage) -> tuple[str, str, str, str]:
    """What an engine reads of a passage: source, title, heading, text."""
    return passage.source, passage.title, passage.heading, passage.text


def passage_text(passage: Passage) -> str:
    """What the screener reads of a passage; findings count from its start."""
    return BETWEEN_TEXTS.join(passage_texts(passage))


@dataclass(slots=True)
class Masking:
    """Hands out placeholders for one turn, and goes on with those its session has already."""

    kinds: frozenset[str]
    """Entities that are masked; findings of others stay."""
    taken: frozenset[str]
    """What looks like a placeholder already: the caller wrote it and it stands for itself."""
    known: Vault = field(default_factory=dict)
    """The session's."""
    vault: dict[str, str] = field(default_factory=dict)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, turn: Turn, kinds: frozenset[str], known: Vault) -> "Masking":
        texts = [*map(screened_text, turn.messages), *map(passage_text, turn.passages)]
        taken = frozenset(name for text in texts for name in PLACEHOLDER.findall(text))
        masking = cls(kinds, taken, known)
        masking._names = {(_kind(name), value): name for name, value in known.items()}
        return masking

    def message(self, message: Message, screening: Screening) -> Message:
        findings = self._maskable(screening)
        if not findings:
            return message
        begin = 0
        for place, text in texts_of(message):
            masked = self._masked(text, begin, findings)
            if masked != text:
                fields = _with(message.fields, place, masked) if place else message.fields
                message = replace(message, fields=fields, text=message.text if place else masked)
            begin += len(text) + len(BETWEEN_TEXTS)
        return message

    def passage(self, passage: Passage, screening: Screening) -> Passage:
        findings = self._maskable(screening)
        if not findings:
            return passage
        begin, masked = 0, []
        for text in passage_texts(passage):
            masked.append(self._masked(text, begin, findings))
            begin += len(text) + len(BETWEEN_TEXTS)
        source, title, heading, text = masked
        return replace(passage, source=source, title=title, heading=heading, text=text)

    def _maskable(self, screening: Screening) -> list[Finding]:
        return [finding for finding in screening.findings if finding.kind in self.kinds]

    def _masked(self, text: str, begin: int, findings: Sequence[Finding]) -> str:
        parts: list[str] = []
        position = 0
        for finding in findings:
            start, end = max(position, finding.start - begin), min(len(text), finding.end - begin)
            if start < end:
                parts += [text[position:start], self._placeholder(finding.kind, text[start:end])]
                position = end
        return "".join(parts) + text[position:]

    def _placeholder(self, kind: str, value: str) -> str:
        name = self._names.get((kind, value))
        while name is None or name in self.taken or self.known.get(name, value) != value:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"<{kind}_{self._counts[kind]}>"
        self._names[kind, value] = name
        self.vault[name] = value
        return name


def _kind(placeholder: str) -> str:
    return placeholder[1:-1].rpartition("_")[0]


def _with(container: Any, place: Place, text: str) -> Any:
    """A copy of nested dicts and lists with the text at `place` replaced."""
    if not place:
        return text
    key, *rest = place
    if isinstance(container, Mapping):
        return {**container, key: _with(container[str(key)], tuple(rest), text)}
    return [_with(item, tuple(rest), text) if number == key else item for number, item in enumerate(container)]
