"""`manta rollout` against a service on a real socket, and on a database."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.adapters.registry_database import DatabaseRegistryStore
from serve_app.cli.durations import seconds, shown
from serve_app.cli.rollout import rollout_app
from serve_app.cli.rollout_tables import standing_view
from serve_app.cli.rollout_watch import Watch, watched
from serve_app.errors import InvalidRequest, RegistryUnavailable
from serve_app.http.app import create_app
from serve_app.http.rollouts_wire import standing_object, standing_of
from serve_app.registry.entry import ModelEntry
from serve_app.registry.snapshot import Change
from serve_app.rollout.operations import Plan, Standing, StoredRollouts
from serve_app.rollout.rollout import Rollout
from tests.builders import KEY, gateway
from tests.unit.documents import served
from tests.unit.rollout_service import GATEWAY, Service, application, entry, running

MODEL = "org/qwen"


def finding(figure: str, unit: str, canary: float | None, stable: float | None, **changes: Any) -> dict[str, Any]:
    made = {"figure": figure, "unit": unit, "canary": canary, "stable": stable}
    return {**made, "difference": None, "tolerance": 0.02, "samples": 23, "state": "fine", **changes}


REPORT = {
    "verdict": "not enough",
    "gate": None,
    "requests": {"canary": 23, "stable": 207, "shadow": 12},
    "waits_for": "requests: 23 canary and 207 stable, of 50 each",
    "agreement": 0.934,
    "gates": {
        "errors": finding("errors", "share", 0.0435, 0.0048, difference=0.0387),
        "first_token": finding(
            "p95 first token", "ms", 512.4, 401.0, difference=1.278, tolerance=1.25, state="not enough"
        ),
        "tokens_per_s": finding(
            "median tokens per second", "tokens/s", 43.21, 101.4, difference=0.426, tolerance=0.8, state="breach"
        ),
        "grounded": finding("supported citations", "share", None, None, samples=0, state="no figures"),
        "cost": finding("median cost of a request", "currency", 0.000123456, 0, samples=23, tolerance=1.25),
    },
}


@pytest.fixture
def service() -> Iterator[Service]:
    async def judged(_: Rollout) -> dict[str, Any]:
        return REPORT

    with running(judge=judged) as made:
        made.put(entry("1"), entry("2", weight=0))
        yield made


def app() -> typer.Typer:
    made = typer.Typer()
    made.add_typer(rollout_app, name="rollout")
    return made


def run(service: Service, *arguments: str, key: str = "admin", given: str = "") -> Result:
    environment = {
        "MANTA_URL": service.url,
        "MANTA_API_KEY": key,
        "COLUMNS": "160",
        "DATABASE_URL": None,
        "MANTA_FROM_URL": None,
    }
    return CliRunner().invoke(app(), ["rollout", *arguments], env=environment, input=given)


def fine(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


# --- one rollout ---


def test_a_rollout_is_started_and_told(service: Service) -> None:
    said = fine(run(service, "start", MODEL, "--to", "2", "--steps", "10,50,100", "--hold", "90s", "--why", "try"))
    assert "org/qwen in development: to version 2, running" in said
    assert "step 1 of 3: 10 %, 0:00 of 1:30 held, 1:30 left; weights 1: 90, 2: 10" in said
    [rollout] = service.snapshot.rollouts
    assert (rollout.steps, rollout.hold_s, rollout.started_by) == ((10, 50, 100), 90, "ann")


def test_a_rollout_may_be_shadow_traffic_alone(service: Service) -> None:
    said = fine(run(service, "start", MODEL, "--to", "2", "--steps", "", "--shadow", "10", "--yes"))
    assert "no steps, shadow traffic alone; weights 1: 100, 2: 0" in said
    assert "10 % of the requests also go to it in the shadow" in said


def test_a_status_shows_each_gate(service: Service) -> None:
    run(service, "start", MODEL, "--to", "2")
    said = fine(run(service, "status", MODEL))
    rows = [re.split(r" {2,}", line.strip()) for line in said.splitlines() if "%" in line or " x " in line]
    assert (
        "requests on this step: canary 23, stable 207, shadow 12; verdict: not enough; "
        "answers in the shadow agree by 0.93\nwaits for requests: 23 canary and 207 stable, of 50 each\n"
    ) in said
    assert rows[1:] == [
        ["errors", "4.3%", "0.5%", "+3.9%", "2.0%", "23", "fine"],
        ["p95 first token", "512 ms", "401 ms", "x 1.28", "x 1.25", "23", "not enough"],
        ["median tokens per second", "43.2", "101", "x 0.43", "x 0.80", "23", "breach"],
        ["supported citations", "-", "-", "-", "2.0%", "0", "no figures"],
        ["median cost of a request", "0.000123", "0", "-", "x 1.25", "23", "fine"],
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_a_status_fits_the_terminal(width: int) -> None:
    rollout = Rollout(id="r", model=MODEL, environment="development", to_version="2", before={"1": 100})
    view = Standing(model=MODEL, environment="development", rollout=rollout, weights={"1": 95}, report=REPORT)
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(standing_view(view, now=100))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in captured.get()
    assert sum(line.rstrip().endswith(("fine", "not enough", "breach", "no figures")) for line in lines[5:]) == 5


def test_what_took_a_version_back_is_shown() -> None:
    figures = {"verdict": "breach", "requests": {"canary": 31, "stable": 270}, "gates": REPORT["gates"]}
    rollout = Rollout(
        id="r",
        model=MODEL,
        environment="development",
        to_version="2",
        before={"1": 100},
        state="rolled_back",
        ended_at=1_700_000_000,
        reason="errors 30 % against 1 %",
        figures=figures,
    )
    read = standing_of(
        json.loads(
            json.dumps(
                standing_object(Standing(model=MODEL, environment="development", rollout=rollout, weights={"1": 100}))
            )
        )
    )
    assert read.rollout == rollout
    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        console.print(standing_view(read, now=1_700_000_100))
    said = captured.get()
    assert "to version 2, rolled back (errors 30 % against 1 %)" in said
    assert "requests on this step: canary 31, stable 270; verdict: breach" in said
    assert "median tokens per second" in said


def test_an_operator_pauses_resumes_and_promotes(service: Service) -> None:
    run(service, "start", MODEL, "--to", "2")
    assert "paused (lunch)" in fine(run(service, "pause", MODEL, "--why", "lunch"))
    assert "running" in fine(run(service, "resume", MODEL))
    assert "promoted" in fine(run(service, "promote", MODEL, "--yes"))
    assert service.weights() == {"1": 0, "2": 100}
    said = fine(run(service, "status", MODEL))
    assert "to version 2, promoted" in said


def test_a_rollback_finds_the_one_rollout(service: Service) -> None:
    run(service, "start", MODEL, "--to", "2")
    assert "rolled back (slow)" in fine(run(service, "rollback", "--yes", "--why", "slow"))
    assert service.weights() == {"1": 100, "2": 0}


def test_a_rollback_may_name_a_version(service: Service) -> None:
    assert "weights 1: 0, 2: 100" in fine(run(service, "rollback", MODEL, "--to", "2", "--yes"))


def test_at_a_terminal_a_start_is_asked_for(service: Service) -> None:
    """A real process, for the runner has no terminal."""
    ours, theirs = os.openpty()
    command = [
        sys.executable,
        "-c",
        "from serve_app.cli.main import app; app()",
        "rollout",
        "start",
        MODEL,
        "--to",
        "2",
    ]
    environment = {**os.environ, "MANTA_URL": service.url, "MANTA_API_KEY": "admin"}
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        os.write(ours, b"n\n")
        said, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 1
    assert said.startswith("Send 5 % of org/qwen's requests in development to version 2? [y/N]:")
    assert service.weights() == {"1": 100, "2": 0}


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_what_moves_all_requests_is_asked_for(service: Service, command: str) -> None:
    run(service, "start", MODEL, "--to", "2")
    result = run(service, command, MODEL)
    assert result.exit_code == 2
    assert "There is no terminal to ask at: repeat it with --yes" in result.output
    assert service.weights() == {"1": 95, "2": 5}


def test_the_history_is_listed(service: Service) -> None:
    run(service, "start", MODEL, "--to", "2")
    run(service, "rollback", "--yes", "--why", "too slow")
    run(service, "start", MODEL, "--to", "2")
    said = [line.strip() for line in fine(run(service, "history")).splitlines()]
    assert said[0].endswith("org/qwen in development: 1 -> 2, running at 5 %, started by ann")
    assert re.search(r"org/qwen in development: 1 -> 2, rolled back at 5 % after 0:0\d, started by ann$", said[1])
    assert said[2] == "too slow"


def test_json_is_one_document(service: Service) -> None:
    started = json.loads(fine(run(service, "start", MODEL, "--to", "2", "--output", "json")))
    [listed] = json.loads(fine(run(service, "status", "--output", "json")))
    assert listed["rollout"] == started["rollout"]
    assert listed["report"] == REPORT
    [past] = json.loads(fine(run(service, "history", "--output", "json")))
    assert past == started["rollout"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("start", "other", "--to", "2"), "model: no model 'other'; there are: org/qwen"),
        (("start", MODEL, "--to", "9"), "version: org/qwen has no version '9' in development; there are: 1, 2"),
        (("start", MODEL, "--to", "2", "--steps", "5;25"), "steps: '5;25' are no whole percents"),
        (("start", MODEL, "--to", "2", "--steps", "25,5"), "steps: 25,5 do not rise"),
        (("start", MODEL, "--to", "2", "--hold", "soon"), "hold: 'soon' is no duration; write 30s, 10m, 2h or 1d"),
        (("start", MODEL, "--to", "2", "--shadow", "200"), "shadow_percent: Input should be less than or equal to 100"),
        (("pause", MODEL), "model: no rollout of org/qwen is under way in development"),
        (("rollback", "--yes"), "model: no rollout is under way; name the model"),
        (("rollback", MODEL, "--yes"), "model: org/qwen has no rollout in development to go back from"),
        (("rollback", MODEL, "--to", "9", "--yes"), "version: org/qwen has no version '9' in development"),
        (("promote", MODEL, "--yes"), "model: no rollout of org/qwen is under way in development"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    service: Service, arguments: tuple[str, ...], words: str
) -> None:
    before = service.snapshot
    result = run(service, *arguments)
    assert result.exit_code == 2
    assert result.output.startswith(words)
    assert len(result.output.strip().splitlines()) == 1
    assert service.snapshot == before


def test_two_rollouts_of_a_model_are_refused(service: Service) -> None:
    run(service, "start", MODEL, "--to", "2")
    result = run(service, "start", MODEL, "--to", "1")
    assert (result.exit_code, "has a rollout to version 2 under way" in result.output) == (2, True)


def test_a_model_of_several_environments_needs_one_named(service: Service) -> None:
    service.put(entry("1", "production"), entry("2", "production", weight=0))
    result = run(service, "start", MODEL, "--to", "2")
    assert result.exit_code == 2
    assert result.output.startswith("environment: org/qwen is registered in development and production; say which")
    fine(run(service, "start", MODEL, "--to", "2", "--environment", "production"))
    assert "in production: to version 2, paused" in fine(run(service, "pause", MODEL))


def test_a_key_without_the_role_is_one_sentence(service: Service) -> None:
    result = run(service, "status", key="user")
    assert (result.exit_code, "need a key with the role 'admin'" in result.output) == (2, True)


def test_no_rollout_yet_is_said(service: Service) -> None:
    assert fine(run(service, "status")) == "no rollout yet; `manta rollout start` begins one\n"


# --- on the database ---


def test_the_database_is_worked_on_without_a_service(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/registry.db"

    async def fill() -> None:
        store = DatabaseRegistryStore(url)
        await store.change(lambda _: Change(action="register", who="t", put=(entry("1"), entry("2", weight=0))))
        await store.close()

    asyncio.run(fill())
    environment = {"MANTA_URL": None, "DATABASE_URL": url, "COLUMNS": "160"}
    started = CliRunner().invoke(app(), ["rollout", "start", MODEL, "--to", "2"], env=environment)
    assert started.exit_code == 0, started.output
    said = CliRunner().invoke(app(), ["rollout", "status"], env=environment).output
    assert "weights 1: 95, 2: 5" in said
    assert "what its gates found is known to gateways of development alone: set MANTA_URL to one" in said


@pytest.fixture
def upstream() -> Iterator[str]:
    """A server that speaks OpenAI's API, as an upstream elsewhere does: another Manta."""
    with served(create_app(gateway())) as url:
        yield url


