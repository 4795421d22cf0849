"""What became of a request, for its tenant and for operators."""

from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from serve_app.errors import NotFound
from serve_app.http.files import Authenticate, NamedFaults
from serve_app.routing.receipt import Receipt, Receipts
from serve_app.routing.route import Attempt
from serve_app.turn import Caller


def receipts_router(receipts: Receipts, authenticate: Authenticate) -> APIRouter:
    router = APIRouter(prefix="/v1/receipts", tags=["receipts"], route_class=NamedFaults)

    @router.get("/{request_id:path}")
    async def receipt(request_id: str, caller: Annotated[Caller, Depends(authenticate)]) -> dict[str, Any]:
        is_operator = "admin" in caller.roles
        found = await receipts.find(request_id, tenant=None if is_operator else caller.tenant)
        if found is None:
            # Whether another tenant has one is that tenant's own business.
            raise NotFound(
                f"there is no receipt of {request_id!r} here; a request's id is the x-request-id of its answer"
            )
        return receipt_object(found, shows_endpoints=is_operator)

    return router


def receipt_object(receipt: Receipt, *, shows_endpoints: bool) -> dict[str, Any]:
    """Where the models run is the operator's business."""
    names = [field.name for field in fields(Receipt) if field.name not in ("attempts", "endpoint")]
    shown = {"object": "receipt", **{name: getattr(receipt, name) for name in names}}
    if shows_endpoints:
        shown["endpoint"] = receipt.endpoint
    shown["attempts"] = [attempt_object(attempt, shows_endpoints) for attempt in receipt.attempts]
    return shown


def attempt_object(attempt: Attempt, shows_endpoint: bool) -> dict[str, Any]:
    entry = attempt.entry
    endpoint = {"endpoint": entry.endpoint} if shows_endpoint else {}
    made = {"outcome": attempt.outcome, "ms": attempt.ms, "failed": attempt.failed}
    return {"model": entry.model, "version": entry.version, **endpoint, **made}
