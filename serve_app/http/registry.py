"""The registry of models, for operators."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.http.files import Authenticate, NamedFaults
from serve_app.http.operators import operator
from serve_app.http.registry_wire import EntryChange, RegistrationBody, Wanted, Why, audit_object, entry_object
from serve_app.http.requests import read
from serve_app.http.schema import body_schema
from serve_app.registry.entry import Environment, Key, ModelEntry
from serve_app.registry.operations import RegistryOperations
from serve_app.turn import Caller

MAX_BODY_BYTES = 2**20
AnyEnvironment = Literal[Environment, ""]


def registry_router(operations: RegistryOperations, authenticate: Authenticate) -> APIRouter:
    """Model names have slashes in them: they travel in the query or the body."""
    router = APIRouter(prefix="/v1/registry", tags=["registry"], route_class=NamedFaults)
    Operator = Annotated[Caller, Depends(operator(authenticate, "operations on the registry"))]
    _add_changes(router, operations, Operator)
    _add_listings(router, operations, Operator)
    return router


def _add_changes(router: APIRouter, operations: RegistryOperations, Operator: Any) -> None:
    @router.post("/models", openapi_extra=body_schema(RegistrationBody), responses={201: {"description": "Put in"}})
    async def register(request: Request, caller: Operator) -> Response:
        """Puts a version of a model in, or changes what is said of one that is in: 201 or 200."""
        asked = await read(request, RegistrationBody, MAX_BODY_BYTES)
        there = await operations.entries(model=asked.model, environment=asked.environment)
        entry = await operations.register(asked.registration, check=asked.check, who=caller.key_id, why=asked.why)
        is_new = entry.key not in {one.key for one in there}
        return JSONResponse(entry_object(entry), 201 if is_new else 200)

    @router.patch("/models", openapi_extra=body_schema(EntryChange))
    async def change(request: Request, caller: Operator) -> dict[str, Any]:
        """Enables or disables a version, or sets its weight."""
        asked = await read(request, EntryChange, MAX_BODY_BYTES)
        return entry_object(await _changed(operations, asked, caller.key_id))

    @router.delete("/models")
    async def deregister(
        caller: Operator, model: str, version: str, environment: Environment = "development", why: Why = ""
    ) -> dict[str, Any]:
        """Takes a version out; its history stays."""
        key: Key = (model, version, environment)
        await operations.deregister(key, who=caller.key_id, why=why)
        named = {"model": model, "version": version, "environment": environment}
        return {"object": "registry.model.deleted", **named, "deleted": True}


async def _changed(operations: RegistryOperations, asked: EntryChange, who: str) -> ModelEntry:
    if asked.status == "disabled":
        return await operations.disable(asked.key, who=who, why=asked.why)
    if asked.status == "enabled":
        return await operations.enable(asked.key, weight=asked.weight, check=asked.check, who=who, why=asked.why)
    assert asked.weight is not None
    return await operations.weigh(asked.key, asked.weight, who=who, why=asked.why)


def _add_listings(router: APIRouter, operations: RegistryOperations, Operator: Any) -> None:
    @router.get("/models")
    async def models(_: Operator, model: Wanted = "", environment: AnyEnvironment = "") -> dict[str, Any]:
        """All versions, or those of a model or an environment."""
        found = await operations.entries(model=model, environment=environment)
        return {"object": "list", "data": [entry_object(entry) for entry in found]}

    @router.get("/history")
    async def history(
        _: Operator,
        model: Wanted = "",
        environment: AnyEnvironment = "",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> dict[str, Any]:
        """Who changed what, when and why, the newest first."""
        found = await operations.history(model=model, environment=environment, limit=limit)
        return {"object": "list", "data": [audit_object(row) for row in found]}