def test_an_upstream_is_promoted_straight_on_the_database(
    tmp_path: Path, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/registry.db"
    there = {"endpoint": upstream, "engine": "openai", "key_env": "UPSTREAM_API_KEY", "model": "small", "digest": ""}

    async def filled() -> tuple[ModelEntry, ...]:
        store = DatabaseRegistryStore(url)
        put = (entry("1", "production", **there), entry("2", "staging", **there))
        await store.change(lambda _: Change(action="register", who="t", put=put))
        await store.close()
        return put

    async def found() -> dict[str, int]:
        store = DatabaseRegistryStore(url)
        snapshot = await store.snapshot()
        await store.close()
        return {one.version: one.weight for one in snapshot.versions("small", "production") if one.is_enabled}

    def promoted(key: str) -> Result:
        environment = {"MANTA_URL": None, "DATABASE_URL": url, "COLUMNS": "160", "UPSTREAM_API_KEY": key}
        said = ["promote", "small", "--from", "staging", "--to", "production", "--no-evaluation", "--yes"]
        return CliRunner().invoke(app(), ["rollout", *said], env=environment)

    asyncio.run(filled())
    refused = promoted("sk-wrong")
    assert (refused.exit_code, refused.output.splitlines()[-1]) == (2, "nothing was changed"), refused.output
    assert asyncio.run(found()) == {"1": 100}
    result = promoted(KEY)
    assert result.exit_code == 0, result.output
    assert ("skipped", "staging health") in marks(result.output)
    assert ("done", "rollout in production") in marks(result.output)
    assert "(asked by this command)" in result.output
    assert asyncio.run(found()) == {"1": 95, "2": 5}


# --- watching ---


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def rolled(*, at: dict[int, str]) -> tuple[tuple[Rollout, ...], str]:
    """A watch whose store hears an operator's word, or goes away and comes back, at chosen looks."""
    clock = Clock()
    store = MemoryRegistryStore()
    await store.change(lambda _: Change(action="register", who="t", put=(entry("1"), entry("2", weight=0))))
    operations = StoredRollouts(store)
    await operations.start(Plan(model=MODEL, environment="development", to_version="2"), who="ann", why="")
    watch = Watch(operations, MODEL, "", clock, answered_at=clock.now)
    console = Console(width=100, highlight=False, record=True, file=Path(os.devnull).open("w"))  # noqa: ASYNC230, SIM115
    looks = 0

    async def look() -> bool:
        nonlocal looks
        looks += 1
        clock.now += 1
        match at.get(looks):
            case "away":
                store.fail = True
            case "back":
                store.fail = False
            case "promote" | "rollback" as action:
                await operations.act(action, MODEL, "development", who="ann", why="so")
        return await Watch.look(watch)

    watch.look = look  # type: ignore[method-assign]
    ended = await watched(watch, console, every_s=0)
    return ended, console.export_text()


async def test_a_watch_ends_with_the_rollout() -> None:
    [rollout], said = await rolled(at={3: "promote"})
    assert rollout.state == "promoted"
    assert "to version 2, promoted (so)" in said
    [rollout], said = await rolled(at={2: "rollback"})
    assert rollout.state == "rolled_back"
    assert "weights 1: 100, 2: 0" in said


async def test_a_watch_waits_for_a_service_that_is_restarted() -> None:
    [rollout], _ = await rolled(at={2: "away", 30: "back", 32: "promote"})
    assert rollout.state == "promoted"


async def test_a_watch_does_not_wait_forever() -> None:
    with pytest.raises(RegistryUnavailable):
        await rolled(at={2: "away"})


@pytest.mark.parametrize(("action", "status"), [("promote", 0), ("rollback", 1)])
def test_the_exit_status_says_how_it_ended(service: Service, action: str, status: int) -> None:
    run(service, "start", MODEL, "--to", "2")
    run(service, action, MODEL, "--yes")
    result = run(service, "status", MODEL, "--watch")
    assert result.exit_code == status, result.output


def test_a_watch_from_the_command_line_sees_the_end(service: Service) -> None:
    run(service, "start", MODEL, "--to", "2")
    asked = threading.Event()

    async def judged(_: Rollout) -> dict[str, Any]:
        asked.set()
        return REPORT

    def end() -> None:
        asked.wait(10)
        run_json(service, "rollback")

    service.judge = judged
    ending = threading.Thread(target=end)
    ending.start()
    result = run(service, "status", "--watch", "--output", "json")
    ending.join()
    assert result.exit_code == 1, result.output
    [standing] = json.loads(result.stdout)
    assert standing["rollout"]["state"] == "rolled_back"


def run_json(service: Service, action: str) -> None:
    """By another client, for the runner is one at a time."""
    body = {"model": MODEL, "environment": "development", "action": action}
    headers = {"Authorization": "Bearer admin"}
    httpx.post(f"{service.url}/v1/rollouts/actions", json=body, headers=headers).raise_for_status()


# --- between environments ---


@pytest.fixture
def staged() -> Iterator[Service]:
    with running() as made:
        made.put(entry("1", "production"), entry("1", "staging", weight=0), entry("2", "staging"))
        yield made


def promote(service: Service, *arguments: str, **named: str) -> Result:
    said = ("promote", MODEL, "--from", "staging", "--to", "production", "--no-evaluation", *arguments)
    return run(service, *said, **named)


def marks(output: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in output.splitlines() if line.startswith("  ")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].split(":")[0]) for line in lines]


