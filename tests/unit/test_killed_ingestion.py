"""A process that is killed (SIGKILL) at any moment of an ingestion loses nothing, doubles nothing, shows nothing half.

The work and the promises it is held to are in `killed_ingestion`: uploads, a replaced file, one of several writes to
the index, one sent twice at once, a deletion, a detachment and changed attributes.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def killed(index: str, folder: Path, attempts: int) -> tuple[int, list[str]]:
    """How many moments were tried, and what was wrong after which."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.killed_ingestion", index, str(folder), str(attempts)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    first, *wrong = ran.stdout.splitlines()
    return json.loads(first)["tried"], wrong


def test_a_library_killed_at_any_moment_keeps_its_promises(tmp_path: Path) -> None:
    assert killed("memory", tmp_path, 16) == (16, [])


@pytest.mark.milvus
def test_a_library_on_milvus_lite_killed_at_any_moment_keeps_its_promises(tmp_path: Path) -> None:
    assert killed("lite", tmp_path, 6) == (6, [])
