"""OpenAI's Moderations API: the guardrail's verdict without an answer."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.admission import Admission
from serve_app.http.files import Authenticate
from serve_app.http.moderation_wire import ModerationRequest, moderation_object
from serve_app.http.requests import read
from serve_app.http.responses import limit_headers
from serve_app.http.schema import body_schema
from serve_app.moderation import Moderation
from serve_app.settings import HttpSettings
from serve_app.turn import Caller


def moderations_router(
    moderation: Moderation, admission: Admission, authenticate: Authenticate, settings: HttpSettings
) -> APIRouter:
    router = APIRouter(tags=["moderations"])

    @router.post("/v1/moderations", openapi_extra=body_schema(ModerationRequest))
    async def moderate(request: Request, caller: Annotated[Caller, Depends(authenticate)]) -> Response:
        asked = await read(request, ModerationRequest, settings.max_body_bytes)
        with admission.reserve(caller):
            verdicts = await moderation.verdicts(asked.texts, caller.tenant, settings.request_deadline_s)
        return JSONResponse(moderation_object(verdicts, asked.model), headers=limit_headers(admission.standing(caller)))

    return router
