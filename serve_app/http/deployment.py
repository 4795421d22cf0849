"""What runs behind this gateway, for operators."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request

from serve_app.deployed.applications import Application, Replicas, ServeStatus
from serve_app.errors import NotFound
from serve_app.http.files import Authenticate, NamedFaults
from serve_app.http.operators import operator
from serve_app.http.requests import read
from serve_app.http.schema import body_schema
from serve_app.http.vector_store_wire import Wire
from serve_app.registry.entry import Environment, Key, ModelEntry
from serve_app.registry.operations import CheckResult, EndpointCheck

MAX_BODY_BYTES = 2**16
Name = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What a gateway can tell of what it serves, and can try."""

    environment: Environment
    serve: ServeStatus
    check: EndpointCheck
    find: Callable[[Key], Awaitable[ModelEntry | None]]
    """In the registry, whatever the environment."""
    circuits: Callable[[], Mapping[str, str]]
    """closed, open or half-open by the entry's name, on this ingress replica."""
    copy: Callable[[], tuple[int, float, bool]]
    """Of the registry here: revision, seconds since it was known to be right, and whether that is too long."""


class CheckRequest(Wire):
    model: Name
    version: Name
    environment: Environment


def deployment_router(deployment: Deployment, authenticate: Authenticate) -> APIRouter:
    guards = [Depends(operator(authenticate, "deployments"))]
    router = APIRouter(prefix="/v1/deployment", tags=["operations"], route_class=NamedFaults, dependencies=guards)

    @router.get("")
    async def status() -> dict[str, Any]:
        """Applications of Ray Serve with their replicas, circuits, and how fresh the registry's copy is here."""
        revision, age_s, is_stale = deployment.copy()
        return {
            "object": "deployment",
            "environment": deployment.environment,
            "registry": {"revision": revision, "age_s": round(age_s, 3), "is_stale": is_stale},
            "applications": [asdict(one) for one in await deployment.serve.applications()],
            "circuits": dict(deployment.circuits()),
        }

    @router.post("/checks", openapi_extra=body_schema(CheckRequest))
    async def check(request: Request) -> dict[str, Any]:
        """Asks the endpoint of a registered version for real: health, its models, one tiny completion."""
        asked = await read(request, CheckRequest, MAX_BODY_BYTES)
        entry = await deployment.find((asked.model, asked.version, asked.environment))
        if entry is None:
            raise NotFound(
                f"version: {asked.model}@{asked.version} is not registered in {asked.environment}; "
                "`manta registry list` shows what is"
            ).at("version")
        return {"object": "deployment.check", **check_object(await deployment.check.check(entry))}

    return router


def check_object(checked: CheckResult) -> dict[str, Any]:
    return {**asdict(checked), "steps": dict(checked.steps), "figures": dict(checked.figures)}


def check_of(given: Mapping[str, Any]) -> CheckResult:
    known = {field.name: given[field.name] for field in fields(CheckResult) if field.name in given}
    return CheckResult(**{**known, "served_names": tuple(known.get("served_names", ()))})


def application_of(given: Mapping[str, Any]) -> Application:
    """What the gateway said of one, read back; fields of a later version of Manta are left out."""
    parts = [Replicas(**_known(Replicas, one)) for one in given.get("deployments", ())]
    return Application(**{**_known(Application, given), "deployments": tuple(parts)})


def _known(shape: type, given: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: given[field.name] for field in fields(shape) if field.name in given}
