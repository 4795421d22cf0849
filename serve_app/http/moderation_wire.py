"""OpenAI's shapes of a moderation, and what Manta adds: attacks, personal data, the policy that refuses."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from serve_app.moderation import CATEGORIES, UNREAD, Verdict

MOST_TEXTS = 256
MODEL = "manta-guard"
"""Named in the response where the request named none; there is one set of heads and every name gets it."""


class Wire(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class TextPart(Wire):
    type: Literal["text"]
    text: str


class ModerationRequest(Wire):
    """`POST /v1/moderations`."""

    input: str | Annotated[list[str], Field(max_length=MOST_TEXTS)] | Annotated[list[TextPart], Field(max_length=256)]
    """A text, up to 256 texts, or the text parts of one message."""
    model: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _can_be_read(cls, given: Any) -> Any:
        """In a sentence what pydantic would say once for every member of the union."""
        if isinstance(given, str):
            return given
        if not isinstance(given, list) or not given:
            raise ValueError("send a text, or a list of 1 to 256 texts")
        if len(given) > MOST_TEXTS:
            raise ValueError(
                f"at most {MOST_TEXTS} texts are judged in one call, these are {len(given)}; send the rest apart"
            )
        for number, one in enumerate(given):
            if fault := _fault(one, given[0]):
                raise ValueError(f"entry {number} {fault}")
        return given

    @property
    def texts(self) -> tuple[str, ...]:
        """Parts are one text, as in a chat message: what is spread over several parts is judged as it is read."""
        if isinstance(self.input, str):
            return (self.input,)
        texts = [one if isinstance(one, str) else one.text for one in self.input]
        return tuple(texts) if isinstance(self.input[0], str) else ("\n".join(texts),)


def _fault(given: Any, first: Any) -> str:
    if isinstance(given, str):
        return "" if isinstance(first, str) else "is a text among parts; send either"
    if not isinstance(given, dict):
        return f"is neither a text nor a part such as {{'type': 'text', 'text': '...'}} (got {str(given)[:40]!r})"
    if isinstance(first, str):
        return "is a part among texts; send either"
    if given.get("type") != "text":
        return f"has the type {str(given.get('type'))[:40]!r}; only text is judged here, so send parts of type 'text'"
    return "" if isinstance(given.get("text"), str) else "has no `text`"


def moderation_object(verdicts: tuple[Verdict, ...], model: str | None) -> dict[str, Any]:
    return {"id": f"modr-{uuid.uuid4().hex}", "model": model or MODEL, "results": list(map(result_object, verdicts))}


def result_object(verdict: Verdict) -> dict[str, Any]:
    """One result; `pii` and `policy` are ours. A category that nothing here reads applies to no type of input."""
    return {
        "flagged": verdict.flagged,
        "categories": {name: name in verdict.broken for name in CATEGORIES},
        "category_scores": {name: verdict.scores[name] for name in CATEGORIES},
        "category_applied_input_types": {name: [] if name in UNREAD else ["text"] for name in CATEGORIES},
        "pii": [
            {"entity": found.kind, "start": found.start, "end": found.end, "score": float(found.score)}
            for found in verdict.findings
        ],
        "policy": verdict.policy,
    }
