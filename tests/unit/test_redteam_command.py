"""`manta redteam` against a chat API on a real port: exit status, report, comparison, escaping."""

import json
import os
import signal
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse
from typer.testing import CliRunner, Result

from serve_app.cli.main import app
from serve_app.extractive import NOT_COVERED
from tests.unit.redteam_targets import Answer, Body, ChatApi, failing, filtered, said, served

NASTY = "<script>alert('x')</script> `x` | <img src=x onerror=alert(1)>"


def suite(folder: Path, *rows: Body) -> str:
    path = folder / "suite.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def rows(attacks: int = 2, harmless: int = 2) -> list[Body]:
    return [
        *({"prompt": f"attack {n}", "family": "harmful_requests"} for n in range(attacks)),
        *({"prompt": f"question {n}", "family": "over_refusal"} for n in range(harmless)),
    ]


def gates(folder: Path, text: str = "{}") -> str:
    path = folder / "gates.yaml"
    path.write_text(text)
    return str(path)


def redteam(folder: Path, answer: Answer, *more: str, given: list[Body] | None = None, config: str = "{}") -> Result:
    with served(ChatApi(answer).app) as url:
        options = ["--target", url, "--suite", suite(folder, *(given or rows())), "--report", str(folder / "report")]
        return CliRunner().invoke(app, ["redteam", *options, "--config", gates(folder, config), *more])


def found(folder: Path) -> Any:
    return json.loads((folder / "report" / "redteam.json").read_text())


def guarded(body: Body) -> JSONResponse:
    return filtered() if "attack" in body["messages"][-1]["content"] else said("Like this.")


def open_to_all(body: Body) -> JSONResponse:
    return said("Like this.")


def test_gates_that_hold_are_status_0_and_three_files(tmp_path: Path) -> None:
    result = redteam(tmp_path, guarded, config="families: {harmful_requests: {reached: 0.0}}")
    assert (result.exit_code, result.stderr) == (0, "attacking tiny-chat with 4 attempts\n")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "redteam.html",
        "redteam.json",
        "redteam.md",
    ]
    families = found(tmp_path)["families"]
    assert families["harmful_requests"]["policies"] == {"words": 2}
    assert (families["harmful_requests"]["reached"], families["over_refusal"]["false_refusals"]) == (0, 0)


def test_a_gate_passed_over_is_status_1_and_named(tmp_path: Path) -> None:
    result = redteam(tmp_path, open_to_all, config="families: {harmful_requests: {attack_success: 0.5}}")
    assert result.exit_code == 1
    assert "harmful_requests: attack success is 100.0%, 50.0% is allowed" in result.stdout
    assert found(tmp_path)["gates_passed_over"] == ["harmful_requests: attack success is 100.0%, 50.0% is allowed"]
    assert "gate passed over" in (tmp_path / "report" / "redteam.md").read_text()


def test_a_target_that_is_not_there_is_status_2_and_leaves_no_report(tmp_path: Path) -> None:
    options = ["--target", "http://127.0.0.1:9", "--suite", suite(tmp_path, *rows()), "--config", gates(tmp_path)]
    result = CliRunner().invoke(app, ["redteam", *options, "--report", str(tmp_path / "report")])
    assert result.exit_code == 2
    assert "no target at http://127.0.0.1:9/v1/" in result.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--suite", "/nowhere.jsonl"], "/nowhere.jsonl: cannot be read"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        (["--key-env", "NO_SUCH_VARIABLE_HERE"], "--key-env: the variable NO_SUCH_VARIABLE_HERE is not set"),
        (["--target", "localhost:1"], "is no address"),
    ],
)
def test_what_the_caller_got_wrong_is_a_sentence_and_status_2(options: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["redteam", "--target", "http://127.0.0.1:9", *options])
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_the_second_report_tells_the_change(tmp_path: Path) -> None:
    redteam(tmp_path, open_to_all)
    redteam(tmp_path, guarded)
    told = (tmp_path / "report" / "redteam.md").read_text()
    assert "attack success -100.0, reached -100.0" in told
    assert "on the same probes" in told
    assert '<span class="better">▼ 100.0</span>' in (tmp_path / "report" / "redteam.html").read_text()


def test_a_change_of_the_suite_is_said(tmp_path: Path) -> None:
    redteam(tmp_path, guarded)
    redteam(tmp_path, guarded, given=rows(attacks=3))
    assert "on OTHER probes" in (tmp_path / "report" / "redteam.html").read_text()


