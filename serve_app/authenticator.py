import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serve_app.errors import Unauthenticated
from serve_app.settings import KeySettings
from serve_app.turn import Caller


def digest(key: str) -> str:
    """Hexadecimal SHA-256. A key is 256 random bits, so no salt and no slow hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True)
class Authenticator:
    """Knows callers by the digest of their key; holds no key in clear."""

    callers: Mapping[str, Caller]

    @classmethod
    def from_settings(cls, keys: Iterable[KeySettings], environment: Mapping[str, str] = os.environ) -> "Authenticator":
        """Raises ValueError where a key's environment variable is not set or two keys are the same."""
        callers: dict[str, Caller] = {}
        for key in keys:
            known = key.sha256 or _digest_from(environment, key)
            if known in callers:
                raise ValueError(f"keys: {key.id!r} and {callers[known].key_id!r} are the same key")
            callers[known] = Caller(key.tenant, key.id, frozenset({"user", *key.roles}), key.groups)
        return cls(callers)

    def authenticate(self, authorization: str | None) -> Caller:
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthenticated("no API key given: send the header 'Authorization: Bearer <key>'")
        caller = self.callers.get(digest(key.strip()))
        if caller is None:
            raise Unauthenticated(
                "this API key is not known here: check MANTA_API_KEY, or ask whoever runs the service"
            )
        return caller


def _digest_from(environment: Mapping[str, str], key: KeySettings) -> str:
    secret = environment.get(key.env or "")
    if not secret:
        raise ValueError(f"keys: the environment variable {key.env!r} of key {key.id!r} is not set")
    return digest(secret)
