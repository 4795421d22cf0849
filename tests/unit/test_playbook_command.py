"""`manta playbook` against the document endpoints on a real socket."""

import json
from collections.abc import Iterator

import openai
import pytest
import typer
from typer.testing import CliRunner, Result

from serve_app.cli.playbook import playbook_app
from tests.unit.documents import library_app, served

ENTRIES = 70
"""More than one search returns."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(library_app(tmp_path_factory.mktemp("library"), 50_000)) as address:
        client = openai.OpenAI(api_key="ann", base_url=f"{address}/v1", max_retries=0)
        filled(
            client,
            "runbooks",
            [{"name": f"Entry [{n}]", "text": f"Do step {n}."} for n in range(ENTRIES)],
            kind="playbook",
        )
        filled(client, "prompts", [{"name": "Roll back", "text": "Stop the traffic. Switch back."}], kind="playbook")
        filled(client, "notes", [{"name": "Note", "text": "Not an entry."}])
        yield address


def filled(client: openai.OpenAI, name: str, lines: list[dict[str, str]], **metadata: str) -> None:
    store = client.vector_stores.create(name=name, metadata=metadata)
    content = "\n".join(map(json.dumps, lines)).encode()
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=(f"{name}.jsonl", content), poll_interval_ms=10
    )
    assert attached.status == "completed"


def run(url: str, *arguments: str, key: str = "ann") -> Result:
    app = typer.Typer()
    app.add_typer(playbook_app, name="playbook")
    environment = {"MANTA_URL": url, "MANTA_API_KEY": key, "COLUMNS": "200"}
    return CliRunner().invoke(app, ["playbook", *arguments], env=environment)


def test_every_entry_of_every_playbook_store_is_listed(url: str) -> None:
    listed = run(url, "list", "--output", "json")
    rows = json.loads(listed.output)
    names = [row["name"] for row in rows]
    assert sorted(names) == sorted([*(f"Entry [{n}]" for n in range(ENTRIES)), "Roll back"])
    assert {row["store"] for row in rows} == {"runbooks", "prompts"}
    table = run(url, "list", "--store", "prompts")
    assert "Roll back" in table.output and "Entry" not in table.output


def test_nobodys_entries_are_none(url: str) -> None:
    assert run(url, "list", key="bob").exit_code == 1


@pytest.mark.parametrize("name", ["roll back", " ROLL  BACK "])
def test_an_entry_is_shown_as_it_is(url: str, name: str) -> None:
    shown = run(url, "show", name)
    assert (shown.exit_code, shown.output) == (0, "Stop the traffic. Switch back.\n")


def test_an_unknown_name_is_told_with_names_near_it(url: str) -> None:
    shown = run(url, "show", "switch back traffic")
    assert shown.exit_code == 2
    assert "no playbook entry is named 'switch back traffic': near it are" in shown.output
    assert "'Roll back'" in shown.output
