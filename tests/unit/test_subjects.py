"""Documents for groups and about people, over the public API: who sees them, and how they are removed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.requests import Request
from typer.testing import CliRunner

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.memory import MemoryIndex
from serve_app.cli import purge
from serve_app.cli.main import app as command
from serve_app.http import errors
from serve_app.http.files import files_router
from serve_app.http.subjects import subjects_router
from serve_app.http.vector_stores import vector_stores_router
from serve_app.library import Library
from serve_app.settings import RetrieverSettings
from serve_app.turn import Caller
from tests.unit.documents import InlineParser, bag_of_words

CALLERS = {
    "admin": Caller("acme", "admin", frozenset({"user", "admin"})),
    "lawyer": Caller("acme", "lawyer", groups=frozenset({"legal"})),
    "clerk": Caller("acme", "clerk"),
    "other": Caller("other", "other", frozenset({"user", "admin"})),
}


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[TestClient]:
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{tmp_path}/catalog.db", files_path=str(tmp_path / "files")
    )
    library = Library(Catalog(settings.catalog_url), MemoryIndex(), bag_of_words, settings, InlineParser())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await library.open()
        yield
        await library.close()

    def authenticate(request: Request) -> Caller:
        return CALLERS[request.headers["authorization"].removeprefix("Bearer ")]

    app = FastAPI(lifespan=lifespan)
    errors.install(app)
    app.include_router(files_router(library, authenticate))
    app.include_router(vector_stores_router(library, authenticate, library.search, bag_of_words))
    app.include_router(subjects_router(library, authenticate))
    with TestClient(app, base_url="http://manta.test/v1/") as running:
        yield running


def as_(who: str, transport: TestClient) -> openai.OpenAI:
    return openai.OpenAI(api_key=who, base_url="http://manta.test/v1", http_client=transport, max_retries=0)


@pytest.fixture
def store(transport: TestClient) -> str:
    return as_("admin", transport).vector_stores.create(name="files").id


def add(transport: TestClient, store: str, name: str, content: str, **attributes: str) -> Any:
    admin = as_("admin", transport)
    file = admin.files.create(file=(name, content.encode()), purpose="assistants")
    return admin.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store, attributes=attributes, poll_interval_ms=10
    )


def sees(who: str, transport: TestClient, store: str, question: str) -> set[str]:
    found = as_(who, transport).vector_stores.search(store, query=question)
    return {result.filename for result in found}


def test_a_document_for_a_group_is_seen_by_its_members_alone(transport: TestClient, store: str) -> None:
    add(transport, store, "contract.md", "# Contract\n\nThe penalty is high.", access="legal,finance")
    add(transport, store, "menu.md", "# Menu\n\nThe penalty for late lunch is soup.")
    assert sees("lawyer", transport, store, "penalty") == {"contract.md", "menu.md"}
    assert sees("clerk", transport, store, "penalty") == {"menu.md"}
    # Administration of documents is not reading them.
    assert sees("admin", transport, store, "penalty") == {"menu.md"}


def test_the_bytes_and_the_text_of_a_document_for_a_group_are_read_by_its_members_alone(
    transport: TestClient, store: str
) -> None:
    file = add(transport, store, "contract.md", "# Contract\n\nThe penalty is high.", access="legal")
    lawyer, clerk = as_("lawyer", transport), as_("clerk", transport)
    assert lawyer.files.content(file.id).read() == b"# Contract\n\nThe penalty is high."
    assert [part.text for part in lawyer.vector_stores.files.content(file.id, vector_store_id=store)] == [
        "The penalty is high."
    ]
    with pytest.raises(openai.PermissionDeniedError, match="holds what this key may not see"):
        clerk.files.content(file.id)
    assert list(clerk.vector_stores.files.content(file.id, vector_store_id=store)) == []


def test_of_rows_for_different_groups_everybody_reads_their_own(transport: TestClient, store: str) -> None:
    rows = '{"text": "penalty for all"}\n{"text": "penalty for lawyers", "access": "legal"}\n'
    file = add(transport, store, "rows.jsonl", rows)
    texts = {
        who: [part.text for part in as_(who, transport).vector_stores.files.content(file.id, vector_store_id=store)]
        for who in ("lawyer", "clerk")
    }
    assert texts == {"lawyer": ["penalty for all", "penalty for lawyers"], "clerk": ["penalty for all"]}
    for who in texts:
        with pytest.raises(openai.PermissionDeniedError):
            as_(who, transport).files.content(file.id)


def test_terms_that_cannot_be_read_refuse_the_document(transport: TestClient, store: str) -> None:
    with pytest.raises(openai.BadRequestError, match="consent_until: 'soon' is no time"):
        add(transport, store, "a.md", "# A\n\nText.", consent_until="soon")


def test_rows_of_a_document_may_have_terms_of_their_own(transport: TestClient, store: str) -> None:
    rows = '{"text": "penalty for all"}\n{"text": "penalty for lawyers", "access": "legal"}\n'
    add(transport, store, "rows.jsonl", rows)
    found = as_("clerk", transport).vector_stores.search(store, query="penalty")
    assert ["lawyers" in content.text for result in found for content in result.content] == [False]


@pytest.mark.parametrize("access", ['["legal"]', '""', "7", '"' + "legal," * 100 + '"'])
def test_terms_of_a_row_that_cannot_be_read_show_it_to_nobody(transport: TestClient, store: str, access: str) -> None:
    rows = f'{{"text": "penalty for all"}}\n{{"text": "penalty for lawyers", "access": {access}}}\n'
    attached = add(transport, store, "rows.jsonl", rows)
    found = as_("clerk", transport).vector_stores.search(store, query="penalty")
    assert ["lawyers" in content.text for result in found for content in result.content] == [False]
    assert "`access` must be a text of 1 to 512 characters" in attached.last_error.message


def test_a_purge_removes_every_file_about_a_subject_and_says_so(
    transport: TestClient, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = add(transport, store, "jane.md", "# Jane\n\nJane likes tea.", consent_subject="p 17/x")
    add(transport, store, "joe.md", "# Joe\n\nJoe likes tea.", consent_subject="p")
    monkeypatch.setattr(purge, "connect", lambda: as_("admin", transport))
    told = CliRunner().invoke(command, ["purge", "--subject", "p 17/x"], input="y\n")
    assert told.exit_code == 0, told.output
    assert "removed 1 file(s), 1 chunk(s)" in told.output and removed.id in told.output
    assert "cached answers: none; the service keeps none" in told.output
    assert sees("clerk", transport, store, "tea") == {"joe.md"}
    with pytest.raises(openai.NotFoundError):
        as_("admin", transport).files.retrieve(removed.id)


def test_what_was_purged_from_a_file_of_many_people_does_not_come_back_from_its_bytes(
    transport: TestClient, store: str
) -> None:
    rows = '{"text": "Jane likes tea", "consent_subject": "p"}\n{"text": "Joe likes tea", "consent_subject": "q"}\n'
    file = add(transport, store, "rows.jsonl", rows)
    admin = as_("admin", transport)
    gone = admin.delete("/subjects/p", cast_to=dict[str, object])
    assert (gone["files"], gone["chunks"]) == ([], 1)
    again = add(transport, store, "rows.jsonl", rows, team="red")
    assert again.id == file.id
    found = admin.vector_stores.search(store, query="tea").data
    assert [part.text for result in found for part in result.content] == ["Joe likes tea"]
    assert [part.text for part in admin.vector_stores.files.content(file.id, vector_store_id=store)] == [
        "Joe likes tea"
    ]
    add(transport, store, "jane.md", "# Jane\n\nJane likes tea again.", consent_subject="p")
    assert sees("clerk", transport, store, "tea") == {"rows.jsonl#2", "jane.md"}


def test_a_purge_that_is_not_confirmed_removes_nothing(transport: TestClient, store: str) -> None:
    add(transport, store, "jane.md", "# Jane\n\nJane likes tea.", consent_subject="p")
    assert CliRunner().invoke(command, ["purge", "--subject", "p"], input="n\n").exit_code == 1
    assert sees("clerk", transport, store, "tea") == {"jane.md"}


@pytest.mark.parametrize(("who", "failure"), [("clerk", openai.PermissionDeniedError), ("other", None)])
def test_a_purge_needs_an_admin_and_stays_within_the_tenant(
    transport: TestClient, store: str, who: str, failure: type[Exception] | None
) -> None:
    add(transport, store, "jane.md", "# Jane\n\nJane likes tea.", consent_subject="p")
    request = as_(who, transport).delete
    if failure:
        with pytest.raises(failure, match="role 'admin'"):
            request("/subjects/p", cast_to=dict[str, object])
    else:
        assert request("/subjects/p", cast_to=dict[str, object])["chunks"] == 0
    assert sees("clerk", transport, store, "tea") == {"jane.md"}
