import pytest

from serve_app.authenticator import Authenticator, digest
from serve_app.errors import Unauthenticated
from serve_app.settings import KeySettings

KEYS = [
    KeySettings(id="a", tenant="acme", sha256=digest("sk-a"), roles=frozenset({"admin"})),
    KeySettings(id="b", tenant="beta", env="B_KEY"),
]


def authenticator() -> Authenticator:
    return Authenticator.from_settings(KEYS, {"B_KEY": "sk-b"})


def test_a_key_leads_to_its_caller() -> None:
    caller = authenticator().authenticate("Bearer sk-a")
    assert (caller.tenant, caller.key_id, caller.roles) == ("acme", "a", {"user", "admin"})


def test_a_key_from_the_environment_works_the_same() -> None:
    assert authenticator().authenticate("bearer sk-b").tenant == "beta"


@pytest.mark.parametrize("header", [None, "", "Bearer ", "sk-a", "Basic sk-a", "Bearer sk-x"])
def test_anything_else_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        authenticator().authenticate(header)


def test_a_missing_environment_variable_refuses_to_start() -> None:
    with pytest.raises(ValueError, match="'B_KEY' of key 'b' is not set"):
        Authenticator.from_settings(KEYS, {})


def test_two_ids_for_one_key_refuse_to_start() -> None:
    with pytest.raises(ValueError, match="same key"):
        Authenticator.from_settings([KEYS[0], KEYS[0].model_copy(update={"id": "c"})], {})
