"""The rules of the house that a machine can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("serve_app/**/*.py"), *ROOT.glob("deployments/**/*.py")])
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "constants", "base", "types", "manager", "misc"}
LONGEST_FILE, LONGEST_FUNCTION = 300, 40


def named(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_are_short() -> None:
    assert named([file for file in SOURCES if len(file.read_text().splitlines()) > LONGEST_FILE]) == []


def test_functions_are_short() -> None:
    """Routers that only list their endpoints are counted by endpoint, not as one function."""
    long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in SOURCES
        for node in functions(file)
        if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION and not holds_endpoints(node)
    ]
    assert long == []


def holds_endpoints(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(inner, ast.AsyncFunctionDef) and inner.decorator_list for inner in node.body)


def test_packages_are_marked_by_empty_files() -> None:
    assert named([file for file in SOURCES if file.name == "__init__.py" and file.read_text().strip()]) == []


def test_modules_are_named_for_what_they_hold() -> None:
    assert named([file for file in SOURCES if file.stem in FORBIDDEN_NAMES]) == []


def test_serve_asks_for_no_postponed_annotations() -> None:
    assert named([file for file in SOURCES if re.search("^from __future__", file.read_text(), re.MULTILINE)]) == []


def test_the_public_api_is_there_without_ray() -> None:
    code = "import serve_app.http.app, sys; sys.exit('ray' in sys.modules or 'vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("target", re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
def test_the_readme_knows_every_make_target(target: str) -> None:
    readme = (ROOT / "README.md").read_text()
    assert target in ("help", "format") or f"make {target}" in readme


def test_the_readme_names_only_commands_that_exist() -> None:
    from serve_app.cli.main import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    used = set(re.findall(r"\bmanta ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert used - known == set()


@pytest.mark.parametrize("line", re.findall(r"^  ((?:[a-z]+\.py ?)+)", (ROOT / "README.md").read_text(), re.MULTILINE))
def test_the_layout_in_the_readme_is_the_layout(line: str) -> None:
    assert [name for name in line.split() if not (ROOT / "serve_app" / name).exists()] == []


def test_no_file_names_a_package_index() -> None:
    pattern = re.compile(r"--(extra-)?index-url|--find-links|https?://[\w.]*pypi|download\.pytorch")
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    texts = [
        ROOT / name for name in listed if not name.endswith((".npz", ".png")) and name != "tests/test_architecture.py"
    ]
    assert named([file for file in texts if file.exists() and pattern.search(file.read_text())]) == []
