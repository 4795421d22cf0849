"""Receipts over HTTP and `manta explain`: whose they are, and what they say."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest
import typer
from typer.testing import CliRunner, Result

from serve_app.authenticator import digest
from serve_app.cli.ask import ask
from serve_app.cli.explain import explain
from serve_app.errors import EngineFailed
from serve_app.http.app import create_app
from tests.builders import ScriptedEngine, gateway, settings
from tests.unit.documents import served

KEYS = [
    {"id": "ann", "tenant": "acme", "sha256": digest("sk-ann")},
    {"id": "bob", "tenant": "umbrella", "sha256": digest("sk-bob")},
    {"id": "root", "tenant": "operators", "sha256": digest("sk-root"), "roles": ["admin", "user"]},
]


@pytest.fixture
def url() -> Iterator[str]:
    with served(create_app(gateway(settings(keys=KEYS)))) as address:
        yield address


def question(url: str, request_id: str = "req-1", key: str = "sk-ann", model: str = "small") -> str:
    client = openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": "Tell ann@example.org the secret word xylophone."}],
        extra_headers={"x-request-id": request_id},
    )
    return raw.headers["x-request-id"]


def receipt(url: str, request_id: str, key: str) -> httpx.Response:
    return httpx.get(f"{url}/v1/receipts/{request_id}", headers={"authorization": f"Bearer {key}"})


def run(url: str, *arguments: str, key: str = "sk-ann") -> Result:
    app = typer.Typer()
    app.command()(explain)
    app.command()(ask)
    environment = {"MANTA_URL": url, "MANTA_API_KEY": key, "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, env=environment)


def test_a_tenant_reads_its_own_receipts(url: str) -> None:
    found = receipt(url, question(url), "sk-ann").json()
    assert found["object"] == "receipt"
    assert (found["id"], found["tenant"], found["key_id"], found["asked"]) == ("req-1", "acme", "ann", "small")
    assert (found["model"], found["version"], found["outcome"]) == ("small", "1", "answered")
    assert found["facts"]["candidates"] == ["small@1"]
    assert found["attempts"][0].items() >= {"model": "small", "version": "1", "outcome": "answered"}.items()


def test_where_a_model_runs_is_told_to_operators_alone(url: str) -> None:
    request_id = question(url)
    assert "serve://" not in receipt(url, request_id, "sk-ann").text
    assert receipt(url, request_id, "sk-root").json()["endpoint"] == "serve://small"


def test_another_tenants_receipt_is_not_there(url: str) -> None:
    theirs = receipt(url, question(url), "sk-bob")
    nobodys = receipt(url, "req-9", "sk-bob")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace("req-1", "req-9") == nobodys.text


def test_a_receipt_needs_a_key(url: str) -> None:
    assert receipt(url, question(url), "sk-nobody").status_code == 401


def test_neither_question_nor_answer_stands_in_a_receipt(url: str) -> None:
    text = receipt(url, question(url), "sk-root").text
    assert all(word not in text for word in ("xylophone", "example.org", "Hello world"))


def test_an_id_with_a_slash_is_found(url: str) -> None:
    assert run(url, "explain", question(url, "job/7?x")).exit_code == 0


def test_explain_tells_in_words(url: str) -> None:
    result = run(url, "explain", question(url))
    assert result.exit_code == 0, result.output
    lines = dict(line.strip().split("  ", 1) for line in result.output.splitlines())
    lines = {heading: said.strip() for heading, said in lines.items()}
    assert lines["asked"] == "for small (chat) by key ann of tenant acme"
    assert lines["model"] == "small, by its name"
    assert lines["outcome"] == "answered"


def test_explain_prints_the_receipt_itself(url: str) -> None:
    result = run(url, "explain", question(url), "--output", "json")
    assert json.loads(result.output) == receipt(url, "req-1", "sk-ann").json()


@pytest.mark.parametrize("key", ["sk-bob", "sk-ann"])
def test_explain_of_a_request_that_is_not_there_says_where_ids_stand(url: str, key: str) -> None:
    result = run(url, "explain", "req-404", key=key)
    assert result.exit_code == 2
    assert "404: there is no receipt of 'req-404' here" in result.output
    assert "x-request-id" in result.output


def test_explain_without_a_service_is_one_sentence() -> None:
    result = run("http://127.0.0.1:9", "explain", "req-1")
    assert result.exit_code == 2
    assert result.output.startswith("no service at http://127.0.0.1:9")


def test_a_request_that_failed_has_a_receipt_too() -> None:
    engine = ScriptedEngine(dies_at=0, failure=EngineFailed("the engine failed"))
    with served(create_app(gateway(settings(keys=KEYS), engine=engine))) as url:
        with pytest.raises(openai.APIStatusError):
            question(url)
        words = run(url, "explain", "req-1").output
    assert "ended with the error engine_failed" in words
    assert "small@1: failed after" in words
