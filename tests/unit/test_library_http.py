from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openai.types import StaticFileChunkingStrategyParam

from tests.unit.documents import library_app

Attempt = Callable[[openai.OpenAI, str, str], object]
MOST_BYTES = 20_000


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return library_app(tmp_path, MOST_BYTES)


@pytest.fixture
def transport(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://manta.test/v1/") as transport:
        yield transport


@pytest.fixture
def ann(transport: TestClient) -> openai.OpenAI:
    return openai.OpenAI(api_key="ann", base_url="http://manta.test/v1", http_client=transport, max_retries=0)


@pytest.fixture
def bob(transport: TestClient) -> openai.OpenAI:
    return openai.OpenAI(api_key="bob", base_url="http://manta.test/v1", http_client=transport, max_retries=0)


def ingest(client: openai.OpenAI, store_id: str, name: str, content: bytes) -> str:
    file = client.files.create(file=(name, content), purpose="assistants")
    return client.vector_stores.files.create_and_poll(file.id, vector_store_id=store_id, poll_interval_ms=10).id


def static(most: int, overlap: int) -> StaticFileChunkingStrategyParam:
    return {"max_chunk_size_tokens": most, "chunk_overlap_tokens": overlap}


def texts(client: openai.OpenAI, store_id: str, query: str) -> list[str]:
    found = client.vector_stores.search(store_id, query=query)
    return [part.text for result in found for part in result.content]


def test_an_uploaded_file_comes_back_byte_for_byte(ann: openai.OpenAI) -> None:
    file = ann.files.create(file=("notes.md", b"# Notes\n\nBlue."), purpose="assistants")
    assert (file.filename, file.bytes, file.purpose) == ("notes.md", 14, "assistants")
    assert ann.files.content(file.id).read() == b"# Notes\n\nBlue."
    assert ann.files.retrieve(file.id) == file
    assert [listed.id for listed in ann.files.list()] == [file.id]


def test_a_deleted_file_is_found_no_more(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    file_id = ingest(ann, store.id, "notes.md", b"# Notes\n\nThe sky is blue.")
    assert ann.files.delete(file_id).deleted
    assert texts(ann, store.id, "sky blue") == []
    with pytest.raises(openai.NotFoundError):
        ann.files.retrieve(file_id)


def test_a_name_that_points_elsewhere_is_only_a_name(ann: openai.OpenAI, tmp_path: Path) -> None:
    file = ann.files.create(file=("../../escape.md", b"# T\n\nx"), purpose="assistants")
    assert file.filename == "../../escape.md"
    assert not list(tmp_path.parent.rglob("escape.md"))


def test_an_upload_over_the_limit_is_refused(ann: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        ann.files.create(file=("big.txt", b"x" * (MOST_BYTES + 1)), purpose="assistants")
    assert refused.value.status_code == 413
    with pytest.raises(openai.APIStatusError) as refused:
        ann.files.create(file=("bigger.txt", b"x" * 10 * MOST_BYTES), purpose="assistants")
    assert refused.value.status_code == 413


def test_a_body_that_is_no_form_names_the_fields(transport: TestClient) -> None:
    answer = transport.post("files", headers={"Authorization": "Bearer ann"}, content=b"x")
    assert answer.status_code == 400
    assert "`file` and `purpose`" in answer.json()["error"]["message"]


def test_an_unknown_purpose_names_the_known_ones(ann: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose: 'fun' is not one of assistants") as refused:
        ann.files.create(file=("a.md", b"x"), purpose="fun")  # type: ignore[arg-type]
    assert refused.value.param == "purpose"


def test_without_a_key_nothing_is_told(transport: TestClient) -> None:
    assert transport.get("files").status_code == 401
    assert transport.get("vector_stores").status_code == 401


def test_a_store_has_openais_shape_and_counts_its_files(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="manuals", metadata={"team": "blue"})
    ingest(ann, store.id, "a.md", b"# A\n\nAlpha.")
    seen = ann.vector_stores.retrieve(store.id)
    assert (seen.object, seen.name, seen.status, seen.metadata) == (
        "vector_store",
        "manuals",
        "completed",
        {"team": "blue"},
    )
    assert (seen.file_counts.completed, seen.file_counts.total, seen.usage_bytes) == (1, 1, 11)


def test_a_store_can_be_renamed_and_deleted(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="old")
    assert ann.vector_stores.update(store.id, name="new", metadata={"a": "b"}).name == "new"
    assert ann.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        ann.vector_stores.retrieve(store.id)


def test_the_default_store_is_one_store(ann: openai.OpenAI) -> None:
    assert ann.vector_stores.create(name="default").id == ann.vector_stores.create(name="default").id
    with pytest.raises(openai.ConflictError):
        ann.vector_stores.update(ann.vector_stores.create(name="other").id, name="default")


def test_stores_are_listed_page_by_page(ann: openai.OpenAI) -> None:
    made = [ann.vector_stores.create(name=f"s{number}").id for number in range(5)]
    assert [store.id for store in ann.vector_stores.list(limit=2, order="asc")] == made
    assert [store.id for store in ann.vector_stores.list(limit=3)] == made[::-1]


def test_an_ingested_file_is_searched_with_its_place(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    content = b"# Operations\n\nIntro.\n\n## Rollback\n\nSet the weight of the old model to one."
    file_id = ingest(ann, store.id, "docs/ops.md", content)
    best = next(iter(ann.vector_stores.search(store.id, query="rollback weight of the old model", max_num_results=1)))
    assert (best.file_id, best.filename) == (file_id, "docs/ops.md")
    assert best.content[0].text == "Set the weight of the old model to one."
    assert (best.model_extra or {})["heading"] == "Operations > Rollback"
    assert 0 < best.score <= 1


def test_a_search_is_narrowed_by_attributes(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    for team in ("red", "blue"):
        file = ann.files.create(file=(f"{team}.md", f"# T\n\nThe {team} plan.".encode()), purpose="assistants")
        ann.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes={"team": team}, poll_interval_ms=10
        )
    found = ann.vector_stores.search(store.id, query="plan", filters={"type": "eq", "key": "team", "value": "blue"})
    assert [result.attributes for result in found] == [{"team": "blue"}]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda bob, store, file: bob.files.retrieve(file),
        lambda bob, store, file: bob.files.content(file),
        lambda bob, store, file: bob.files.delete(file),
        lambda bob, store, file: bob.vector_stores.retrieve(store),
        lambda bob, store, file: bob.vector_stores.update(store, name="mine"),
        lambda bob, store, file: bob.vector_stores.delete(store),
        lambda bob, store, file: bob.vector_stores.search(store, query="secret"),
        lambda bob, store, file: bob.vector_stores.files.list(store),
        lambda bob, store, file: bob.vector_stores.files.create(vector_store_id=store, file_id=file),
        lambda bob, store, file: bob.vector_stores.files.delete(file, vector_store_id=store),
        lambda bob, store, file: bob.vector_stores.file_batches.create(store, file_ids=[file]),
    ],
)
def test_what_is_anothers_is_not_found(ann: openai.OpenAI, bob: openai.OpenAI, attempt: Attempt) -> None:
    store = ann.vector_stores.create(name="s")
    file_id = ingest(ann, store.id, "a.md", b"# A\n\nSecret.")
    with pytest.raises(openai.NotFoundError):
        attempt(bob, store.id, file_id)
    assert texts(ann, store.id, "secret") == ["Secret."]


def test_another_tenants_lists_are_empty(ann: openai.OpenAI, bob: openai.OpenAI) -> None:
    ingest(ann, ann.vector_stores.create(name="s").id, "a.md", b"# A\n\nSecret.")
    assert (list(bob.files.list()), list(bob.vector_stores.list())) == ([], [])


def test_a_refused_document_says_why_and_hurts_no_other(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    files = [("good.md", b"# G\n\nGood."), ("empty.md", b" "), ("program.exe", b"MZ")]
    batch = ann.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=10)
    assert (batch.file_counts.completed, batch.file_counts.failed) == (1, 2)
    failed = ann.vector_stores.files.list(store.id, filter="failed", order="asc").data
    told = [file.last_error for file in failed if file.last_error]
    assert {error.code for error in told} == {"invalid_file", "unsupported_file"}
    assert "the file is empty" in {error.message for error in told}


def test_a_batch_lists_its_own_files(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    ingest(ann, store.id, "other.md", b"# O\n\nOther.")
    batch = ann.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("a.md", b"# A\n\nAlpha."), ("b.md", b"# B\n\nBeta.")], poll_interval_ms=10
    )
    assert batch.status == "completed"
    assert len(ann.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id).data) == 2


def test_a_file_says_how_many_chunks_it_became(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    file_id = ingest(ann, store.id, "a.md", b"# A\n\nAlpha.\n\n## B\n\nBeta.")
    attached = ann.vector_stores.files.retrieve(file_id, vector_store_id=store.id)
    assert (attached.model_extra or {})["chunk_count"] == 2


def test_a_detached_file_leaves_the_store_but_stays_a_file(ann: openai.OpenAI) -> None:
    store = ann.vector_stores.create(name="s")
    file_id = ingest(ann, store.id, "a.md", b"# A\n\nAlpha.")
    assert ann.vector_stores.files.delete(file_id, vector_store_id=store.id).deleted
    assert texts(ann, store.id, "alpha") == []
    assert ann.files.retrieve(file_id).id == file_id


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": 3}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"chunking_strategy": {"type": "static"}}, "chunking_strategy"),
        ({"chunking_strategy": {"type": "auto", "static": static(800, 400)}}, "chunking_strategy"),
        ({"chunking_strategy": {"type": "static", "static": static(99, 0)}}, "chunking_strategy.static.max_chunk"),
        ({"chunking_strategy": {"type": "static", "static": static(800, 401)}}, "chunking_strategy.static"),
    ],
)
def test_a_wrong_field_is_named(transport: TestClient, body: dict[str, object], field: str) -> None:
    answer = transport.post("vector_stores", headers={"Authorization": "Bearer ann"}, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(field)


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("files?limit=0", "limit"),
        ("vector_stores?order=sideways", "order"),
        ("vector_stores/x/files?filter=odd", "filter"),
    ],
)
def test_a_wrong_parameter_is_named(transport: TestClient, address: str, field: str) -> None:
    answer = transport.get(address, headers={"Authorization": "Bearer ann"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
