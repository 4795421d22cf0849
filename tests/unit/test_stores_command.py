"""`manta stores` and `manta search` against the document endpoints on a real socket."""

import json
import re
from collections.abc import Iterator

import openai
import pytest
import typer
from openai.types import VectorStore
from typer.testing import CliRunner, Result

from serve_app.cli.search import search
from serve_app.cli.stores import stores_app
from tests.unit.documents import library_app, served


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(library_app(tmp_path_factory.mktemp("library"), 5_000)) as address:
        yield address


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="ann", base_url=f"{url}/v1", max_retries=0)


@pytest.fixture
def manuals(client: openai.OpenAI) -> VectorStore:
    """A store with two documents and one that could not be read."""
    store = client.vector_stores.create(name="manuals")
    for team, year in (("red", 2024), ("blue", 2025)):
        file = client.files.create(
            file=(f"{team}.md", f"# Plans\n\n## {team.title()}\n\nThe {team} plan [v1].".encode()), purpose="assistants"
        )
        client.vector_stores.files.create_and_poll(
            file.id,
            vector_store_id=store.id,
            attributes={"team": team, "year": year, "draft": team == "red"},
            poll_interval_ms=10,
        )
    file = client.files.create(file=("broken.pdf", b"%PDF-1.7 nothing"), purpose="assistants")
    client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=10)
    return store


def run(url: str, *arguments: str, key: str = "ann", given: str = "") -> Result:
    app = typer.Typer()
    app.add_typer(stores_app, name="stores")
    app.command()(search)
    environment = {"MANTA_URL": url, "MANTA_API_KEY": key, "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, env=environment, input=given)


def test_stores_are_listed_with_their_counts(url: str, manuals: VectorStore) -> None:
    result = run(url, "stores", "list")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if manuals.id in line)
    assert [cell.strip() for cell in row.split("│")[2:6]] == ["manuals", "2", "0", "1"]


def test_stores_are_listed_as_the_service_says_them(url: str, manuals: VectorStore) -> None:
    [store] = json.loads(run(url, "stores", "list", "--output", "json").output)
    assert (store["id"], store["file_counts"]["total"]) == (manuals.id, 3)


def test_another_tenants_stores_are_not_listed(url: str, manuals: VectorStore) -> None:
    assert manuals.id not in run(url, "stores", "list", key="bob").output
    assert run(url, "stores", "show", manuals.id, key="bob").exit_code == 2


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_store_is_shown_with_its_files_and_their_faults(url: str, manuals: VectorStore, by: str) -> None:
    result = run(url, "stores", "show", getattr(manuals, by))
    assert result.exit_code == 0, result.output
    assert "team=blue, year=2025.0, draft=False" in result.output
    broken = next(line for line in result.output.splitlines() if "broken.pdf" in line)
    assert "failed" in broken
    assert "the PDF is damaged" in broken


def test_a_store_is_shown_as_the_service_says_it(url: str, manuals: VectorStore) -> None:
    shown = json.loads(run(url, "stores", "show", "manuals", "--output", "json").output)
    assert (shown["id"], [file["filename"] for file in shown["files"]]) == (
        manuals.id,
        ["broken.pdf", "blue.md", "red.md"],
    )


def test_a_store_is_shown_with_what_it_is_for_and_when_it_ends(url: str, client: openai.OpenAI) -> None:
    client.vector_stores.create(
        name="s", description="Plans [2026]", expires_after={"anchor": "last_active_at", "days": 3}
    )
    shown = run(url, "stores", "show", "s").output.splitlines()
    assert shown[1] == "Plans [2026]"
    assert re.fullmatch(r"ends \d{4}-\d\d-\d\d \d\d:\d\d unless it is used before", shown[2])


def test_a_store_is_deleted_only_when_that_is_confirmed(url: str, client: openai.OpenAI, manuals: VectorStore) -> None:
    result = run(url, "stores", "delete", "manuals", given="n\n")
    assert (result.exit_code, f"Delete 'manuals' ({manuals.id}) with 3 file(s)?" in result.output) == (1, True)
    assert client.vector_stores.retrieve(manuals.id).name == "manuals"
    assert run(url, "stores", "delete", "manuals", given="y\n").exit_code == 0
    assert list(client.vector_stores.list()) == []
    assert len(list(client.files.list())) == 3


def test_a_store_is_deleted_without_a_question_when_told_so(
    url: str, client: openai.OpenAI, manuals: VectorStore
) -> None:
    assert run(url, "stores", "delete", manuals.id, "--yes").output == f"{manuals.id}: deleted\n"
    assert list(client.vector_stores.list()) == []


def test_a_name_of_two_stores_deletes_neither(url: str, client: openai.OpenAI) -> None:
    twins = [client.vector_stores.create(name="twin").id for _ in range(2)]
    result = run(url, "stores", "delete", "twin", "--yes")
    assert result.exit_code == 2
    assert all(one in result.output for one in twins)
    assert len(list(client.vector_stores.list())) == 2


@pytest.mark.parametrize("arguments", [("stores", "show", "nope"), ("search", "plan", "--store", "nope")])
def test_a_store_that_is_not_there_is_one_sentence(url: str, arguments: tuple[str, ...]) -> None:
    result = run(url, *arguments)
    assert result.exit_code == 2
    assert result.output == "no vector store 'nope': `manta stores list` shows those there are\n"


def test_passages_are_found_with_their_place(url: str, manuals: VectorStore) -> None:
    result = run(url, "search", "blue plan", "--store", "manuals", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("1. Plans > Blue (blue.md, score ")
    assert "The blue plan [v1]." in result.output
    assert "red" not in result.output


@pytest.mark.parametrize(
    ("filters", "files"),
    [
        (("team=red",), {"red.md"}),
        (("team!=red",), {"blue.md"}),
        (("year=2024",), {"red.md"}),
        (("year>=2024", "year<2025"), {"red.md"}),
        (("year!=2024",), {"blue.md"}),
        (("draft=false",), {"blue.md"}),
        (("team=red", "year=2025"), set()),
    ],
)
def test_a_search_is_narrowed_by_filters(
    url: str, manuals: VectorStore, filters: tuple[str, ...], files: set[str]
) -> None:
    given = [part for one in filters for part in ("--filter", one)]
    result = run(url, "search", "plan", "--store", manuals.id, "--output", "json", *given)
    assert {one["filename"] for one in json.loads(result.output)} == files
    assert result.exit_code == (0 if files else 1)


def test_nothing_found_is_said_and_is_status_1(url: str, client: openai.OpenAI) -> None:
    client.vector_stores.create(name="empty")
    result = run(url, "search", "plan", "--store", "empty")
    assert (result.exit_code, result.output) == (1, "nothing found\n")


def test_a_filter_that_is_none_is_named(url: str) -> None:
    result = run(url, "search", "plan", "--filter", "team")
    assert result.exit_code == 2
    assert "is not key=value" in result.output


def test_no_service_is_one_sentence() -> None:
    result = run("http://127.0.0.1:9", "stores", "list")
    assert (result.exit_code, "no service at http://127.0.0.1:9" in result.output) == (2, True)
