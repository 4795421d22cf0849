"""Two gateways over PostgreSQL and Redis, under load: the benchmark's own scenarios, with fewer requests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.postgres]


def test_versions_change_on_every_gateway_and_no_request_fails(tmp_path: Path) -> None:
    """Live changes, ten operators at once, and a database that is killed and comes back. A cluster of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.models", "--quick", "--out", str(tmp_path)]
    command += ["--only", "live", "operators", "database"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode in (0, 1), run.stdout[-2000:] + run.stderr[-2000:]
    found = json.loads((tmp_path / "models.json").read_text())["found"]
    assert len(found) == 3
    assert [f"{one['name']}: {one['measured']} (asked: {one['asked']})" for one in found if not one["kept"]] == []