def test_a_version_comes_into_production(staged: Service) -> None:
    staged.applications = (GATEWAY, application("qwen-1"), application("qwen-2"))
    said = fine(promote(staged, "--yes", "--steps", "10,100"))
    assert marks(said) == [
        ("passed", "staging entry"),
        ("passed", "staging health"),
        ("passed", "endpoint test"),
        ("passed", "registry"),
        ("skipped", "evaluation"),
        ("done", "production as it is"),
        ("done", "register in production"),
        ("done", "endpoint test for production"),
        ("done", "enable in production"),
        ("done", "rollout in production"),
    ]
    assert said.splitlines()[-1] == (
        "under way; `manta rollout status org/qwen --environment production --watch` shows how it goes"
    )
    assert staged.weights("production") == {"1": 90, "2": 10}


def test_a_gate_that_fails_changes_nothing(staged: Service) -> None:
    before = staged.snapshot
    result = promote(staged, "--yes")
    assert result.exit_code == 2
    assert "failed  staging health: org/qwen@2 is enabled, but Ray Serve has no application 'qwen-2'" in result.output
    assert result.output.splitlines()[-1] == "nothing was changed"
    assert staged.snapshot == before


def test_a_promotion_is_asked_for_after_its_gates(staged: Service) -> None:
    staged.applications = (application("qwen-2"),)
    before = staged.snapshot
    result = promote(staged)
    assert result.exit_code == 2
    assert "passed  registry" in result.output
    assert "Send 5 % of org/qwen's requests in production to version 2? There is no terminal" in result.output
    assert staged.snapshot == before


