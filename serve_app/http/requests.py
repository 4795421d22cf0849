"""Bytes to a checked turn: everything a caller can get wrong ends here, with the field's name."""

import time
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from serve_app.errors import BodyTooLarge, InvalidRequest
from serve_app.http.vector_store_wire import RankingOptions
from serve_app.http.wire import ChatMessage, ChatRequest, CompletionRequest, MantaOptions
from serve_app.turn import Caller, Grounding, Message, Turn

Body = TypeVar("Body", bound=BaseModel)

OURS = {"model", "messages", "prompt", "stream", "manta", "tools"}
FILE_SEARCH_FIELDS = frozenset({"type", "vector_store_ids", "max_num_results", "filters", "ranking_options"})


async def read(request: Request, shape: type[Body], max_bytes: int) -> Body:
    """The request's JSON body as `shape`, whatever its content type says: `curl -d` sends JSON as a form."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise BodyTooLarge(f"the body is larger than {max_bytes} bytes: send less, or ask for a higher limit")
    try:
        given = orjson.loads(bytes(body))
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}") from exc
    if not isinstance(given, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return shape.model_validate(given)
    except ValidationError as exc:
        raise invalid(exc) from exc


def invalid(failure: ValidationError) -> InvalidRequest:
    """The first thing wrong, as a sentence that begins with the field."""
    first = failure.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(step) for step in first["loc"])
    given = first.get("input")
    shown = "" if isinstance(given, dict | list) or first["type"] == "missing" else f" (got {str(given)[:80]!r})"
    error = InvalidRequest(f"{field or 'body'}: {first['msg'].removeprefix('Value error, ')}{shown}")
    error.param = field or None
    return error


def chat_turn(asked: ChatRequest, caller: Caller, turn_id: str, deadline_s: float) -> Turn:
    searches = [tool for tool in asked.tools or () if tool.get("type") == "file_search"]
    others = [tool for tool in asked.tools or () if tool.get("type") != "file_search"]
    return Turn(
        id=turn_id,
        caller=caller,
        messages=tuple(map(message, asked.messages)),
        model=asked.model,
        stream=bool(asked.stream),
        session=asked.manta.session,
        parameters={**parameters(asked), **({"tools": others} if others else {})},
        grounding=grounding(asked, searches),
        ceilings=asked.manta.ceilings,
        expires_at=time.time() + deadline_s,
    )


def completion_turn(asked: CompletionRequest, caller: Caller, turn_id: str, deadline_s: float) -> Turn:
    return Turn(
        id=turn_id,
        caller=caller,
        messages=(Message("user", asked.prompt, {"suffix": asked.suffix} if asked.suffix else {}),),
        model=asked.model,
        operation="completion",
        stream=bool(asked.stream),
        parameters={name: value for name, value in parameters(asked).items() if name != "suffix"},
        session=asked.manta.session,
        grounding=own_grounding(asked.manta),
        ceilings=asked.manta.ceilings,
        expires_at=time.time() + deadline_s,
    )


def message(given: ChatMessage) -> Message:
    rest = given.model_dump(exclude={"role", "content"}, exclude_unset=True)
    if isinstance(given.content, list):
        rest["content"] = given.content
    return Message(given.role, given.text, rest)


def parameters(asked: BaseModel) -> dict[str, Any]:
    """Every field the caller set that is not ours to act on; a null means "not set", as with OpenAI."""
    return {
        key: value for key, value in asked.model_dump(exclude=OURS, exclude_unset=True).items() if value is not None
    }


def grounding(asked: ChatRequest, searches: list[dict[str, Any]]) -> Grounding:
    """OpenAI's `file_search` tool and the `manta` field say the same thing; the tool is the standard, so it wins."""
    ours = asked.manta
    if not searches:
        return own_grounding(ours)
    search = searches[0]
    if unknown := search.keys() - FILE_SEARCH_FIELDS:
        raise InvalidRequest(f"tools: file_search has no field {sorted(unknown)[0]!r}").at("tools")
    stores, top_k = search.get("vector_store_ids") or (), search.get("max_num_results")
    if not isinstance(stores, list | tuple) or not all(isinstance(store, str) for store in stores):
        raise InvalidRequest("tools: file_search.vector_store_ids must be a list of ids").at("tools")
    if top_k is not None and not (isinstance(top_k, int) and 0 < top_k <= 50):
        raise InvalidRequest(f"tools: file_search.max_num_results must be 1 to 50 (got {top_k!r})").at("tools")
    options = ranking_options(search.get("ranking_options"))
    return Grounding(
        stores=tuple(stores),
        wanted=True,
        top_k=top_k,
        filters=search.get("filters"),
        ranking=options.ranking,
        min_score=options.score_threshold,
        playbook=ours.playbook.strip(),
    )


def own_grounding(asked: MantaOptions) -> Grounding:
    return Grounding(
        stores=asked.stores,
        wanted=asked.retrieval,
        top_k=asked.top_k,
        filters=asked.filters,
        playbook=asked.playbook.strip(),
    )


def ranking_options(given: object) -> RankingOptions:
    try:
        return RankingOptions.model_validate({} if given is None else given)
    except ValidationError as exc:
        raise InvalidRequest(f"tools: file_search.ranking_options.{invalid(exc)}").at("tools") from exc
