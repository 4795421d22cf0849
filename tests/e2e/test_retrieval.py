"""Retrieval on the running service: who sees what, what a killed retriever costs, and what the command line says."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import openai
import psutil
import pytest

from tests.e2e.conftest import KEY, LEGAL_KEY, OTHER_KEY, Running, manta

pytestmark = [pytest.mark.ray, pytest.mark.milvus]

Replica = Callable[[str], psutil.Process]
DEADLINE_S = 120
PENALTY = b"# Contract\n\n## Penalty\n\nThe penalty for late delivery is four percent of the order for each week.\n"
QUESTION = "What is the penalty for late delivery?"


@pytest.fixture(scope="module")
def contracts(service: Running) -> str:
    """A store whose one contract is for the group `legal`."""
    client = service.client()
    store = client.vector_stores.create(name="contracts")
    file = client.files.create(file=("contract.md", PENALTY), purpose="assistants")
    attached = client.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, attributes={"access": "legal", "consent_subject": "acme-gmbh"}
    )
    assert attached.status == "completed", attached
    return store.id


def found(client: openai.OpenAI, store: str, query: str) -> list[str]:
    return [one.content[0].text for one in client.vector_stores.search(store, query=query, max_num_results=50)]


@pytest.mark.parametrize("key, sees", [(LEGAL_KEY, True), (KEY, False)])
def test_a_groups_document_is_found_answered_and_cited_for_the_group_alone(
    service: Running, contracts: str, key: str, sees: bool
) -> None:
    assert bool(found(service.client(key), contracts, QUESTION)) is sees
    sent = {
        "model": "extractive",
        "messages": [{"role": "user", "content": QUESTION}],
        "manta": {"stores": [contracts]},
    }
    answer = service.post("/v1/chat/completions", key, json=sent).json()
    assert ("four percent" in json.dumps(answer)) is sees
    assert bool(answer["choices"][0]["message"].get("annotations")) is sees


def test_another_tenant_does_not_know_the_store(service: Running, contracts: str) -> None:
    with pytest.raises(openai.NotFoundError):
        service.client(OTHER_KEY).vector_stores.search(contracts, query=QUESTION)


def test_a_quoted_phrase_stands_first(service: Running, documents: str) -> None:
    assert "Sundays" in found(service.client(), documents, '"closed on Sundays" model roll back version')[0]


def test_a_playbook_is_answered_from_by_its_name(service: Running) -> None:
    client = service.client()
    store = client.vector_stores.create(name="playbooks", metadata={"kind": "playbook"}).id
    rows = [{"name": name, "text": f"{name}: first page the {team} team, then open a bridge."} for name, team in TEAMS]
    lines = "\n".join(map(json.dumps, rows)).encode()
    attached = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("playbooks.jsonl", lines))
    assert attached.status == "completed", attached
    assert "network team" in found(client, store, "NETWORK outage")[0]
    answer = service.ask("Whom do I page first?", model="extractive", manta={"playbook": "database outage"}).json()
    assert "database team" in answer["choices"][0]["message"]["content"]
    assert answer["citations"][0]["source"] == "playbooks.jsonl#1"
    unknown = service.ask(manta={"playbook": "databse outage"})
    assert (unknown.status_code, "Database outage" in unknown.text) == (404, True)


TEAMS = (("Database outage", "database"), ("Network outage", "network"))


def test_a_retriever_killed_while_it_ingests_loses_no_document(service: Running, replica: Replica) -> None:
    client = service.client()
    store = client.vector_stores.create(name="killed").id
    pages = [(f"page-{n}.md", page(n)) for n in range(8)]
    files = [client.files.create(file=one, purpose="assistants").id for one in pages]
    batch = client.vector_stores.file_batches.create(store, file_ids=files)
    until(lambda: client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store).file_counts.completed > 1)
    replica("gateway:retriever").kill()
    assert service.ask(model="demo", max_tokens=2).status_code == 200, "a model that needs no documents goes on"
    until(lambda: settled(client, batch.id, store))
    assert client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store).file_counts.completed == 8
    for n, (name, _) in enumerate(pages):
        results = client.vector_stores.search(store, query=f"what page {n} says", max_num_results=50).data
        texts = Counter(one.content[0].text for one in results if one.filename == name)
        assert texts, f"nothing of {name} is found"
        assert max(texts.values()) == 1, f"{name} is indexed twice: {texts}"


def page(n: int) -> bytes:
    """Long enough to be under way for some seconds."""
    sections = (
        f"## Section {m}\n\nPage {n} says in its section {m} what stands on page {n} alone.\n" for m in range(20)
    )
    return f"# Page {n}\n\n{chr(10).join(sections)}".encode()


def settled(client: openai.OpenAI, batch: str, store: str) -> bool:
    try:
        return client.vector_stores.file_batches.retrieve(batch, vector_store_id=store).file_counts.in_progress == 0
    except openai.InternalServerError:
        return False  # the retriever is being started again


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"not after {DEADLINE_S} s"
        time.sleep(0.1)


def test_the_evaluation_reports_on_the_running_service(service: Running, tmp_path: Path) -> None:
    corpus = [{"id": f"d{n}", "text": f"Fruit number {n} is called {fruit}."} for n, fruit in enumerate(FRUITS)]
    queries = [
        {"id": f"q{n}", "query": f"Which is the {fruit}?", "relevant": [f"d{n}"]} for n, fruit in enumerate(FRUITS)
    ]
    for name, rows in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    asked = ["--queries", str(tmp_path / "queries.jsonl"), "--corpus", str(tmp_path / "corpus.jsonl")]
    run = manta(service, "eval", "retrieval", *asked, "--report", str(tmp_path / "report"), "--least", "0.99")
    assert run.returncode == 0, run.stdout + run.stderr
    assert {path.suffix for path in (tmp_path / "report").iterdir()} >= {".json", ".md", ".html"}


FRUITS = ("apple", "banana", "cherry", "damson", "elderberry")


def test_purge_removes_a_subject_and_says_what(service: Running, contracts: str) -> None:
    run = manta(service, "purge", "--subject", "acme-gmbh", "--yes")
    assert run.returncode == 0, run.stderr
    assert "1 file" in run.stdout
    assert found(service.client(LEGAL_KEY), contracts, QUESTION) == []
