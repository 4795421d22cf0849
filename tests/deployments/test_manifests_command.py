from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli.manifests import manifests_app
from tests.deployments.rendered_manifests import COMMITTED, ROOT

CONFIG = str(ROOT / "configs/a100.yaml")


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    done = CliRunner().invoke(manifests_app, ["render", "--config", CONFIG, "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    return tmp_path


def check(output: Path) -> tuple[int, str]:
    done = CliRunner().invoke(manifests_app, ["render", "--config", CONFIG, "--output", str(output), "--check"])
    return done.exit_code, done.output


def test_the_committed_folder_passes_the_check() -> None:
    assert check(COMMITTED)[0] == 0


def test_what_was_just_written_passes_the_check(rendered: Path) -> None:
    assert check(rendered)[0] == 0


def test_an_edited_file_is_named(rendered: Path) -> None:
    edited = rendered / "base/rayservice.yaml"
    edited.write_text(edited.read_text().replace("maxReplicas: 4", "maxReplicas: 5"))

    code, output = check(rendered)

    assert code == 1
    assert "base/rayservice.yaml" in output
    assert "kustomization.yaml" not in output


def test_a_missing_file_and_a_leftover_are_named(rendered: Path) -> None:
    (rendered / "overlays/production/namespace.yaml").rename(rendered / "base/old.yaml")

    code, output = check(rendered)

    assert code == 1
    assert "overlays/production/namespace.yaml" in output
    assert "base/old.yaml" in output


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    assert check(tmp_path)[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("applications: []\n")

    done = CliRunner().invoke(manifests_app, ["render", "--config", str(wrong), "--output", str(tmp_path)])

    assert done.exit_code == 1
    assert "wrong.yaml" in done.output
    assert "applications" in done.output
