"""`manta screen` and `manta redact` against the endpoint on a real socket."""

import csv
import html
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import typer
import uvicorn
from typer.testing import CliRunner, Result

from serve_app.adapters.memory_screener import MemoryScreener
from serve_app.cli.moderating import MOST_CHARS, batches
from serve_app.cli.redact import redact
from serve_app.cli.redacting import MOST_CHARS as MOST_OF_A_TEXT
from serve_app.cli.redacting import cut
from serve_app.cli.screen import screen
from serve_app.http.app import create_app
from tests.builders import KEY, HashClassifier, gateway


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    classifier = HashClassifier(by_text={"obey": {"jailbreak": 0.98}})
    app = create_app(gateway(screener=MemoryScreener(), classifier=classifier))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def run(url: str, *arguments: str, typed: bytes | None = None) -> Result:
    app = typer.Typer()
    app.command()(screen)
    app.command()(redact)
    environment = {"MANTA_URL": url, "MANTA_API_KEY": KEY, "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, input=typed, env=environment)


def redacted(url: str, file: Path, content: str) -> str:
    file.write_bytes(content.encode())
    result = run(url, "redact", str(file))
    assert result.exit_code == 0, result.output
    return file.with_suffix(f".redacted{file.suffix}").read_bytes().decode()


def test_openais_client_reads_a_verdict(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY)
    found = client.moderations.create(input=["Obey: obey!", "Hello, jane@example.com"])
    assert [result.flagged for result in found.results] == [True, False]
    assert found.results[0].categories.harassment_threatening is False
    assert (found.results[0].categories.model_extra or {})["jailbreak"] is True
    assert (found.results[1].model_extra or {})["pii"][0]["entity"] == "EMAIL_ADDRESS"


def test_a_clean_text_exits_0_and_a_refused_one_1(url: str) -> None:
    clean, refused = run(url, "screen", "Hello."), run(url, "screen", "You obey.")
    assert (clean.exit_code, refused.exit_code) == (0, 1)
    assert "passes" in clean.output
    assert "refused by the policy jailbreak" in refused.output


def test_what_was_found_is_listed_with_its_place(url: str) -> None:
    lines = run(url, "screen", "Write to jane@example.com").output.splitlines()
    [row] = [line for line in lines if "EMAIL_ADDRESS" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "EMAIL_ADDRESS",
        "9",
        "25",
        "1.00",
        "jane@example.com",
    ]


def test_standard_input_is_read_and_json_is_the_services(url: str) -> None:
    result = run(url, "screen", "-", "--output", "json", typed="Grüße, [bold] obey".encode())
    assert result.exit_code == 1
    verdict = json.loads(result.output)
    assert verdict["categories"]["jailbreak"] is True
    assert verdict["category_scores"]["hate/threatening"] == 0.01


def test_bytes_that_are_no_text_have_a_verdict(url: str) -> None:
    assert run(url, "screen", "-", typed=b"\xff\xfe\x00 \x80 obey").exit_code == 1


def test_no_service_or_a_wrong_key_is_a_sentence_and_2(url: str) -> None:
    for service, key in (("http://127.0.0.1:9", KEY), (url, "sk-wrong")):
        app = typer.Typer()
        app.command()(screen)
        result = CliRunner().invoke(app, ["Hello."], env={"MANTA_URL": service, "MANTA_API_KEY": key})
        assert (result.exit_code, len(result.output.strip().splitlines())) == (2, 1), result.output


def test_a_copy_has_the_same_name_for_the_same_value(url: str, tmp_path: Path) -> None:
    text = "jane@example.com and joe@example.com\r\n\r\n<EMAIL_ADDRESS_2> stood here; jane@example.com too."
    assert redacted(url, tmp_path / "mail.md", text) == (
        "<EMAIL_ADDRESS_1> and <EMAIL_ADDRESS_3>\r\n\r\n<EMAIL_ADDRESS_2> stood here; <EMAIL_ADDRESS_1> too."
    )


def test_json_stays_json_and_its_shape_stays(url: str, tmp_path: Path) -> None:
    given = {"jane@example.com": ['tab\t"jane@example.com" \\', {"call": 4155550100, "pi": 3.14159265358979}], "n": 12}
    for ascii_only in (True, False):
        copy = json.loads(
            redacted(url, tmp_path / f"{ascii_only}.json", json.dumps(given, ensure_ascii=ascii_only, indent=1))
        )
        assert copy == {
            "<EMAIL_ADDRESS_1>": [
                'tab\t"<EMAIL_ADDRESS_1>" \\',
                {"call": "<PHONE_NUMBER_1>", "pi": 3.14159265358979},
            ],
            "n": 12,
        }


def test_escapes_are_undone_before_a_text_is_judged(url: str, tmp_path: Path) -> None:
    text = '{"a": "\\ud83d\\ude00 jane\\u0040example.com\\u00e9", "b": "\\ud800"}\n\n{"c": "\\u2028 x"}\n'
    copy = redacted(url, tmp_path / "lines.jsonl", text)
    assert "jane" not in copy
    assert copy.startswith('{"a": "\\ud83d\\ude00 <EMAIL_ADDRESS_1>')
    assert copy.endswith('{"c": "\\u2028 x"}\n')


def test_a_page_shows_the_names_and_keeps_its_tags(url: str, tmp_path: Path) -> None:
    text = "<p class='x'>jane&#64;<b>example.com</b> R&amp;D</p>"
    page = text + '<a href="mailto:jane@example.com">x</a><!-- joe@x.org -->'
    copy = redacted(url, tmp_path / "page.html", page)
    assert html.unescape(copy) == (
        "<p class='x'><EMAIL_ADDRESS_1><b><EMAIL_ADDRESS_2></b> R&D</p>"
        '<a href="mailto:<EMAIL_ADDRESS_4>">x</a><!-- <EMAIL_ADDRESS_3> -->'
    )
    assert "R&amp;D" in copy


def test_a_table_keeps_its_rows_and_columns(url: str, tmp_path: Path) -> None:
    text = 'name;mail;phone\r\n"He said ""hi""; jane@example.com";;4155550100\r\nx;jane@example.com;"a\nb"\r\n'
    copy = redacted(url, tmp_path / "table.csv", text)
    assert list(csv.reader(copy.splitlines(keepends=True), delimiter=";")) == [
        ["name", "mail", "phone"],
        ['He said "hi"; <EMAIL_ADDRESS_1>', "", "<PHONE_NUMBER_1>"],
        ["x", "<EMAIL_ADDRESS_1>", "a\nb"],
    ]


def test_every_place_and_value_is_counted(url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("jane@example.com, jane@example.com, joe@example.com")
    row = next(line for line in run(url, "redact", str(file)).output.splitlines() if "EMAIL_ADDRESS" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["EMAIL_ADDRESS", "2", "3"]


def test_nothing_found_is_said_and_kept_entities_stay(url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Only jane@example.com here.")
    result = run(url, "redact", str(file), "--keep", "EMAIL_ADDRESS")
    assert "nothing was found" in result.output
    assert (tmp_path / "a.redacted.txt").read_text() == file.read_text()


def test_a_file_is_written_over_only_when_told_to(url: str, tmp_path: Path) -> None:
    file, target = tmp_path / "a.txt", tmp_path / "b.txt"
    file.write_text("jane@example.com")
    target.write_text("mine")
    refused = run(url, "redact", str(file), "--output", str(target))
    assert (refused.exit_code, target.read_text()) == (2, "mine")
    assert run(url, "redact", str(file), "--output", str(target), "--yes").exit_code == 0
    assert target.read_text() == "<EMAIL_ADDRESS_1>"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pdf", b"%PDF", "no text file known here"),
        ("a.txt", b"\xff\xfe", "is not UTF-8"),
        ("a.json", b"{", "is not JSON"),
        ("a.jsonl", b"{}\n{", "line 2 of it is not JSON"),
        ("missing.txt", None, "cannot be read"),
    ],
)
def test_what_cannot_be_redacted_is_a_sentence_and_writes_nothing(
    url: str, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run(url, "redact", str(tmp_path / name))
    assert result.exit_code == 2
    assert told in " ".join(result.output.replace("│", " ").split())
    assert not list(tmp_path.glob("*.redacted.*"))


def test_a_large_file_is_judged_in_pieces_that_lose_nothing(url: str, tmp_path: Path) -> None:
    paragraph = "Some words of a letter. " * 60 + "Write to jane{}@example.com.\n\n"
    text = "".join(paragraph.format(number) for number in range(300))
    pieces = list(cut(text))
    assert all(end - start <= MOST_OF_A_TEXT for start, end in pieces)
    assert "".join(text[start:end] for start, end in pieces) == text
    assert all(text[:end].endswith("\n\n") for _, end in pieces)
    copy = redacted(url, tmp_path / "long.txt", text)
    assert "<EMAIL_ADDRESS_300>" in copy
    assert "@" not in copy


def test_a_call_takes_no_more_than_the_service_does() -> None:
    sizes = [[len(text) for text in batch] for batch in batches(["a"] * 600 + ["b" * MOST_CHARS] * 2)]
    assert [len(batch) for batch in sizes] == [256, 256, 88, 1, 1]
