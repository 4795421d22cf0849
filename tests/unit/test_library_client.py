"""Each method of the official client for files and vector stores, over the document endpoints."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fastapi.testclient import TestClient
from openai.types import VectorStore
from openai.types.shared_params import ComparisonFilter, CompoundFilter

from tests.unit.documents import library_app, presentation

MOST_BYTES = 200_000


@pytest.fixture
def client(tmp_path: Path) -> Iterator[openai.OpenAI]:
    with TestClient(library_app(tmp_path, MOST_BYTES), base_url="http://manta.test/v1/") as transport:
        yield openai.OpenAI(api_key="ann", base_url="http://manta.test/v1", http_client=transport, max_retries=0)


@pytest.fixture
def store(client: openai.OpenAI) -> VectorStore:
    return client.vector_stores.create(name="s")


@pytest.fixture
def filled(client: openai.OpenAI, store: VectorStore) -> VectorStore:
    for team, year in (("red", 2023), ("blue", 2024), ("green", 2025)):
        file = client.files.create(file=(f"{team}.md", f"# T\n\nThe {team} plan.".encode()), purpose="assistants")
        client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes={"team": team, "year": year}, poll_interval_ms=10
        )
    return store


def test_a_file_is_uploaded_and_followed_in_one_call(client: openai.OpenAI, store: VectorStore) -> None:
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.md", b"# A\n\nAlpha."), poll_interval_ms=10
    )
    assert (attached.status, attached.last_error, attached.vector_store_id) == ("completed", None, store.id)


def test_a_file_is_uploaded_without_being_followed(client: openai.OpenAI, store: VectorStore) -> None:
    attached = client.vector_stores.files.upload(vector_store_id=store.id, file=("a.md", b"# A\n\nAlpha."))
    followed = client.vector_stores.files.poll(attached.id, vector_store_id=store.id, poll_interval_ms=10)
    assert followed.status == "completed"


@pytest.mark.parametrize(
    ("name", "content", "query", "expected"),
    [
        ("talk.pptx", presentation(), "stop traffic", "Stop traffic\n- Tell the users"),
        ("prices.csv", b"what,price\ntea,3\nmilk,2\n", "milk", "| what | price |\n| tea | 3 |\n| milk | 2 |"),
        ("main.py", b"def start():\n    return 1\n", "start", "```python\ndef start():\n    return 1\n```"),
    ],
)
def test_every_kind_of_file_is_found(
    client: openai.OpenAI, store: VectorStore, name: str, content: bytes, query: str, expected: str
) -> None:
    client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(name, content), poll_interval_ms=10)
    best = client.vector_stores.search(store.id, query=query).data[0]
    assert best.filename == name
    assert best.content[0].text.startswith(expected)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.pptx", b"PK\x03\x04 broken", "the presentation is damaged"),
        ("a.pptx", b"\xd0\xcf\x11\xe0" + bytes(600), "protected by a password"),
        ("a.csv", b'a,b\n1,"' + b"x" * (MOST_BYTES - 100), "quotes must be closed"),
        ("a.csv", b"\x00" * 100, "binary"),
        ("a.py", b"\x7fELF" + bytes(100), "a program"),
    ],
)
def test_a_bad_file_of_a_new_kind_leaves_the_store_as_it_was(
    client: openai.OpenAI, filled: VectorStore, name: str, content: bytes, reason: str
) -> None:
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=filled.id, file=(name, content), poll_interval_ms=10
    )
    assert attached.status == "failed"
    assert attached.last_error is not None
    assert reason in attached.last_error.message
    assert len(client.vector_stores.search(filled.id, query="plan").data) == 3


def test_sizes_of_chunks_are_taken_and_told(client: openai.OpenAI) -> None:
    file = client.files.create(file=("a.md", b"# A\n\nAlpha."), purpose="assistants")
    store = client.vector_stores.create(
        file_ids=[file.id],
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}},
    )
    attached = client.vector_stores.files.poll(file.id, vector_store_id=store.id, poll_interval_ms=10)
    assert attached.status == "completed"
    assert attached.chunking_strategy is not None
    assert attached.chunking_strategy.to_dict() == {
        "type": "static",
        "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
    }
    again = client.vector_stores.files.create(
        vector_store_id=client.vector_stores.create().id, file_id=file.id, chunking_strategy={"type": "auto"}
    )
    assert again.id == file.id


def test_an_expiry_that_is_not_kept_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="a file is kept until it is deleted"):
        client.files.create(
            file=("a.md", b"x"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
        )
    assert list(client.files.list()) == []


def test_attributes_of_a_file_are_changed(client: openai.OpenAI, filled: VectorStore) -> None:
    file = client.vector_stores.files.list(filled.id, order="asc").data[0]
    client.vector_stores.files.update(file.id, vector_store_id=filled.id, attributes={"team": "violet"})
    assert client.vector_stores.files.poll(file.id, vector_store_id=filled.id, poll_interval_ms=10).attributes == {
        "team": "violet"
    }
    wanted: ComparisonFilter = {"type": "eq", "key": "team", "value": "violet"}
    assert [one.file_id for one in client.vector_stores.search(filled.id, query="plan", filters=wanted)] == [file.id]


def test_files_are_listed_by_status_and_page_by_page(client: openai.OpenAI, filled: VectorStore) -> None:
    client.vector_stores.files.upload_and_poll(vector_store_id=filled.id, file=("e.md", b" "), poll_interval_ms=10)
    assert len(list(client.vector_stores.files.list(filled.id, limit=2))) == 4
    assert len(list(client.vector_stores.files.list(filled.id, filter="failed"))) == 1
    first = client.vector_stores.files.list(filled.id, limit=1, order="asc").data[0]
    assert len(list(client.vector_stores.files.list(filled.id, after=first.id, order="asc"))) == 3
    assert list(client.files.list(purpose="batch")) == []


YEAR: ComparisonFilter = {"type": "gte", "key": "year", "value": 2024}
RED: ComparisonFilter = {"type": "eq", "key": "team", "value": "red"}
OLD_OR_RED: CompoundFilter = {"type": "or", "filters": [{"type": "lt", "key": "year", "value": 2024}, RED]}
BOTH: CompoundFilter = {"type": "and", "filters": [YEAR, {"type": "ne", "key": "team", "value": "green"}]}


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (YEAR, {"blue.md", "green.md"}),
        (OLD_OR_RED, {"red.md"}),
        (BOTH, {"blue.md"}),
        ({"type": "in", "key": "team", "value": ["red", "green"]}, {"red.md", "green.md"}),
        ({"type": "nin", "key": "team", "value": ["red"]}, {"blue.md", "green.md"}),
    ],
)
def test_a_search_takes_every_filter(
    client: openai.OpenAI, filled: VectorStore, filters: ComparisonFilter, found: set[str]
) -> None:
    results = client.vector_stores.search(filled.id, query="plan", filters=filters)
    assert {result.filename for result in results} == found


@pytest.mark.parametrize(
    "filters",
    [
        {"type": "eq", "key": 'team"] == "x" or tenant != "', "value": "x"},
        {"type": "eq", "key": "team", "value": '" or tenant != "'},
    ],
)
def test_a_filter_that_would_break_out_finds_nothing(
    client: openai.OpenAI, filled: VectorStore, filters: ComparisonFilter
) -> None:
    assert client.vector_stores.search(filled.id, query="plan", filters=filters).data == []


@pytest.mark.parametrize(
    "filters",
    [
        {"type": "like", "key": "team", "value": "x"},
        {"type": "eq", "key": "team"},
        {"type": "and", "filters": []},
        {"type": "in", "key": "team", "value": "red"},
        {"type": "eq", "key": "team", "value": {"$gt": ""}},
    ],
)
def test_a_filter_that_is_none_is_refused(
    client: openai.OpenAI, filled: VectorStore, filters: ComparisonFilter
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.vector_stores.search(filled.id, query="plan", filters=filters)
    assert str(refused.value.param).startswith("filters")


def test_a_search_is_bounded_by_number_and_score(client: openai.OpenAI, filled: VectorStore) -> None:
    everything = client.vector_stores.search(filled.id, query="the blue plan", rewrite_query=True).data
    assert len(everything) == 3
    assert len(client.vector_stores.search(filled.id, query="the blue plan", max_num_results=2).data) == 2
    above = client.vector_stores.search(
        filled.id, query="the blue plan", ranking_options={"ranker": "auto", "score_threshold": everything[0].score}
    ).data
    assert {result.score for result in above} == {everything[0].score}
    assert len(above) < 3


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("max_num_results", {"max_num_results": 51}),
        ("max_num_results", {"max_num_results": 0}),
        ("ranking_options.score_threshold", {"ranking_options": {"score_threshold": 1.1}}),
        ("ranking_options.ranker", {"ranking_options": {"ranker": "best"}}),
        ("query", {"query": ""}),
    ],
)
def test_a_wrong_search_names_the_field(
    client: openai.OpenAI, filled: VectorStore, field: str, asked: dict[str, object]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.vector_stores.search(filled.id, query="plan", extra_body=asked)
    assert str(refused.value.param).startswith(field)


def test_several_questions_find_each_passage_once(client: openai.OpenAI, filled: VectorStore) -> None:
    page = client.vector_stores.search(filled.id, query=["the blue plan", "the red plan"], max_num_results=10)
    assert sorted(result.filename for result in page) == ["blue.md", "green.md", "red.md"]


def test_a_batch_has_attributes_and_is_followed_and_listed(client: openai.OpenAI, store: VectorStore) -> None:
    files = [
        client.files.create(file=(f"{name}.md", f"# {name}\n\nText {name}.".encode()), purpose="assistants")
        for name in "ab"
    ]
    batch = client.vector_stores.file_batches.create_and_poll(
        store.id, file_ids=[file.id for file in files], attributes={"team": "red"}, poll_interval_ms=10
    )
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    assert client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id) == batch
    listed = list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=1))
    assert [file.attributes for file in listed] == [{"team": "red"}] * 2
    assert client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed").data == []


def test_a_batch_of_open_files_is_uploaded(client: openai.OpenAI, store: VectorStore) -> None:
    opened = io.BytesIO(b"# A\n\nAlpha.")
    opened.name = "a.md"
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id,
        files=[opened],
        file_ids=[client.files.create(file=("b.md", b"# B\n\nBeta."), purpose="assistants").id],
        poll_interval_ms=10,
    )
    assert batch.file_counts.completed == 2


def test_a_batch_is_cancelled(client: openai.OpenAI, store: VectorStore) -> None:
    file = client.files.create(file=("a.md", b"# A\n\nAlpha."), purpose="assistants")
    batch = client.vector_stores.file_batches.create(store.id, file_ids=[file.id])
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    # the file may have been done before it could be cancelled
    assert cancelled.file_counts.in_progress == 0
    assert cancelled.status in {"cancelled", "completed"}
    followed = client.vector_stores.files.poll(file.id, vector_store_id=store.id, poll_interval_ms=10)
    assert (followed.status == "cancelled") == (cancelled.status == "cancelled")


@pytest.mark.parametrize("wanted", [{"file_ids": []}, {"file_ids": ["file-none"]}])
def test_a_batch_without_files_is_refused(
    client: openai.OpenAI, store: VectorStore, wanted: dict[str, list[str]]
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.vector_stores.file_batches.create(store.id, file_ids=wanted["file_ids"])
    assert refused.value.status_code in {400, 404}


def test_stores_are_paged_in_both_directions(client: openai.OpenAI) -> None:
    made = [client.vector_stores.create(name=name).id for name in "abc"]
    assert [store.id for store in client.vector_stores.list(before=made[2], order="asc")] == made[:2]
    assert [store.id for store in client.vector_stores.list(after=made[0], order="asc")] == made[1:]


def test_a_store_and_a_file_deleted_are_found_no_more(client: openai.OpenAI, filled: VectorStore) -> None:
    file = client.vector_stores.files.list(filled.id).data[0]
    assert client.vector_stores.files.delete(file.id, vector_store_id=filled.id).deleted
    assert client.files.delete(file.id).deleted
    assert client.vector_stores.delete(filled.id).deleted
    for attempt in (
        lambda: client.files.content(file.id),
        lambda: client.vector_stores.retrieve(filled.id),
        lambda: client.vector_stores.search(filled.id, query="plan"),
        lambda: client.vector_stores.files.list(filled.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()


def test_a_playbook_store_is_looked_up_by_name_first_and_gives_whole_entries(client: openai.OpenAI) -> None:
    play = client.vector_stores.create(name="play", metadata={"kind": "playbook"})
    back = "Stop the traffic. " * 20 + "\n\n" + "Switch the alias back. " * 20
    lines = [{"name": "Roll back", "text": back}, {"name": "Greeting", "text": "Say how you help: roll back or out."}]
    for name, content in (("p.jsonl", "\n".join(map(json.dumps, lines))), ("Paging.md", "Call who is on duty.")):
        client.vector_stores.files.upload_and_poll(
            vector_store_id=play.id, file=(name, content.encode()), poll_interval_ms=10
        )
    found = client.vector_stores.search(play.id, query=" roll  BACK ").data
    assert [one.attributes and one.attributes["name"] for one in found][:2] == ["Roll back", "Greeting"]
    assert found[0].score == 1
    assert found[0].content[0].text.split() == back.split()
    named = {"type": "eq", "key": "playbook_name", "value": "paging"}
    assert [
        one.attributes and one.attributes["name"]
        for one in client.vector_stores.search(play.id, query="x", filters=named).data
    ] == ["Paging"]  # type: ignore[arg-type]


def test_a_store_is_described_and_ends_when_it_is_not_used(client: openai.OpenAI) -> None:
    made = client.vector_stores.create(
        name="s", description="Manuals of 2026", expires_after={"anchor": "last_active_at", "days": 7}
    )
    assert (made.model_extra or {})["description"] == "Manuals of 2026"
    assert made.expires_after is not None
    assert (made.expires_after.days, made.status) == (7, "completed")
    assert made.expires_at == (made.last_active_at or 0) + 7 * 86_400
    assert client.vector_stores.update(made.id, name="t").expires_after == made.expires_after
    assert client.vector_stores.update(made.id, expires_after=None).expires_at is None


@pytest.mark.parametrize("days", [0, 366])
def test_an_end_out_of_bounds_is_refused(client: openai.OpenAI, days: int) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": days})
    assert refused.value.param == "expires_after.days"


def test_the_text_of_a_file_is_read_as_it_was_indexed(client: openai.OpenAI, store: VectorStore) -> None:
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.md", b"# A\n\nAlpha.\n\n## B\n\n| x |\n| --- |\n| 1 |"), poll_interval_ms=10
    )
    page = client.vector_stores.files.content(attached.id, vector_store_id=store.id)
    assert page.object == "vector_store.file_content.page"
    assert [(part.type, part.text) for part in page] == [("text", "Alpha."), ("text", "| x |\n| 1 |")]


def test_of_a_file_that_failed_there_is_no_text(client: openai.OpenAI, store: VectorStore) -> None:
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("a.md", b" "), poll_interval_ms=10
    )
    with pytest.raises(openai.BadRequestError, match="is failed in this store"):
        client.vector_stores.files.content(attached.id, vector_store_id=store.id)
