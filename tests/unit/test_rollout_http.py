"""/v1/rollouts and /v1/deployment on the wire."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import InvalidRequest, Unavailable
from serve_app.http.deployment import application_of, check_of
from serve_app.http.rollouts_wire import rollout_object, rollout_of, standing_of
from serve_app.rollout.rollout import Rollout
from tests.unit.rollout_service import Service, entry, running

MODEL = "org/qwen"
PLACE = {"model": MODEL, "environment": "development"}


@pytest.fixture
def service() -> Iterator[Service]:
    async def judged(rollout: Rollout) -> dict[str, Any]:
        return {"of": rollout.id}

    with running(judge=judged) as made:
        made.put(entry("1"), entry("2", weight=0))
        yield made


def call(service: Service, method: str, path: str, key: str = "admin", **given: Any) -> httpx.Response:
    return httpx.request(method, service.url + path, headers={"Authorization": f"Bearer {key}"}, **given)


def started(service: Service, **changes: Any) -> dict[str, Any]:
    response = call(service, "POST", "/v1/rollouts", json={**PLACE, "to": "2", **changes})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


def act(service: Service, action: str, **given: Any) -> httpx.Response:
    return call(service, "POST", "/v1/rollouts/actions", json={**PLACE, "action": action, **given})


def test_a_rollout_starts_and_moves_weights(service: Service) -> None:
    body = started(service, steps=[10, 100], hold_s=5, why="try it")
    assert body["weights"] == {"1": 90, "2": 10}
    assert (body["rollout"]["percent"], body["rollout"]["started_by"]) == (10, "ann")
    assert service.weights() == {"1": 90, "2": 10}
    [row, *_] = asyncio.run(service.store.history())
    assert (row.who, row.why, row.action) == ("ann", "try it", "rollout-start")


def test_what_is_under_way_is_listed_with_what_its_gates_know(service: Service) -> None:
    rollout = started(service)["rollout"]
    [one] = call(service, "GET", "/v1/rollouts", params={"model": MODEL}).json()["data"]
    assert one["report"] == {"of": rollout["id"]}
    standing = standing_of(one)
    assert standing.rollout == rollout_of(rollout) == service.snapshot.rollouts[0]
    assert call(service, "GET", "/v1/rollouts", params={"model": "other"}).json()["data"] == []


def test_an_operator_pauses_resumes_and_promotes(service: Service) -> None:
    started(service)
    assert act(service, "pause", why="lunch").json()["rollout"]["state"] == "paused"
    assert act(service, "resume").json()["rollout"]["state"] == "running"
    assert act(service, "promote").json()["weights"] == {"1": 0, "2": 100}
    [ended] = call(service, "GET", "/v1/rollouts/history").json()["data"]
    assert (ended["state"], ended["to_version"]) == ("promoted", "2")


def test_a_rollback_puts_weights_back_and_may_name_a_version(service: Service) -> None:
    started(service)
    assert act(service, "rollback", why="slow").json()["weights"] == {"1": 100, "2": 0}
    body = act(service, "rollback", to="2").json()
    assert (body["weights"], body["rollout"]) == ({"1": 0, "2": 100}, None)


def test_a_rollback_without_a_rollout_goes_to_before_the_last_one(service: Service) -> None:
    started(service)
    act(service, "promote")
    assert act(service, "rollback").json()["weights"] == {"1": 100, "2": 0}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"to": "9"}, 404, "version: org/qwen has no version '9' in development; there are: 1, 2"),
        ({"to": "2", "model": "other"}, 404, "model: no model 'other' in development; there are: org/qwen"),
        ({"to": "2", "steps": [50, 10]}, 400, "steps: 50,10 do not rise"),
        ({"to": "2", "hold_s": -1}, 400, "hold_s: Input should be greater than or equal to 0"),
        ({"to": "2", "environment": "moon"}, 400, "environment: Input should be 'development', 'staging'"),
        ({}, 400, "to: Field required"),
        ({"to": "2", "speed": 3}, 400, "speed: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_with_a_rollout_is_one_sentence(
    service: Service, body: dict[str, Any], status: int, words: str
) -> None:
    response = call(service, "POST", "/v1/rollouts", json={**PLACE, **body})
    assert response.status_code == status
    assert response.json()["error"]["message"].startswith(words)
    assert service.weights() == {"1": 100, "2": 0}


@pytest.mark.parametrize("path", ["/v1/rollouts", "/v1/rollouts/history"])
def test_an_environment_that_is_none_is_named(service: Service, path: str) -> None:
    assert call(service, "GET", path, params={"environment": ""}).status_code == 200
    response = call(service, "GET", path, params={"environment": "moon"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "environment"


def test_two_rollouts_of_a_model_are_refused(service: Service) -> None:
    started(service)
    response = call(service, "POST", "/v1/rollouts", json={**PLACE, "to": "1"})
    assert response.status_code == 409
    assert "has a rollout to version 2 under way" in response.json()["error"]["message"]


def test_only_a_rollback_names_a_version(service: Service) -> None:
    started(service)
    response = act(service, "promote", to="1")
    assert (response.status_code, response.json()["error"]["message"][:4]) == (400, "to: ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/rollouts"),
        ("POST", "/v1/rollouts"),
        ("POST", "/v1/rollouts/actions"),
        ("GET", "/v1/rollouts/history"),
        ("GET", "/v1/deployment"),
        ("POST", "/v1/deployment/checks"),
    ],
)
@pytest.mark.parametrize(("key", "status"), [("user", 403), ("nobody", 401)])
def test_operators_alone_pass(service: Service, method: str, path: str, key: str, status: int) -> None:
    response = call(service, method, path, key)
    assert response.status_code == status
    assert status != 403 or "need a key with the role 'admin'" in response.json()["error"]["message"]


def test_a_gateway_says_what_runs_behind_it(service: Service) -> None:
    service.circuits = {"org/qwen@1": "open"}
    body = call(service, "GET", "/v1/deployment").json()
    assert (body["environment"], body["registry"]) == (
        "development",
        {"revision": 1, "age_s": 0.5, "is_stale": False},
    )
    assert tuple(map(application_of, body["applications"])) == service.applications
    assert body["circuits"] == {"org/qwen@1": "open"}


def test_a_controller_that_is_away_is_a_sentence(service: Service) -> None:
    service.serve_fails = Unavailable("Ray Serve's controller does not answer")
    response = call(service, "GET", "/v1/deployment")
    assert (response.status_code, response.json()["error"]["message"]) == (
        503,
        "Ray Serve's controller does not answer",
    )


def test_an_endpoint_is_tested_from_the_gateway(service: Service) -> None:
    body = call(service, "POST", "/v1/deployment/checks", json={**PLACE, "version": "1"}).json()
    assert check_of(body).steps == {"health": "is RUNNING", "completion": "2 tokens"}
    service.check_fails = InvalidRequest("endpoint: serve://qwen-1 does not answer")
    response = call(service, "POST", "/v1/deployment/checks", json={**PLACE, "version": "1"})
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        "endpoint: serve://qwen-1 does not answer",
    )


def test_an_endpoint_that_is_not_registered_is_not_tested(service: Service) -> None:
    response = call(service, "POST", "/v1/deployment/checks", json={**PLACE, "version": "9"})
    assert response.status_code == 404
    assert "org/qwen@9 is not registered in development" in response.json()["error"]["message"]


rollouts = st.builds(
    Rollout,
    id=st.text(),
    model=st.text(),
    environment=st.sampled_from(["development", "staging", "production"]),
    to_version=st.text(),
    before=st.dictionaries(st.text(), st.integers(0, 100)),
    steps=st.lists(st.integers(1, 100), max_size=5, unique=True).map(sorted).map(tuple),
    state=st.sampled_from(["running", "paused", "promoted", "rolled_back"]),
    ended_at=st.none() | st.floats(0, 2e9),
    figures=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
)


@given(rollouts)
def test_a_rollout_is_read_back_as_it_was_written(rollout: Rollout) -> None:
    written = json.loads(json.dumps({**rollout_object(rollout), "of a later version": 1}))
    assert rollout_of(written) == rollout
