"""OpenAI's Files API."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from serve_app.documents.records import Listing, Paging, StoredFile
from serve_app.errors import BodyTooLarge, InvalidRequest
from serve_app.library_port import LibraryPort
from serve_app.sight import Sight
from serve_app.turn import Caller

FORM_BYTES = 64 * 2**10
"""What a multipart body may have beside the file."""
UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"type": "string"}},
                }
            }
        },
    }
}

Authenticate = Callable[[Request], Caller] | Callable[[Request], Awaitable[Caller]]


class NamedFaults(APIRoute):
    """What is wrong with a parameter of the address is told in OpenAI's shape, by its name."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as exc:
                first = exc.errors()[0]
                name = str(first["loc"][-1])
                raise InvalidRequest(f"{name}: {first['msg']} (got {str(first.get('input'))[:80]!r})").at(name) from exc

        return answer


def files_router(library: LibraryPort, authenticate: Authenticate, max_file_bytes: int = 50 * 2**20) -> APIRouter:
    router = APIRouter(prefix="/v1/files", tags=["files"], route_class=NamedFaults)
    Who = Annotated[Caller, Depends(authenticate)]

    @router.post("", openapi_extra=UPLOAD_SCHEMA)
    async def create(request: Request, caller: Who) -> dict[str, Any]:
        name, content, purpose = await read_upload(request, max_file_bytes)
        return file_object(await library.create_file(caller.tenant, name, content, purpose))

    @router.get("")
    async def listing(
        caller: Who,
        purpose: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        paging = Paging(limit=limit, order=order, after=after)
        return list_object(await library.list_files(caller.tenant, paging, purpose), file_object)

    @router.get("/{file_id}")
    async def get(file_id: str, caller: Who) -> dict[str, Any]:
        return file_object(await library.get_file(caller.tenant, file_id))

    @router.delete("/{file_id}")
    async def delete(file_id: str, caller: Who) -> dict[str, Any]:
        await library.delete_file(caller.tenant, file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    @router.get("/{file_id}/content")
    async def content(file_id: str, caller: Who) -> Response:
        # never by its own type: what a tenant uploads must not run as a page of this origin
        headers = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
        found = await library.file_content(Sight.of(caller), file_id)
        return Response(found, media_type="application/octet-stream", headers=headers)

    return router


async def read_upload(request: Request, max_file_bytes: int) -> tuple[str, bytes, str]:
    """Name, bytes and purpose of a multipart upload; a body over the limit is refused while it arrives."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest("the body must be multipart/form-data with the fields `file` and `purpose`")
    limited = Request(request.scope, _limited(request, max_file_bytes))
    try:
        async with limited.form(max_files=1, max_fields=10) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            _check_names(form)
            if not isinstance(upload, UploadFile):
                raise InvalidRequest("file: send the document as a file in the form field `file`").at("file")
            if not isinstance(purpose, str):
                raise InvalidRequest("purpose: send the form field `purpose`, such as `assistants`").at("purpose")
            return upload.filename or "", await upload.read(), purpose
    except MultiPartException as exc:
        raise InvalidRequest(f"the multipart body cannot be read: {exc.message}") from exc


def _check_names(form: Iterable[str]) -> None:
    """What is not done is refused: a file that its owner believes to expire must not stay."""
    for name in sorted(set(form) - {"file", "purpose"}):
        instead = "a file is kept until it is deleted" if name.startswith("expires_after") else "leave it out"
        raise InvalidRequest(f"{name}: the form has the fields `file` and `purpose`; {instead}").at(name)


def _limited(request: Request, max_file_bytes: int) -> Callable[[], Awaitable[Message]]:
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > max_file_bytes + FORM_BYTES:
            raise BodyTooLarge(f"file: the upload is larger than {max_file_bytes} bytes; split the document").at("file")
        return message

    return receive


def file_object(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": None,
        "status_details": None,
    }


def list_object(listing: Listing[Any], shape: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    shown = [shape(record) for record in listing.records]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": listing.has_more,
    }
