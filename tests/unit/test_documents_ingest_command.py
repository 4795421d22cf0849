"""`manta ingest` against the document endpoints on a real socket."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from serve_app.cli.gathering import gather
from serve_app.cli.ingest import ingest
from tests.unit.documents import library_app, served

MOST_BYTES = 5_000


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(library_app(tmp_path_factory.mktemp("library"), MOST_BYTES)) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the command runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(url: str, *arguments: str, key: str = "ann") -> Result:
    app = typer.Typer()
    app.command()(ingest)
    return CliRunner().invoke(app, arguments, env={"MANTA_URL": url, "MANTA_API_KEY": key})


def write(path: Path, content: bytes = b"# T\n\nSome text.") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_files_and_folders_go_in_and_are_counted(url: str, folder: Path) -> None:
    write(folder / "README.md", b"# A\n\nOne.\n\n## B\n\nTwo.")
    write(folder / "docs" / "deep" / "guide.txt", b"Guide.")
    result = run(url, "README.md", "docs")
    assert result.exit_code == 0, result.output
    assert "README.md: 2 chunks" in result.output
    assert "docs/deep/guide.txt: 1 chunks" in result.output


def test_a_broken_file_is_skipped_with_its_reason_and_the_rest_goes_in(url: str, folder: Path) -> None:
    write(folder / "docs" / "good.md")
    write(folder / "docs" / "broken.pdf", b"%PDF-1.7 nothing")
    write(folder / "docs" / "large.txt", b"x " * MOST_BYTES)
    result = run(url, "docs")
    assert result.exit_code == 1
    assert "good.md: 1 chunks" in result.output
    assert "skipped docs/broken.pdf: the PDF is damaged" in result.output
    assert "skipped docs/large.txt: file: docs/large.txt has 10000 bytes; at most 5000 are taken" in result.output


def test_other_kinds_are_ignored_in_a_folder_but_a_fault_by_name(url: str, folder: Path) -> None:
    write(folder / "docs" / "good.md")
    write(folder / "docs" / "image.png")
    assert run(url, "docs").exit_code == 0
    result = run(url, "docs/image.png")
    assert result.exit_code == 1
    assert "skipped docs/image.png: not a kind that is read" in result.output


def test_a_path_that_is_not_there_is_a_fault(url: str, folder: Path) -> None:
    result = run(url, "nowhere")
    assert result.exit_code == 1
    assert "skipped nowhere: there is no such file or folder" in result.output


def test_a_packed_set_of_documents_is_unpacked(url: str, folder: Path) -> None:
    write(folder / "set.jsonl.gz", gzip.compress(b'{"text": "One."}\n{"text": "Two."}\n'))
    result = run(url, "set.jsonl.gz")
    assert result.exit_code == 0, result.output
    assert "set.jsonl: 2 chunks" in result.output


def test_a_damaged_archive_is_skipped(url: str, folder: Path) -> None:
    write(folder / "set.jsonl.gz", gzip.compress(b'{"text": "One."}\n')[:-9])
    result = run(url, "set.jsonl.gz")
    assert result.exit_code == 1
    assert "the gzip archive is damaged" in result.output


def test_no_service_is_one_sentence(folder: Path) -> None:
    write(folder / "a.md")
    result = run("http://127.0.0.1:9", "a.md")
    assert result.exit_code == 2
    assert "no service at http://127.0.0.1:9" in result.output
    assert "Traceback" not in result.output


def test_a_wrong_key_is_one_sentence(url: str, folder: Path) -> None:
    write(folder / "a.md")
    result = run(url, "a.md", key="eve")
    assert result.exit_code == 2
    assert "does not know this key" in result.output


def test_code_goes_in_but_not_what_tools_made(url: str, folder: Path) -> None:
    write(folder / "app" / "main.py", b"def main():\n    pass\n")
    write(folder / "app" / "node_modules" / "left" / "pad.js", b"const a = 1;")
    write(folder / "app" / "__pycache__" / "main.py", b"x = 1")
    result = run(url, "app")
    assert "app/main.py: 1 chunks" in result.output
    assert "pad.js" not in result.output
    assert "__pycache__" not in result.output


def test_hidden_files_are_left_out_and_none_is_taken_twice(folder: Path) -> None:
    write(folder / "docs" / ".hidden.md")
    write(folder / "docs" / ".git" / "a.md")
    seen = write(folder / "docs" / "seen.md")
    assert [file.path for file in gather((Path("docs"), seen), folder).files] == [Path("docs/seen.md")]


def test_a_name_is_the_path_below_where_the_command_runs_or_the_folder_named(folder: Path) -> None:
    write(folder / "here" / "a.md")
    write(folder / "there" / "docs" / "b.md")
    working = folder / "here"
    found = gather((working / "a.md", folder / "there" / "docs"), working)
    assert [file.name for file in found.files] == ["a.md", "docs/b.md"]
