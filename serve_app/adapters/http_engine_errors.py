"""What an HTTP upstream's failures are to Manta's callers, who learn neither its address nor its key."""

import email.utils
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import orjson

from serve_app.errors import EngineFailed, MantaError, RateLimited
from serve_app.openai_engine import engine_error, status_of
from serve_app.registry.entry import ModelEntry

LONGEST_COMPLAINT = 300
"""Characters of a server's refusal that are repeated to an operator."""
LONGEST_RETRY_S = 3_600.0

logger = logging.getLogger("manta")


class Refused(Exception):
    """The upstream answered with an error; in words for an operator, who may see an address."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.error = status, headers, error_object(body)
        complaint = " ".join(str((self.error or {}).get("message") or body.decode("utf-8", "replace")).split())
        super().__init__(f"answered {status}: {complaint[:LONGEST_COMPLAINT]}".rstrip(": "))


def checked(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same chunk. Raises Refused when it is an error, which an answer may end in."""
    if error := chunk.get("error"):
        raise Refused(status_of(error if isinstance(error, dict) else {}), {}, orjson.dumps({"error": error}))
    return chunk


def error_object(body: bytes) -> Mapping[str, object] | None:
    """OpenAI's, also without the object around it; None where the body holds something else."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        return None
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None


def key_of(entry: ModelEntry) -> str:
    """Empty where the entry names none; read anew for each request. Raises KeyError, in words for an operator."""
    key = os.environ.get(entry.key_env, "").strip() if entry.key_env else ""
    if entry.key_env and not (key and key.isascii() and key.isprintable()):
        raise KeyError(f"key_env: the gateway's environment variable {entry.key_env!r} holds no key; set it")
    return key


@contextmanager
def asked_of(entry: ModelEntry) -> Iterator[str]:
    """The upstream's key. Raises Manta's errors for whatever goes wrong; the log has what callers are not told."""
    try:
        key = key_of(entry)
    except KeyError as missing:
        raise failure(entry, missing, "cannot be asked without a key") from missing
    try:
        yield key
    except Refused as refused:
        raise refusal(entry, key, refused) from refused
    except TimeoutError as exc:
        raise failure(entry, exc, "did not answer in time") from exc
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        raise failure(entry, exc, "cannot be reached") from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise failure(entry, exc, "broke off") from exc
    except ValueError as exc:
        raise failure(entry, exc, "sent something else than an answer") from exc


def failure(entry: ModelEntry, exc: Exception, what: str, key: str = "") -> EngineFailed:
    reason = without(key, f"{type(exc).__name__}: {exc}")
    logger.warning("the server of %s, %s, %s: %s", entry.name, entry.endpoint, what, reason)
    return EngineFailed(f"the server of model {entry.model!r} {what}; try again, or ask for another model")


def refusal(entry: ModelEntry, key: str, refused: Refused) -> MantaError:
    if refused.status in (401, 403):
        reason = without(key, str(refused))
        logger.error("the server of %s refuses the key in %r: %s", entry.name, entry.key_env, reason)
        return EngineFailed(f"the server of model {entry.model!r} refuses Manta's key; tell Manta's operator")
    if refused.status == 404 and refused.error is None:
        return failure(entry, refused, "has no such address", key)
    error = engine_error(scrubbed(entry, key, refused.error or {}), refused.status)
    if isinstance(error, EngineFailed):
        return failure(entry, refused, "failed", key)
    if isinstance(error, RateLimited):
        error.retry_after_s = retry_after_s(refused.headers)
    return error


def scrubbed(entry: ModelEntry, key: str, error: Mapping[str, object]) -> Mapping[str, object]:
    """Without the upstream's address and key, which servers like to repeat."""
    if not isinstance(message := error.get("message"), str):
        return error
    url, message = httpx.URL(entry.endpoint), without(key, message)
    for address in (entry.endpoint, f"{url.host}:{url.port}", url.host):
        message = re.sub(rf"(?<![\w.-]){re.escape(address)}(?![\w-])", "(address)", message)
    return {**error, "message": message}


def without(key: str, text: str) -> str:
    return text.replace(key, "(key)") if key else text


def retry_after_s(headers: Mapping[str, str]) -> float:
    """As the upstream says it, in seconds or as a date; a second where it does not."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        date = email.utils.parsedate_tz(given)
        seconds = email.utils.mktime_tz(date) - time.time() if date else 1.0
    return min(max(seconds, 0.0), LONGEST_RETRY_S) if seconds == seconds else 1.0
