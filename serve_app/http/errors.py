"""One place where our errors become OpenAI's."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from serve_app.errors import InvalidRequest, MantaError, NotFound, RateLimited

logger = logging.getLogger("manta")


def error_body(error: MantaError) -> dict[str, Any]:
    kind, code = error.upstream_type or error.type, error.upstream_code or error.code
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": code}}


def error_headers(error: MantaError) -> Mapping[str, str]:
    if isinstance(error, RateLimited):
        seconds = str(max(1, round(error.retry_after_s)))
        return {
            "Retry-After": seconds,
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{seconds}s",
        }
    return {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}


def install(app: FastAPI) -> None:
    @app.exception_handler(MantaError)
    async def refuse(_: Request, error: MantaError) -> Response:
        return JSONResponse(error_body(error), error.status, dict(error_headers(error)))

    @app.exception_handler(HTTPException)
    async def refuse_unrouted(request: Request, error: HTTPException) -> Response:
        """Unknown paths and methods, in the same shape as everything else."""
        known = NotFound(f"there is no {request.method} {request.url.path} here; see /docs")
        body = error_body(known if error.status_code == 404 else InvalidRequest(str(error.detail)))
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        """What we did not foresee: the trace stays in the log, the caller gets a sentence."""
        logger.error("unforeseen failure at %s", request.url.path, exc_info=error)
        return JSONResponse(error_body(MantaError("this service failed unexpectedly; its log has the reason")), 500)
