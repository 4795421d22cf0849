"""Rollouts of models, for operators."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request

from serve_app.http.files import Authenticate, NamedFaults
from serve_app.http.operators import operator
from serve_app.http.registry_wire import Wanted
from serve_app.http.requests import read
from serve_app.http.rollouts_wire import RolloutAction, RolloutStart, rollout_object, standing_object
from serve_app.http.schema import body_schema
from serve_app.registry.entry import Environment
from serve_app.rollout.operations import RolloutOperations
from serve_app.turn import Caller

MAX_BODY_BYTES = 2**20
AnyEnvironment = Literal[Environment, ""]


def rollouts_router(operations: RolloutOperations, authenticate: Authenticate) -> APIRouter:
    """Model names have slashes in them: they travel in the query or the body."""
    router = APIRouter(prefix="/v1/rollouts", tags=["rollouts"], route_class=NamedFaults)
    Operator = Annotated[Caller, Depends(operator(authenticate, "rollouts"))]

    @router.get("", dependencies=[Depends(operator(authenticate, "rollouts"))])
    async def under_way(model: Wanted = "", environment: AnyEnvironment = "") -> dict[str, Any]:
        """Those under way, with what their gates know."""
        found = await operations.under_way(model=model, environment=environment)
        return {"object": "list", "data": [standing_object(one) for one in found]}

    @router.post("", status_code=201, openapi_extra=body_schema(RolloutStart))
    async def start(request: Request, caller: Operator) -> dict[str, Any]:
        asked = await read(request, RolloutStart, MAX_BODY_BYTES)
        return standing_object(await operations.start(asked.plan, who=caller.key_id, why=asked.why))

    @router.post("/actions", openapi_extra=body_schema(RolloutAction))
    async def act(request: Request, caller: Operator) -> dict[str, Any]:
        """Ends a rollout, or holds it on its step."""
        asked = await read(request, RolloutAction, MAX_BODY_BYTES)
        done = await operations.act(
            asked.action, asked.model, asked.environment, to_version=asked.to, who=caller.key_id, why=asked.why
        )
        return standing_object(done)

    @router.get("/history", dependencies=[Depends(operator(authenticate, "rollouts"))])
    async def history(
        model: Wanted = "", environment: AnyEnvironment = "", limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> dict[str, Any]:
        """All rollouts, the newest first."""
        found = await operations.history(model=model, environment=environment, limit=limit)
        return {"object": "list", "data": [rollout_object(one) for one in found]}

    return router
