"""What a person may write in an entry's fields."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from serve_app.router_settings import AUTO

LONGEST_NAME = 200
KEY_ENV = re.compile(r"[A-Z][A-Z0-9_]*_API_KEY")
"""Any other variable of the gateway's may hold a secret that is not the endpoint's to see."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
APPLICATION = re.compile(r"serve://[\w.:@-]{1,200}", re.ASCII)


def _name(given: str) -> str:
    """ASCII, for names stand in response headers; without `@`, which parts a model from its version."""
    if not (given.isascii() and given.isprintable() and given == given.strip() and "@" not in given):
        raise ValueError(f"must be 1 to {LONGEST_NAME} printable ASCII characters, without '@' and outer spaces")
    return given


def _words(given: str) -> str:
    if not (given.isprintable() and given == given.strip()):
        raise ValueError("must be printable characters without outer space")
    return given


def _endpoint(given: str) -> str:
    forms = "give serve://APPLICATION, or http(s)://HOST[:PORT][/PATH] of a server that speaks OpenAI's API"
    if APPLICATION.fullmatch(given):
        return given
    try:
        parts = urlsplit(given)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_http = False
    if not is_http or not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError(forms)
    if "@" in parts.netloc:
        raise ValueError("holds a user or password: leave them out, and name the variable with the key in `key_env`")
    if parts.query or parts.fragment or "?" in given or "#" in given:
        raise ValueError(f"has more than an address: {forms}")
    return given.rstrip("/")


def _key_env(given: str) -> str:
    if given and not KEY_ENV.fullmatch(given):
        raise ValueError("must be an environment variable named ..._API_KEY, in capitals: no other is ever sent")
    return given


def _digest(given: str) -> str:
    lowered = given.lower()
    if lowered and not DIGEST.fullmatch(lowered):
        raise ValueError("must be sha256: and 64 hexadecimal digits")
    return lowered


def _model(given: str) -> str:
    if given == AUTO:
        raise ValueError(f"{AUTO!r} is the router's own name; give the model another")
    return given


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_name)]
Words = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_words)]
Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
ModelName = Annotated[Name, AfterValidator(_model)]
Endpoint = Annotated[str, Field(max_length=2_000), AfterValidator(_endpoint)]
KeyVariable = Annotated[str, AfterValidator(_key_env)]
Digest = Annotated[str, AfterValidator(_digest)]
Weight = Annotated[int, Field(ge=0, le=100)]
ContextTokens = Annotated[int, Field(gt=0, le=100_000_000)]
