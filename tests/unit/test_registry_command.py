"""`manta registry` against a service on a real socket, and straight on the database."""

import asyncio
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from typer.testing import CliRunner, Result

from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.cli.registry import registry_app
from serve_app.errors import InvalidRequest, Unauthenticated
from serve_app.http import errors
from serve_app.http.registry import registry_router
from serve_app.http.rollouts import rollouts_router
from serve_app.registry.adopt import adopt
from serve_app.registry.entry import ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registry import Registry
from serve_app.rollout.operations import StoredRollouts
from serve_app.turn import Caller
from tests.builders import begun
from tests.unit.documents import served

NOBODY = "http://127.0.0.1:9"
LLAMA = ("--model", "meta/llama", "--version", "1", "--endpoint", "serve://llama")
SECOND = ("--model", "meta/llama", "--version", "2", "--endpoint", "serve://llama-2")
NAMED = ("--model", "meta/llama", "--version", "1")
UNCHECKED = ("--engine", "vllm", "--no-check", "--yes")


class Endpoints:
    """All answer but one."""

    async def check(self, entry: ModelEntry) -> CheckResult:
        if entry.endpoint == "serve://down":
            raise InvalidRequest("endpoint: Ray Serve has no application 'down'")
        return CheckResult(steps={"health": "fine"}, engine="vllm")


