"""The official client asks; a real graph answers from real documents."""

import httpx
import openai
import pytest

from serve_app.extractive import NOT_COVERED
from tests.e2e.conftest import KEY, OTHER_KEY, Running

pytestmark = [pytest.mark.ray, pytest.mark.milvus]

QUESTION = [{"role": "user", "content": "How do I roll back a model?"}]


def searching(store: str) -> dict[str, object]:
    return {"tools": [{"type": "file_search", "vector_store_ids": [store]}]}


def test_a_question_is_answered_from_the_documents_with_its_source(service: Running, documents: str) -> None:
    answer = service.client().chat.completions.create(
        model="extractive", messages=QUESTION, extra_body=searching(documents)
    )
    message = answer.choices[0].message
    assert "manta registry rollback chat" in (message.content or "")
    note = message.annotations[0].url_citation
    assert (message.content or "")[note.start_index : note.end_index] == f"[{answer.citations[0]['index']}]"
    assert answer.citations[0]["source"] == "rollback.md"
    assert answer.citations[0]["heading"].endswith("Rollback")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_a_stream_says_the_same_and_ends_with_usage(service: Running, documents: str) -> None:
    client = service.client()
    asked = {"model": "extractive", "messages": QUESTION, "extra_body": searching(documents)}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == whole
    assert chunks[-1].usage is not None
    assert [c["source"] for chunk in chunks for c in getattr(chunk, "citations", None) or []] == ["rollback.md"]


async def test_the_async_client_works_the_same(service: Running, documents: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(
            model="extractive", messages=QUESTION, extra_body=searching(documents), stream=True
        )
        text = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])
    assert "manta registry rollback chat" in text


def test_what_the_documents_do_not_cover_is_said_plainly(service: Running, documents: str) -> None:
    answer = service.ask("Which enzyme do lace plant mitochondria use?", **searching(documents)).json()
    assert answer["choices"][0]["message"]["content"] == NOT_COVERED
    assert answer.get("citations", []) == []


def test_auto_says_which_model_and_why(service: Running, documents: str) -> None:
    response = service.ask("How do I roll back a model?", **searching(documents))
    assert response.headers["x-manta-model"] == "extractive"
    assert response.headers["x-manta-route"].startswith("auto; difficulty 0.")
    stages = {entry.split(";")[0] for entry in response.headers["server-timing"].split(", ")}
    assert stages == {"screen", "classify", "retrieve", "vet", "engine", "total"}


def test_a_request_id_comes_back_once(service: Running) -> None:
    sent = {"authorization": f"Bearer {KEY}", "x-request-id": "mine-1"}
    response = httpx.get(f"{service.url}/v1/models", headers=sent)
    assert response.headers.get_list("x-request-id") == ["mine-1"]


def test_an_address_in_a_question_comes_back_in_the_answer_as_it_was(service: Running, documents: str) -> None:
    answer = service.ask(
        "Who is the on-call engineer, is it oncall@example.com?", model="extractive", **searching(documents)
    ).json()
    assert "oncall@example.com" in answer["choices"][0]["message"]["content"]


def test_models_are_listed(service: Running) -> None:
    client = service.client()
    listed = [model.id for model in client.models.list()]
    assert listed == ["auto", "demo", "demo-tp2", "extractive", "all-MiniLM-L6-v2"]
    assert client.models.retrieve("demo").id == "demo"


def test_embeddings_are_unit_vectors(service: Running) -> None:
    data = service.client().embeddings.create(model="all-MiniLM-L6-v2", input=["one", "two"]).data
    assert [round(sum(x * x for x in row.embedding), 3) for row in data] == [1.0, 1.0]


def test_vector_stores_are_searched_by_the_official_client(service: Running, documents: str) -> None:
    found = service.client().vector_stores.search(documents, query="requests per minute", max_num_results=2).data
    assert found[0].filename == "limits.md"
    assert "600 requests" in found[0].content[0].text


def test_one_tenant_never_sees_anothers_documents(service: Running, documents: str) -> None:
    other = service.client(OTHER_KEY)
    assert documents not in [store.id for store in other.vector_stores.list()]
    with pytest.raises(openai.NotFoundError):
        other.vector_stores.retrieve(documents)
    response = service.post(
        "/v1/chat/completions", OTHER_KEY, json={"model": "extractive", "messages": QUESTION, **searching(documents)}
    )
    assert "manta registry" not in response.text


def test_metrics_count_the_answers(service: Running) -> None:
    service.ask("Hello?", model="extractive")
    assert (
        'manta_turns_total{model="extractive",outcome="answered",version="1"}'
        in httpx.get(f"{service.url}/metrics").text
    )


def test_the_documentation_page_is_there(service: Running) -> None:
    assert "swagger" in httpx.get(f"{service.url}/docs").text.lower()


def test_the_service_is_reachable_from_this_machine_alone(service: Running) -> None:
    import ray

    port = service.url.rsplit(":", 1)[1]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{ray.util.get_node_ip_address()}:{port}/health/live")
