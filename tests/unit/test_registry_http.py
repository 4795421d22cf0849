"""The registry's endpoints."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.authenticator import Authenticator, digest
from serve_app.errors import InvalidRequest
from serve_app.http import errors
from serve_app.http.app import create_app
from serve_app.http.registry import registry_router
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registration import Registration
from serve_app.registry.registry import Registry
from serve_app.turn import Caller
from tests import builders

LLAMA = {"model": "meta/llama", "version": "1", "endpoint": "serve://llama"}


@dataclass
class Endpoints:
    """All answer as a vLLM engine does, but for those that are down."""

    down: set[str] = field(default_factory=set)
    asked: list[ModelEntry] = field(default_factory=list)

    async def check(self, entry: ModelEntry) -> CheckResult:
        self.asked.append(entry)
        if entry.endpoint in self.down:
            raise InvalidRequest(f"endpoint: {entry.endpoint} is down").at("endpoint")
        return CheckResult(steps={"health": "fine"}, engine="vllm", context_tokens=4_096)


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints()


@pytest.fixture
def store() -> MemoryRegistryStore:
    return MemoryRegistryStore()


@pytest.fixture
def client(store: MemoryRegistryStore, endpoints: Endpoints) -> Iterator[TestClient]:
    keys = Authenticator(
        {
            digest("sk-admin"): Caller("acme", "ann", frozenset({"user", "admin"})),
            digest("sk-user"): Caller("acme", "bob"),
        }
    )

    def authenticate(request: Request) -> Caller:
        return keys.authenticate(request.headers.get("authorization"))

    app = FastAPI()
    errors.install(app)
    app.include_router(registry_router(Registry(store, endpoints), authenticate))
    with TestClient(app, headers={"Authorization": "Bearer sk-admin"}) as client:
        yield client


def register(client: TestClient, **said: Any) -> dict[str, Any]:
    response = client.post("/v1/registry/models", json=LLAMA | said)
    assert response.status_code in (200, 201), response.text
    entry: dict[str, Any] = response.json()
    return entry


def message(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


def test_a_version_is_put_in_and_read_back(client: TestClient) -> None:
    made = client.post("/v1/registry/models", json=LLAMA | {"capabilities": ["json"], "prompt_price": 0.5})
    assert made.status_code == 201
    [listed] = client.get("/v1/registry/models").json()["data"]
    assert listed == made.json()
    assert listed.items() >= {"status": "enabled", "weight": 100, "context_tokens": 4_096, "prompt_price": 0.5}.items()
    assert (listed["object"], listed["capabilities"]) == ("registry.model", ["json"])


def test_registering_again_changes_what_is_said(client: TestClient) -> None:
    register(client, owner="team-a")
    again = client.post("/v1/registry/models", json=LLAMA | {"weight": 7})
    assert again.status_code == 200
    assert (again.json()["weight"], again.json()["owner"]) == (7, "team-a")


def test_an_endpoint_that_does_not_answer_is_not_put_in(client: TestClient, endpoints: Endpoints) -> None:
    endpoints.down.add("serve://llama")
    refused = client.post("/v1/registry/models", json=LLAMA)
    assert message(refused, 400) == "endpoint: serve://llama is down"
    assert refused.json()["error"]["param"] == "endpoint"
    assert client.get("/v1/registry/models").json()["data"] == []
    assert register(client, check=False, engine="vllm")["status"] == "registered"


def test_a_version_is_disabled_enabled_and_weighed(client: TestClient, endpoints: Endpoints) -> None:
    register(client)
    register(client, version="2")
    version = {"model": "meta/llama", "version": "2"}

    def change(**said: Any) -> dict[str, Any]:
        response = client.patch("/v1/registry/models", json=version | said)
        assert response.status_code == 200, response.text
        entry: dict[str, Any] = response.json()
        return entry

    assert change(weight=20)["weight"] == 20
    assert change(status="disabled")["status"] == "disabled"
    endpoints.asked.clear()
    assert change(status="enabled", weight=5).items() >= {"status": "enabled", "weight": 5}.items()
    assert [entry.version for entry in endpoints.asked] == ["2"]
    change(status="disabled")
    endpoints.down.add("serve://llama")
    down = client.patch("/v1/registry/models", json=version | {"status": "enabled"})
    assert message(down, 400) == "endpoint: serve://llama is down"
    assert change(status="enabled", check=False)["status"] == "enabled"


def test_a_version_is_taken_out_and_its_history_stays(client: TestClient) -> None:
    register(client, why="first try")
    gone = client.delete("/v1/registry/models", params={"model": "meta/llama", "version": "1", "why": "no use"})
    assert gone.json()["deleted"] is True
    assert client.get("/v1/registry/models").json()["data"] == []
    rows = client.get("/v1/registry/history", params={"model": "meta/llama"}).json()["data"]
    assert [(row["who"], row["action"], row["why"]) for row in rows] == [
        ("ann", "deregister", "no use"),
        ("ann", "register", "first try"),
    ]
    assert rows[1]["before"] is None
    assert rows[1]["after"]["endpoint"] == "serve://llama"
    assert rows[1]["figures"]["checked"] == {"health": "fine"}


def test_listings_are_narrowed(client: TestClient) -> None:
    register(client)
    register(client, environment="staging")
    register(client, model="qwen")

    def listed(**asked: str) -> list[tuple[str, str]]:
        found = client.get("/v1/registry/models", params=asked).json()["data"]
        return [(one["model"], one["environment"]) for one in found]

    assert listed(environment="staging") == [("meta/llama", "staging")]
    assert len(listed(model="", environment="")) == 3
    assert listed(model="qwen") == [("qwen", "development")]
    assert len(client.get("/v1/registry/history", params={"limit": 2}).json()["data"]) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/registry/models"),
        ("POST", "/v1/registry/models"),
        ("PATCH", "/v1/registry/models"),
        ("DELETE", "/v1/registry/models?model=a&version=1"),
        ("GET", "/v1/registry/history"),
    ],
)
def test_only_operators_may_look_and_change(client: TestClient, method: str, path: str) -> None:
    refused = client.request(method, path, json=LLAMA, headers={"Authorization": "Bearer sk-user"})
    assert "role 'admin'" in message(refused, 403)
    unknown = client.request(method, path, json=LLAMA, headers={"Authorization": "Bearer sk-none"})
    assert "not known here" in message(unknown, 401)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"weight": 101}, "weight: Input should be less than or equal to 100 (got '101')"),
        ({"weight": -1}, "weight: Input should be greater than or equal to 0 (got '-1')"),
        ({"model": "auto"}, "model: 'auto' is the router's own name"),
        ({"model": "a@b"}, "model: must be 1 to 200 printable ASCII characters, without '@'"),
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"version": " 1"}, "version: must be 1 to 200 printable ASCII characters"),
        ({"version": "größer"}, "version: must be 1 to 200 printable ASCII characters"),
        ({"version": "1\n2"}, "version: must be 1 to 200 printable ASCII characters"),
        ({"model": "m" * 201}, "model: String should have at most 200 characters"),
        ({"environment": "prod"}, "environment: Input should be 'development', 'staging' or 'production'"),
        ({"endpoint": "llama:8000"}, "endpoint: give serve://APPLICATION, or http(s)://HOST"),
        ({"endpoint": "serve://"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "serve://a/b"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "ftp://host"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "http://"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "http://host:99999"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "http://ho st"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "http://[::1"}, "endpoint: give serve://APPLICATION"),
        ({"endpoint": "https://user:secret@host"}, "endpoint: holds a user or password"),
        ({"endpoint": "https://host/v1?key=1"}, "endpoint: has more than an address"),
        ({"endpoint": "https://host", "key_env": "DATABASE_URL"}, "key_env: must be an environment variable named"),
        ({"endpoint": "https://host", "key_env": "x_API_KEY"}, "key_env: must be an environment variable named"),
        ({"endpoint": "https://host", "key_env": "A_API_KEY\n"}, "key_env: must be an environment variable named"),
        ({"digest": "sha256:12"}, "digest: must be sha256: and 64 hexadecimal digits"),
        ({"prompt_price": -0.1}, "prompt_price: Input should be greater than or equal to 0"),
        ({"output_price": "much"}, "output_price: Input should be a valid number"),
        ({"context_tokens": 0}, "context_tokens: Input should be greater than 0"),
        ({"capabilities": ["flying"]}, "capabilities.0: Input should be 'tools', 'json', 'vision' or 'embeddings'"),
        ({"owner": "a\tb"}, "owner: must be printable characters"),
        ({"first_event_deadline_s": 0}, "first_event_deadline_s: Input should be greater than 0"),
        ({"why": "a\0b"}, "why: String should match pattern"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"weight": 0}, "weight: no enabled version of meta/llama in development would have a weight above 0"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(client: TestClient, said: dict[str, Any], sentence: str) -> None:
    assert sentence in message(client.post("/v1/registry/models", json=LLAMA | said), 400)
    assert client.get("/v1/registry/history").json()["data"] == []


JSON = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30)
)
VALUES = (
    JSON
    | st.lists(JSON, max_size=3)
    | st.sampled_from(["serve://a", "http://a", "vllm", "openai", "redacted", "tools"])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from([*Registration.model_fields, "status", "check", "why", "x"]), VALUES, max_size=8)
)
def test_whatever_is_sent_is_taken_or_refused_by_its_field(client: TestClient, said: dict[str, Any]) -> None:
    for method, body in (("POST", LLAMA | said), ("POST", said), ("PATCH", said)):
        response = client.request(method, "/v1/registry/models", json=body)
        assert response.status_code in (200, 201, 400, 404), response.text


def test_nothing_and_too_much_is_no_number(client: TestClient) -> None:
    for number in ("NaN", "1e999"):
        body = f'{{"model": "a", "version": "1", "endpoint": "serve://a", "prompt_price": {number}}}'
        assert client.post("/v1/registry/models", content=body).status_code == 400


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "say a `status` or a `weight`"),
        ({"status": "failed"}, "status: Input should be 'enabled' or 'disabled'"),
        ({"status": "disabled", "weight": 3}, "a disabled version takes no requests"),
        ({"weight": 300}, "weight: Input should be less than or equal to 100"),
        ({"weight": 0}, "weight: no enabled version of meta/llama"),
    ],
)
def test_a_change_that_cannot_be_is_refused(client: TestClient, said: dict[str, Any], sentence: str) -> None:
    register(client)
    version = {"model": "meta/llama", "version": "1"}
    assert sentence in message(client.patch("/v1/registry/models", json=version | said), 400)


def test_unknown_versions_and_models_name_those_there_are(client: TestClient) -> None:
    register(client)
    unknown = client.patch("/v1/registry/models", json={"model": "meta/llama", "version": "9", "weight": 1})
    assert message(unknown, 404) == "version: meta/llama has no version '9' in development; there are: 1"
    model = client.delete("/v1/registry/models", params={"model": "qwen", "version": "1"})
    assert message(model, 404) == "model: no model 'qwen' in development; there are: meta/llama"


def test_what_is_wrong_with_the_address_is_named(client: TestClient) -> None:
    environment = client.get("/v1/registry/models", params={"environment": "prod"})
    assert message(environment, 400).startswith("environment: ")
    assert message(client.delete("/v1/registry/models"), 400).startswith("model: ")
    assert message(client.get("/v1/registry/history", params={"limit": 0}), 400).startswith("limit: ")


def test_a_registry_whose_database_is_away_says_so(client: TestClient, store: MemoryRegistryStore) -> None:
    store.fail = True
    assert "database cannot be used" in message(client.get("/v1/registry/models"), 503)
    assert "database cannot be used" in message(client.post("/v1/registry/models", json=LLAMA), 503)


def test_the_endpoints_are_documented(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths["/v1/registry/models"]) == {"get", "post", "patch", "delete"}
    fields = paths["/v1/registry/models"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"model", "version", "endpoint", "weight", "check", "why"} <= set(fields)


def test_a_gateway_has_them_where_it_has_a_registry(store: MemoryRegistryStore) -> None:
    without = builders.gateway()
    key = {"Authorization": f"Bearer {builders.KEY}"}
    for gateway, status in ((without, 404), (replace(without, operations=Registry(store)), 403)):
        with TestClient(create_app(gateway)) as client:
            assert client.get("/v1/registry/models", headers=key).status_code == status