def authenticate(request: Request) -> Caller:
    """The key is who asks."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key not in ("ann", "bob"):
        raise Unauthenticated("no such key")
    return Caller("acme", key, frozenset({"admin"}) if key == "ann" else frozenset({"user"}))


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/registry.db"


@pytest.fixture
def url(database: str) -> Iterator[str]:
    store = DatabaseRegistryStore(database)
    app = FastAPI()
    errors.install(app)
    app.include_router(registry_router(Registry(store, Endpoints()), authenticate))
    app.include_router(rollouts_router(StoredRollouts(store), authenticate))
    with served(app) as address:
        yield address


@pytest.fixture
def service(url: str) -> dict[str, str]:
    return {"MANTA_URL": url, "MANTA_API_KEY": "ann"}


@pytest.fixture(params=["service", "database"])
def place(request: pytest.FixtureRequest, database: str) -> dict[str, str]:
    """Where the commands work: the environment that says so."""
    return request.getfixturevalue("service") if request.param == "service" else {"DATABASE_URL": database}


def run(place: dict[str, str], *arguments: str) -> Result:
    nothing = {"MANTA_URL": None, "MANTA_API_KEY": None, "DATABASE_URL": None, "COLUMNS": "200"}
    result = CliRunner().invoke(registry_app, arguments, env={**nothing, **place})
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    return result


def done(place: dict[str, str], *arguments: str) -> str:
    result = run(place, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(place: dict[str, str], *arguments: str) -> str:
    """The one sentence."""
    result = run(place, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.rstrip()


def entries(place: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done(place, "list", "--output", "json", *arguments))
    return found


def test_the_plain_form_puts_a_version_in(service: dict[str, str]) -> None:
    said = done(service, "register", *LLAMA, "--environment", "development", "--weight", "90", "--yes")
    assert said == "meta/llama@1 in development: enabled, weight 90, 100 % of its requests\n"
    [entry] = entries(service)
    assert entry.items() >= {"status": "enabled", "weight": 90, "engine": "vllm", "share": 100.0}.items()


def test_every_option_becomes_its_field(place: dict[str, str]) -> None:
    digest = f"sha256:{'0' * 64}"
    given = ["--context", "4096", "--capability", "tools", "--capability", "vision", "--prompt-price", "0.5"]
    given += ["--output-price", "1.5", "--licence", "MIT", "--digest", digest, "--owner", "team-a"]
    given += ["--egress", "raw", "--key-env", "SAAS_API_KEY", "--served-name", "gpt", "--environment", "staging"]
    done(place, "register", *NAMED, "--endpoint", "https://llm.example/v1", "--no-check", *given)
    [entry] = entries(place)
    expected = {"context_tokens": 4096, "capabilities": ["tools", "vision"], "prompt_price": 0.5, "output_price": 1.5}
    expected |= {"licence": "MIT", "digest": digest, "owner": "team-a", "egress": "raw", "engine": "openai"}
    expected |= {"key_env": "SAAS_API_KEY", "served_name": "gpt", "environment": "staging", "status": "registered"}
    assert entry.items() >= expected.items()


def test_a_version_goes_through_its_life(place: dict[str, str]) -> None:
    waiting = done(place, "register", *LLAMA, *UNCHECKED)
    assert "registered, takes no requests" in waiting
    assert "`manta registry enable --model meta/llama --version 1`" in waiting
    assert "enabled, weight 100, 100 %" in done(place, "enable", *NAMED, "--no-check")
    done(place, "register", *SECOND, *UNCHECKED)
    second = ("--model", "meta/llama", "--version", "2")
    assert "weight 25, 20 %" in done(place, "enable", *second, "--weight", "25", "--no-check")
    assert "disabled, takes no requests" in done(place, "disable", *second, "--why", "slow")
    assert done(place, "deregister", *second, "--yes") == "meta/llama@2 in development: taken out\n"
    assert [entry["version"] for entry in entries(place)] == ["1"]
    rows = json.loads(done(place, "history", "--output", "json"))
    actions = ["deregister", "disable", "enable", "register", "enable", "register"]
    assert [row["action"] for row in rows] == actions
    assert rows[1]["why"] == "slow"


def test_who_it_was_is_the_key_or_the_user(service: dict[str, str], database: str) -> None:
    done(service, "register", *LLAMA, "--yes")
    done({"DATABASE_URL": database}, "disable", *NAMED, "--yes")
    by_user, by_key = json.loads(done(service, "history", "--output", "json"))
    assert by_key["who"] == "ann"
    assert by_user["who"].endswith(" (database)")


def test_versions_are_listed_with_their_shares(place: dict[str, str]) -> None:
    done(place, "register", *LLAMA, *UNCHECKED)
    done(place, "enable", *NAMED, "--weight", "90", "--no-check")
    done(place, "register", *SECOND, *UNCHECKED)
    done(place, "register", *LLAMA, "--environment", "staging", *UNCHECKED)
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in done(place, "list").splitlines() if "@" in line
    ]
    assert cells == [
        ["meta/llama@1", "development", "enabled", "90 (100 %)", "serve://llama"],
        ["meta/llama@1", "staging", "registered", "0", "serve://llama"],
        ["meta/llama@2", "development", "registered", "0", "serve://llama-2"],
    ]
    assert len(entries(place, "--environment", "staging")) == 1
    assert entries(place, "--model", "qwen") == []


def test_a_model_is_shown_with_its_rollout_and_its_last_changes(place: dict[str, str], database: str) -> None:
    done(place, "register", *LLAMA, *UNCHECKED)
    done(place, "enable", *NAMED, "--no-check", "--why", "it is [fine]")
    done(place, "register", *SECOND, *UNCHECKED)
    done(place, "enable", "--model", "meta/llama", "--version", "2", "--no-check")
    begin = begun("meta/llama")
    asyncio.run(DatabaseRegistryStore(database).change(begin))
    shown = done(place, "show", "--model", "meta/llama", "--version", "1")
    assert re.search(r"share of requests +│ 95 %", shown)
    assert re.search(r"rollout +│ to 2, at 5 %, running; `manta rollout status meta/llama`", shown)
    assert "it is [fine]" in shown
    assert "status registered -> enabled" in shown
    facts = json.loads(done(place, "show", "--model", "meta/llama", "--output", "json"))
    assert [(one["version"], one["share"]) for one in facts["versions"]] == [("1", 95.0), ("2", 5.0)]
    assert facts["rollouts"][0]["to_version"] == "2"
    assert len(facts["history"]) == 5


def test_what_is_not_there_names_what_is(place: dict[str, str]) -> None:
    assert refused(place, "show", "--model", "qwen") == "model: no model 'qwen' is registered; there are: none"
    done(place, "register", *LLAMA, *UNCHECKED)
    absent = refused(place, "show", "--model", "meta/llama", "--version", "9")
    assert absent == "version: meta/llama has no version '9'; there are: 1 (development)"
    for command in ("enable", "disable", "deregister"):
        given = ("--yes",) if command != "enable" else ()
        unknown = refused(place, command, "--model", "meta/llama", "--version", "9", *given)
        assert unknown == "version: meta/llama has no version '9' in development; there are: 1"


def test_an_environment_need_only_be_said_where_there_are_several(place: dict[str, str]) -> None:
    done(place, "register", *LLAMA, "--environment", "production", *UNCHECKED)
    assert "meta/llama@1 in production: enabled" in done(place, "enable", *NAMED, "--no-check")
    done(place, "register", *LLAMA, "--environment", "staging", *UNCHECKED)
    several = "environment: meta/llama is registered in production and staging; say which with --environment"
    assert refused(place, "disable", *NAMED, "--yes") == several
    assert "production: disabled" in done(place, "disable", *NAMED, "--environment", "production", "--yes")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--weight", "101"), "weight: Input should be less than or equal to 100 (got '101')"),
        (("--capability", "flying"), "capabilities.0: Input should be 'tools', 'json', 'vision' or 'embeddings'"),
        (("--endpoint", "llama"), "endpoint: give serve://APPLICATION, or http(s)://HOST"),
        (("--prompt-price", "nan"), "prompt_price: Input should be a finite number"),
        (("--key-env", "HOME"), "key_env: must be an environment variable named ..._API_KEY"),
        (("--version", "1@2"), "version: must be 1 to 200 printable ASCII characters"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changed(
    place: dict[str, str], given: tuple[str, ...], sentence: str
) -> None:
    assert refused(place, "register", *LLAMA, *UNCHECKED, *given).startswith(sentence)
    assert entries(place) == []


def test_an_option_that_is_none_is_status_2(database: str) -> None:
    result = run({"DATABASE_URL": database}, "register", *LLAMA, "--environment", "prod")
    assert result.exit_code == 2


def test_capabilities_can_be_none_at_all(place: dict[str, str]) -> None:
    done(place, "register", *LLAMA, *UNCHECKED, "--capability", "none")
    assert entries(place)[0]["capabilities"] == []


class TestAsking:
    """There is no terminal here, so whoever would be asked is told to say --yes."""

    def test_before_a_version_is_overwritten(self, place: dict[str, str]) -> None:
        done(place, "register", *LLAMA, *UNCHECKED)
        said = refused(place, "register", *NAMED, "--endpoint", "serve://new", "--owner", "team-a", "--no-check")
        *differences, question = said.splitlines()
        assert differences == ["  endpoint serve://llama -> serve://new", "  owner - -> team-a"]
        asked = "meta/llama@1 is in development already. Change it like this?"
        assert question == f"{asked} There is no terminal to ask at: repeat it with --yes"
        assert entries(place)[0]["endpoint"] == "serve://llama"
        done(place, "register", *LLAMA, "--no-check")

    def test_before_a_model_of_the_config_becomes_the_operators(self, place: dict[str, str], database: str) -> None:
        declared = ModelEntry(
            model="meta/llama",
            version="1",
            environment="development",
            endpoint="serve://llama",
            engine="vllm",
            status="enabled",
            weight=100,
            source="config",
        )
        asyncio.run(DatabaseRegistryStore(database).change(adopt([declared], "development", who="gateway")))
        said = refused(place, "register", *NAMED, "--owner", "team-a", "--no-check")
        assert said.splitlines()[:-1] == ["  owner - -> team-a", "  source config -> operator"]
        weight = refused(place, "register", *NAMED, "--weight", "5", "--no-check")
        assert weight.splitlines()[:-1] == ["  weight 100 -> 5"]

    def test_before_a_new_version_takes_requests_from_others(self, service: dict[str, str]) -> None:
        done(service, "register", *LLAMA)
        said = refused(service, "register", *SECOND, "--weight", "25")
        assert said.startswith("meta/llama@2 would take 20 % of meta/llama's requests in development at once.")
        assert len(entries(service)) == 1
        done(service, "register", *SECOND)

    def test_before_nobody_answers_for_a_model(self, place: dict[str, str]) -> None:
        done(place, "register", *LLAMA, *UNCHECKED)
        done(place, "enable", *NAMED, "--no-check")
        assert "nobody would answer for it. Disable meta/llama@1?" in refused(place, "disable", *NAMED)
        assert "disabled" in done(place, "disable", *NAMED, "--yes")

    def test_before_a_version_is_taken_out(self, place: dict[str, str]) -> None:
        done(place, "register", *LLAMA, *UNCHECKED)
        said = refused(place, "deregister", *NAMED)
        assert said.startswith("It is registered. Take meta/llama@1 out of development for good?")
        assert len(entries(place)) == 1

    @pytest.mark.parametrize(("answer", "status", "left"), [("n", 1, 1), ("y", 0, 0)])
    def test_at_a_terminal(self, database: str, answer: str, status: int, left: int) -> None:
        place = {"DATABASE_URL": database}
        done(place, "register", *LLAMA, *UNCHECKED)
        code = "from serve_app.cli.registry import registry_app; registry_app()"
        ours, theirs = pty.openpty()
        try:
            os.write(ours, f"{answer}\n".encode())
            deregister = [sys.executable, "-W", "ignore", "-c", code, "deregister", *NAMED]
            asked = subprocess.run(
                deregister, stdin=theirs, capture_output=True, text=True, env={**os.environ, **place}, check=False
            )
        finally:
            os.close(ours)
            os.close(theirs)
        assert "Take meta/llama@1 out of development for good? [y/N]" in asked.stderr
        assert asked.returncode == status, asked.stderr
        assert len(entries(place)) == left


class TestReachingIt:
    def test_a_service_comes_before_the_database(self, service: dict[str, str], tmp_path: Path) -> None:
        done(service, "register", *LLAMA)
        elsewhere = {"DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
        assert len(entries({**service, **elsewhere})) == 1
        assert entries(elsewhere) == []

    def test_a_named_database_comes_before_the_service(self, service: dict[str, str], tmp_path: Path) -> None:
        done(service, "register", *LLAMA)
        assert entries(service, "--database", f"sqlite:///{tmp_path}/other.db") == []

    def test_without_its_service_the_database_is_used_and_said(self, database: str) -> None:
        result = run({"MANTA_URL": NOBODY, "DATABASE_URL": database}, "list", "--output", "json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
        assert result.stderr == f"no service at {NOBODY}: working on the database of DATABASE_URL\n"

    def test_an_endpoint_of_ray_cannot_be_checked_from_the_database(self, database: str) -> None:
        said = refused({"DATABASE_URL": database}, "register", *LLAMA)
        assert said == (
            "endpoint: serve://llama can only be checked by the running service; set MANTA_URL, "
            "or leave the check out with --no-check"
        )

    def test_an_endpoint_over_http_is_checked_from_the_database(self, database: str) -> None:
        said = refused({"DATABASE_URL": database}, "register", *NAMED, "--endpoint", NOBODY)
        assert said.startswith("endpoint: ")
        assert entries({"DATABASE_URL": database}) == []

    def test_an_endpoint_that_does_not_answer_is_told_by_the_service(self, service: dict[str, str]) -> None:
        said = refused(service, "register", *NAMED, "--endpoint", "serve://down")
        assert said == "endpoint: Ray Serve has no application 'down'"

    @pytest.mark.parametrize(
        ("place", "sentence"),
        [
            ({"MANTA_URL": NOBODY}, f"no service at {NOBODY}: start one with `make serve`, or set MANTA_URL"),
            ({"MANTA_URL": "http://manta.invalid"}, "no service at http://manta.invalid: start one"),
            ({"MANTA_URL": "http://[::1"}, "no service at http://[::1: start one"),
            ({"MANTA_URL": "localhost:8000"}, "MANTA_URL: 'localhost:8000' is no address"),
            ({"MANTA_URL": NOBODY, "MANTA_API_KEY": "schlüssel"}, "MANTA_API_KEY: holds characters that no key has"),
            ({"MANTA_URL": NOBODY, "MANTA_API_KEY": "a\nb"}, "MANTA_API_KEY: holds characters that no key has"),
            ({"DATABASE_URL": "mysql://host/db"}, "the registry's database URL has 'mysql'"),
            ({"DATABASE_URL": "registry.db"}, "the registry's database URL has no scheme"),
            ({"DATABASE_URL": "sqlite:////proc/none/registry.db"}, "the registry's database /proc/none/registry.db"),
            ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:9/db"}, "the registry's database "),
        ],
    )
    def test_what_cannot_be_reached_is_one_sentence(self, place: dict[str, str], sentence: str) -> None:
        said = refused(place, "list")
        assert said.startswith(sentence)
        assert "secret" not in said
        assert len(said.splitlines()) == 1

    def test_a_key_that_is_unknown_or_no_operators_is_told(self, url: str) -> None:
        unknown = refused({"MANTA_URL": url, "MANTA_API_KEY": "eve"}, "list")
        assert unknown == f"{url} does not know this key: set MANTA_API_KEY"
        assert "role 'admin'" in refused({"MANTA_URL": url, "MANTA_API_KEY": "bob"}, "list")

    def test_something_else_at_that_address_is_told(self) -> None:
        app = FastAPI()

        @app.get("/v1/registry/models")
        async def page() -> HTMLResponse:
            return HTMLResponse("<h1>It works</h1>")

        with served(app) as address:
            said = refused({"MANTA_URL": address}, "list")
            assert said == f"{address} answered 200 and no JSON: is it Manta?"
            assert refused({"MANTA_URL": address}, "history") == f"{address} answered 404"

    def test_json_that_is_not_mantas_is_told(self) -> None:
        app = FastAPI()

        @app.get("/v1/registry/models")
        async def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": "gpt"}]}

        with served(app) as address:
            said = refused({"MANTA_URL": address}, "list")
            assert said == f"{address} answers in a shape that is not known here: is it Manta?"

    def test_a_database_that_is_none_or_of_another_version_is_told(self, tmp_path: Path) -> None:
        database = {"DATABASE_URL": f"sqlite:///{tmp_path}/registry.db"}
        done(database, "list")
        with sqlite3.connect(tmp_path / "registry.db") as connection:
            connection.execute("update registry_version set version_num = '9999'")
        said = refused(database, "register", *LLAMA, *UNCHECKED)
        assert "newer version (9999" in said
        assert "newer version (9999" in refused(database, "upgrade")
        (tmp_path / "text.db").write_text("no database, but a text that is long enough to be read as one" * 20)
        assert "text.db" in refused({"DATABASE_URL": f"sqlite:///{tmp_path}/text.db"}, "list")


class TestUpgrading:
    def test_a_new_database_and_one_that_is_current(self, database: str) -> None:
        assert "-> " in done({"DATABASE_URL": database}, "upgrade")
        assert "already" in done({}, "upgrade", "--database", database)
        assert entries({"DATABASE_URL": database}) == []

    def test_without_a_database_it_says_how_to_name_one(self) -> None:
        assert refused({}, "upgrade").startswith("database: say which")


@pytest.mark.parametrize(
    "command", ["register", "deregister", "enable", "disable", "list", "show", "history", "upgrade"]
)
def test_every_command_says_what_it_takes(command: str) -> None:
    assert "--database" in done({"COLUMNS": "80"}, command, "--help")