def test_a_promotion_in_json_is_one_document(staged: Service) -> None:
    document = json.loads(promote(staged, "--yes", "--output", "json").output)
    assert document["outcome"] == "refused"
    assert [gate["state"] for gate in document["gates"]] == ["passed", "failed", "passed", "passed", "skipped"]
    assert (document["steps"], document["left"]) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "staging"), "--to: a promotion between environments names both"),
        (("--from", "staging", "--to", "staging", "--no-evaluation"), "to: staging is where it comes from"),
        (("--from", "staging", "--to", "production"), "evaluation: name the report of an evaluation"),
        (("--from", "staging", "--to", "production", "--evaluation", "r.json"), "least: say the least nDCG@10"),
        (
            ("--from", "staging", "--to", "production", "--no-evaluation", "--environment", "staging"),
            "environment: --from and --to say which",
        ),
        (("--from", "development", "--to", "production", "--no-evaluation"), "model: no version of 'org/qwen' is"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(
    staged: Service, arguments: tuple[str, ...], words: str
) -> None:
    result = run(staged, "promote", MODEL, "--yes", *arguments)
    assert (result.exit_code, result.output[: len(words)]) == (2, words)


def test_a_gateway_of_its_own_is_asked_about_the_source(staged: Service) -> None:
    with running(environment="staging") as source:
        source.store = staged.store
        source.applications = (application("qwen-2"),)
        refused = promote(staged, "--yes", "--from-url", source.url)
    assert "passed  staging health: application qwen-2 is RUNNING with 1 replica(s)" in refused.output


def test_ctrl_c_undoes_what_was_done(staged: Service) -> None:
    """A real process, interrupted twice while the endpoint is tested from production: what was done is undone."""
    staged.applications = (application("qwen-2"),)
    before = staged.snapshot
    reached, gone_on = threading.Event(), threading.Event()
    checks = []

    async def check(asked: Any) -> Any:
        checks.append(asked)
        if asked.environment == "production":
            reached.set()
            await asyncio.to_thread(gone_on.wait, 20)
        return await Service.check(staged, asked)

    staged.check = check  # type: ignore[method-assign]
    command = [sys.executable, "-c", "from serve_app.cli.main import app; app()", "rollout", "promote", MODEL]
    options = ["--from", "staging", "--to", "production", "--no-evaluation", "--yes"]
    environment = {**os.environ, "MANTA_URL": staged.url, "MANTA_API_KEY": "admin"}
    with subprocess.Popen(
        [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert reached.wait(60)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    gone_on.set()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "nothing is left changed"
    assert "Traceback" not in said
    assert (staged.snapshot.entries, staged.snapshot.rollouts) == (before.entries, before.rollouts)


# --- durations ---


@pytest.mark.parametrize(
    ("written", "meant"), [("30s", 30), ("10m", 600), ("2h", 7_200), ("1d", 86_400), ("45", 45), ("1.5m", 90)]
)
def test_durations_are_read(written: str, meant: float) -> None:
    assert seconds(written, "hold") == meant


@given(st.text(max_size=8))
def test_a_duration_is_a_number_or_a_sentence(written: str) -> None:
    try:
        assert seconds(written, "hold") >= 0
    except InvalidRequest as error:
        assert str(error).startswith("hold: ")


def test_durations_are_shown() -> None:
    assert [shown(s) for s in (0, 9, 65, 3_600, 86_399.7)] == ["0:00", "0:09", "1:05", "1:00:00", "24:00:00"]
