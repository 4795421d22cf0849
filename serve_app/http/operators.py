"""Who may change what runs: keys with the role `admin`."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends

from serve_app.errors import Forbidden
from serve_app.http.files import Authenticate
from serve_app.turn import Caller


def operator(authenticate: Authenticate, subject: str) -> Callable[[Caller], Caller]:
    """A dependency that lets operators alone pass; `subject` begins the refusal: "rollouts"."""

    def permitted(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        if "admin" not in caller.roles:
            raise Forbidden(
                f"{subject} need a key with the role 'admin': use such a key, or set `roles: [admin]` for this one "
                f"({caller.key_id}) in the gateway's config"
            )
        return caller

    return permitted
