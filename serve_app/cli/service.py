"""A running service's API for operators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from serve_app.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    MantaError,
    NotFound,
    RegistryUnavailable,
    Unauthenticated,
    Unavailable,
)

ANSWER_S = 60.0
"""An endpoint's check waits 30 s for the first completion of a large model."""
CONNECT_S = 5.0
ERRORS: Mapping[int, type[MantaError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    503: RegistryUnavailable,
}


@dataclass(frozen=True)
class Service:
    url: str
    client: httpx.AsyncClient

    @classmethod
    def at(cls, url: str, key: str) -> "Service":
        """Close `client` at the end. Raises InvalidRequest where the address or the key cannot be sent."""
        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"MANTA_URL: {url!r} is no address; it begins with http:// or https://")
        if not (key.isascii() and key.isprintable() and key.strip()):
            raise InvalidRequest("MANTA_API_KEY: holds characters that no key has; set it anew")
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            return cls(url, httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=timeout))
        except httpx.InvalidURL as exc:  # of a proxy in the environment
            raise InvalidRequest(f"a proxy's address in the environment cannot be read: {exc}") from exc

    async def is_there(self) -> bool:
        """Whether anything answers."""
        try:
            await self.client.get(f"{self.url}/health/live", timeout=CONNECT_S)
        except (httpx.TransportError, httpx.InvalidURL):
            return False
        return True

    async def call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer's JSON object; of `query` what is None or empty is not sent. Raises what the service raised."""
        said = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        try:
            response = await self.client.request(method, f"{self.url}{path}", json=body, params=said)
        except httpx.TimeoutException as exc:
            raise Unavailable(f"{self.url} did not answer in time; look into its log, then try again") from exc
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise Unavailable(f"no service at {self.url}: start one with `make serve`, or set MANTA_URL") from exc
        answer = self._read(response)
        if response.is_success:
            return answer
        if response.status_code == 401:
            raise Unauthenticated(f"{self.url} does not know this key: set MANTA_API_KEY")
        error = answer.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        raise ERRORS.get(response.status_code, Unavailable)(message or f"{self.url} answered {response.status_code}")

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(f"{self.url} answered {response.status_code} and no JSON: is it Manta?")
        return answer