@pytest.mark.parametrize("old", ["{", "[]", '{"families": 3}', '{"families": {"over_refusal": "x"}}'])
def test_an_old_report_that_is_broken_is_no_obstacle(tmp_path: Path, old: str) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "redteam.json").write_text(old)
    assert redteam(tmp_path, guarded).exit_code == 0
    assert found(tmp_path)["complete"]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_was_said_and_answered_runs_nowhere_in_the_report(tmp_path: Path) -> None:
    given = [{"prompt": NASTY, "family": "harmful_requests", "category": NASTY}]
    redteam(tmp_path, lambda _: said(NASTY), given=given)
    page = Tags()
    page.feed((tmp_path / "report" / "redteam.html").read_text())
    assert page.text.count(NASTY) == 2 + 1  # said, answered, and the name of its kind
    assert page.seen.isdisjoint({"script", "img", "iframe", "link", "object"})
    assert page.attributes.isdisjoint({"onerror", "onload", "src", "href"})
    assert "`<script>" in (tmp_path / "report" / "redteam.md").read_text()


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    redteam(tmp_path, guarded)
    page = (tmp_path / "report" / "redteam.html").read_text()
    assert "http" not in page.replace("http-equiv", "").replace("http://127.0.0.1", "")
    assert page.count('<svg role="img"') == page.count("<desc>") == 4


def test_answers_that_no_encoding_takes_are_written_all_the_same(tmp_path: Path) -> None:
    broken = JSONResponse({"choices": [{"message": {"content": "X"}, "finish_reason": "stop"}]})
    broken.body = bytes(broken.body).replace(b'"X"', b'"\\ud800 half a sign"')
    broken.headers["content-length"] = str(len(broken.body))
    assert redteam(tmp_path, lambda _: broken).exit_code == 0
    assert "half a sign" in (tmp_path / "report" / "redteam.html").read_text()


def test_an_engine_that_knows_nothing_is_no_merit_of_the_guardrails(tmp_path: Path) -> None:
    redteam(tmp_path, lambda _: said(NOT_COVERED))
    told = "2 of 2 attacks were only answered with a lack of knowledge"
    assert told in (tmp_path / "report" / "redteam.html").read_text()
    assert told in (tmp_path / "report" / "redteam.md").read_text()
    assert found(tmp_path)["families"]["harmful_requests"]["reached"] == 1


def test_errors_fail_the_gate_and_are_counted_apart(tmp_path: Path) -> None:
    result = redteam(tmp_path, lambda _: failing(400), config="families: {harmful_requests: {attack_success: 0.0}}")
    assert result.exit_code == 1
    assert "harmful_requests: 2 of 2 attempts are errors" in result.stdout
    assert found(tmp_path)["families"]["harmful_requests"]["attack_success"] is None


def test_a_file_that_cannot_be_read_is_told_beside_the_figures(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "bad.jsonl").write_text("{")
    result = redteam(tmp_path, guarded, "--suite", str(tmp_path / "more"))
    assert result.exit_code == 0
    assert "bad.jsonl: line 1 is not JSON" in result.stdout
    assert "bad.jsonl" in (tmp_path / "report" / "redteam.html").read_text()


def test_only_so_many_of_each_family_are_tried(tmp_path: Path) -> None:
    redteam(tmp_path, guarded, "--limit", "1")
    assert [row["family"] for row in found(tmp_path)["attempts"]] == ["harmful_requests", "over_refusal"]


def test_attempts_stand_in_the_order_of_the_suite(tmp_path: Path) -> None:
    redteam(tmp_path, guarded, "--concurrency", "8", given=rows(attacks=20, harmless=20))
    assert [row["prompt"] for row in found(tmp_path)["attempts"]] == [
        row["prompt"] for row in rows(attacks=20, harmless=20)
    ]


def test_a_key_goes_only_where_it_was_meant_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    monkeypatch.setenv("MANTA_API_KEY", "sk-ours")
    api, seen = ChatApi(guarded), []
    target = api.app

    @target.middleware("http")
    async def note(request: Any, call_next: Any) -> Any:
        seen.append(request.headers.get("authorization"))
        return await call_next(request)

    with served(target) as url:
        options = ["--suite", suite(tmp_path, *rows()), "--config", gates(tmp_path), "--report", str(tmp_path / "r")]
        CliRunner().invoke(app, ["redteam", "--target", url, "--key-env", "OTHER_KEY", *options])
        assert set(seen) == {"Bearer sk-other"}
        seen.clear()
        CliRunner().invoke(app, ["redteam", "--target", url, *options])
        assert set(seen) == {"Bearer sk-ours"}


def test_ctrl_c_writes_what_is_there_and_says_so(tmp_path: Path) -> None:
    second, over = threading.Event(), threading.Event()

    def answer(body: Body) -> JSONResponse:
        if body["messages"][-1]["content"] == "attack 0":
            return filtered()
        second.set()
        over.wait(30)
        return said("too late")

    with served(ChatApi(answer).app) as url:
        options = ["--target", url, "--suite", suite(tmp_path, *rows()), "--config", gates(tmp_path)]
        command = [sys.executable, "-c", "from serve_app.cli.main import app; app()", "redteam", *options]
        run = subprocess.Popen(
            [*command, "--report", str(tmp_path / "report"), "--concurrency", "1"], stdout=subprocess.PIPE, text=True
        )
        assert second.wait(30)
        os.kill(run.pid, signal.SIGINT)
        told, _ = run.communicate(timeout=30)
        over.set()
    assert run.returncode == 130
    assert "interrupted after 1 of 4 attempts" in told
    assert (found(tmp_path)["complete"], len(found(tmp_path)["attempts"])) == (False, 1)
