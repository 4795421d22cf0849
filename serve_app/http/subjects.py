"""What the service holds about one person, and how it is removed."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from serve_app.errors import Forbidden
from serve_app.http.files import Authenticate, NamedFaults
from serve_app.library_port import LibraryPort
from serve_app.turn import Caller


def subjects_router(library: LibraryPort, authenticate: Authenticate) -> APIRouter:
    router = APIRouter(prefix="/v1/subjects", tags=["subjects"], route_class=NamedFaults)

    @router.delete("/{subject:path}")
    async def purge(subject: str, caller: Annotated[Caller, Depends(authenticate)]) -> dict[str, Any]:
        if "admin" not in caller.roles:
            raise Forbidden("a purge needs a key with the role 'admin': set `roles: [admin]` for it in the config")
        gone = await library.purge(caller.tenant, subject)
        return {
            "object": "subject.deleted",
            "id": gone.subject,
            "deleted": True,
            "files": list(gone.files),
            "chunks": gone.chunks,
            # Neither is kept anywhere yet: what comes to keep them counts here what it removed.
            "cached_answers": 0,
            "training_rows": 0,
        }

    return router
