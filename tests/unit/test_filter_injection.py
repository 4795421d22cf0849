"""A filter is data: whatever stands in it, a search on Milvus finds nothing that the caller may not see, and never
fails in a way that is not the filter's."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.requests import Request

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.milvus import MilvusIndex
from serve_app.filters import COMPARATORS, JUNCTIONS
from serve_app.http import errors
from serve_app.http.files import files_router
from serve_app.http.vector_stores import vector_stores_router
from serve_app.library import Library
from serve_app.settings import MilvusSettings, RetrieverSettings
from serve_app.sight import FIELDS
from serve_app.turn import Caller
from tests.unit.documents import InlineParser, bag_of_words

pytestmark = pytest.mark.milvus

CALLERS = {"ann": Caller("ann", "k1"), "legal": Caller("ann", "k2", groups=("legal",)), "bob": Caller("bob", "k3")}
DOCUMENTS = {
    "open.md": ("legal", {"team": "red", "year": 2024}),
    "secret.md": ("legal", {"team": "red", "access": "legal"}),
    "expired.md": ("legal", {"team": "red", "consent_purposes": "retrieval", "consent_until": "2020-01-01"}),
    "theirs.md": ("bob", {"team": "red"}),
}
"""Who brings which, and with which attributes."""
SEEN = {"ann": {"open.md"}, "legal": {"open.md", "secret.md"}, "bob": {"theirs.md"}}
PAYLOADS = [
    '"',
    "\\",
    '\\"',
    '" or "" == "',
    '" or tenant != "',
    '" || tenant == "bob',
    'x"] or tenant == "bob" or $meta["x',
    'team"] like "%" or $meta["team',
    "') or true or ('",
    'red" and access == "',
    "{tenant}",
    "$meta",
    "tenant",
    "access",
    "%",
    "_",
    "a\nor tenant != 'x'",
    "\u2028 or 1 == 1",
    "\x00",
    "\u202e",
    "team /* ",
    "-- ",
    "[1,2]",
    "json_contains",
    "red\\",
    "\ud800",
    "\udc00\ud800",
    "\uff02 or 1 == 1",
]


def authenticate(request: Request) -> Caller:
    return CALLERS[request.headers["authorization"].removeprefix("Bearer ")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("injection")
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{folder}/catalog.db", files_path=str(folder / "files")
    )
    index = MilvusIndex(MilvusSettings(uri=f"{folder}/milvus.db"), 384)
    library = Library(Catalog(settings.catalog_url), index, bag_of_words, settings, InlineParser())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await library.open()
        yield
        await library.close()
        await index.close()

    app = FastAPI(lifespan=lifespan)
    errors.install(app)
    app.include_router(files_router(library, authenticate))
    app.include_router(vector_stores_router(library, authenticate, library.search, bag_of_words))
    with TestClient(app, base_url="http://manta.test", raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def stores(client: TestClient) -> dict[str, str]:
    """The store of each caller, filled."""
    made = {who: post(client, who, "/v1/vector_stores", {"name": "s"})["id"] for who in ("legal", "bob")}
    for name, (who, attributes) in DOCUMENTS.items():
        file = client.post(
            "/v1/files",
            headers=key(who),
            files={"file": (name, f"# Plan\n\nThe plan of {name}.".encode())},
            data={"purpose": "assistants"},
        ).json()
        path = f"/v1/vector_stores/{made[who]}/files"
        post(client, who, path, {"file_id": file["id"], "attributes": attributes})
        while client.get(f"{path}/{file['id']}", headers=key(who)).json()["status"] == "in_progress":
            pass
    return {"ann": made["legal"], **made}


def key(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {who}"}


def post(client: TestClient, who: str, path: str, body: object) -> Any:
    answer = client.post(path, headers=key(who), content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def search(client: TestClient, who: str, store_id: str, filters: object) -> tuple[int, set[str]]:
    """Status and what was found. The body is written by hand: JSON can spell halves of surrogate pairs."""
    body = json.dumps({"query": "the plan", "filters": filters, "max_num_results": 50})
    answer = client.post(f"/v1/vector_stores/{store_id}/search", headers=key(who), content=body)
    found = answer.json().get("data", []) if answer.status_code == 200 else []
    assert answer.status_code == 200 or answer.json()["error"]["message"]
    return answer.status_code, {one["filename"] for one in found}


def test_without_a_filter_everybody_sees_their_own(client: TestClient, stores: dict[str, str]) -> None:
    assert {who: search(client, who, store, None)[1] for who, store in stores.items()} == SEEN


def test_a_filter_that_holds_finds_what_it_says(client: TestClient, stores: dict[str, str]) -> None:
    red = {"type": "eq", "key": "team", "value": "red"}
    assert {who: search(client, who, store, red)[1] for who, store in stores.items()} == SEEN


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
@pytest.mark.parametrize("comparator", ["eq", "ne", "gt", "lte", "in", "nin"])
def test_a_payload_opens_nothing(client: TestClient, stores: dict[str, str], payload: str, comparator: str) -> None:
    value = [payload] if comparator in ("in", "nin") else payload
    for filters in (
        {"type": comparator, "key": "team", "value": value},
        {"type": comparator, "key": payload, "value": value},
    ):
        status, found = search(client, "ann", stores["ann"], filters)
        assert status in (200, 400)
        assert found <= SEEN["ann"]


TEXT = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(PAYLOADS)
PIECES = st.lists(st.sampled_from([*PAYLOADS, "team", "red", " or ", " and ", "==", "(", ")", "]", "["]), max_size=6)
STRANGE = TEXT | PIECES.map("".join)
SCALAR = STRANGE | st.integers() | st.floats() | st.booleans() | st.none()
LEAF = st.fixed_dictionaries(
    {"type": st.sampled_from(COMPARATORS) | STRANGE, "key": STRANGE, "value": SCALAR | st.lists(SCALAR, max_size=3)}
)
FILTER = st.recursive(
    LEAF,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(JUNCTIONS), "filters": st.lists(inner, max_size=3) | STRANGE}
    ),
    max_leaves=6,
)
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRANGE, inner, max_size=3))


@given(who=st.sampled_from(sorted(SEEN)), filters=FILTER)
@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(who="ann", filters={"type": "or", "filters": [{"type": "ne", "key": "tenant", "value": "x"}]})
@example(who="ann", filters={"type": "ne", "key": "access", "value": "x"})
@example(who="ann", filters={"type": "lt", "key": "until", "value": 2**62})
def test_any_filter_finds_only_what_the_caller_may_see(
    client: TestClient, stores: dict[str, str], who: str, filters: object
) -> None:
    status, found = search(client, who, stores[who], filters)
    assert status in (200, 400)
    assert found <= SEEN[who]


@given(filters=JSON)
@hypothesis_settings(max_examples=100)
def test_anything_in_the_place_of_a_filter_is_a_filter_or_refused(
    client: TestClient, stores: dict[str, str], filters: object
) -> None:
    status, found = search(client, "ann", stores["ann"], filters)
    assert status in (200, 400)
    assert found <= SEEN["ann"]


@given(query=STRANGE.filter(bool))
@hypothesis_settings(max_examples=100)
def test_any_question_finds_only_what_the_caller_may_see(
    client: TestClient, stores: dict[str, str], query: str
) -> None:
    answer = client.post(
        f"/v1/vector_stores/{stores['ann']}/search", headers=key("ann"), content=json.dumps({"query": query})
    )
    assert answer.status_code in (200, 400)
    assert {one["filename"] for one in answer.json().get("data", [])} <= SEEN["ann"]


@pytest.mark.parametrize("store", ["of bob", '"] or store != ["', "%22%5D%20or%20tenant%20!=%20%22", "..%2F..", "*"])
def test_a_store_of_another_tenant_is_none(client: TestClient, stores: dict[str, str], store: str) -> None:
    path = f"/v1/vector_stores/{stores['bob'] if store == 'of bob' else store}/search"
    assert client.post(path, headers=key("ann"), content=b'{"query": "plan"}').status_code == 404


@given(name=STRANGE.filter(lambda name: name and name not in FIELDS), value=TEXT)
@hypothesis_settings(max_examples=20)
def test_attributes_of_any_name_and_value_are_found_by_themselves_or_refused(
    client: TestClient, stores: dict[str, str], name: str, value: str
) -> None:
    """What is stored under a strange name is found under it, and by nobody else."""
    files = client.get(f"/v1/vector_stores/{stores['bob']}/files", headers=key("bob")).json()["data"]
    path = f"/v1/vector_stores/{stores['bob']}/files/{files[0]['id']}"
    told = client.post(path, headers=key("bob"), content=json.dumps({"attributes": {name: value}}))
    assert told.status_code in (200, 400)
    while client.get(path, headers=key("bob")).json()["status"] == "in_progress":
        pass
    if told.status_code == 200 and client.get(path, headers=key("bob")).json()["status"] == "completed":
        filters = {"type": "eq", "key": name, "value": value}
        assert search(client, "bob", stores["bob"], filters) == (200, {"theirs.md"})
        assert search(client, "ann", stores["ann"], filters)[1] <= SEEN["ann"]
