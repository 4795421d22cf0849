"""The virtual environment that holds tritonserver: its Python backend wants numpy 1, Manta has numpy 2."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import ClassifierUnavailable

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
OLDEST_GLIBC = (2, 35)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class TritonEnvironment:
    """Installed by `install`; `path` is the virtual environment's folder."""

    path: Path = ROOT / ".venv-triton"

    @property
    def site_packages(self) -> Path:
        return self.path / "lib" / f"python{PYTHON}" / "site-packages"

    @property
    def triton(self) -> Path:
        return self.site_packages / "pytriton" / "tritonserver"

    @property
    def executable(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.triton / "backends"

    @property
    def is_installed(self) -> bool:
        stamp = self.path / "installed"
        return stamp.is_file() and stamp.read_text() == _stamp()

    def variables(self) -> dict[str, str]:
        """What tritonserver and its Python stub need in their environment, on top of the caller's."""
        libraries = [str(self.site_packages / "nvidia_pytriton.libs"), str(python_library().parent)]
        return {
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            # The stub finds its standard library through the first `python3` on the PATH.
            "PATH": os.pathsep.join([str(self.path / "bin"), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join([str(self.site_packages), str(ROOT)]),
            "VIRTUAL_ENV": str(self.path),
        }

    def install(self) -> bool:
        """Make the environment fit `requirements.txt`; False when it did already.

        Raises ClassifierUnavailable when this machine cannot run tritonserver or pip fails.
        """
        check_machine(platform.system(), platform.machine(), platform.libc_ver()[1])
        with _one_at_a_time():
            if self.is_installed:
                return False
            _run([sys.executable, "-m", "venv", "--clear", str(self.path)])
            pip = [str(self.path / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--no-deps", "-r", str(REQUIREMENTS)])
            stub = self.triton / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
            shutil.copy2(stub, self.backends / "python")
            (self.path / "installed").write_text(_stamp())
            return True


def check_machine(system: str, machine: str, glibc: str) -> None:
    """Raises ClassifierUnavailable, naming what the `nvidia-pytriton` wheel needs and this machine lacks."""
    if (system, machine) != ("Linux", "x86_64"):
        raise ClassifierUnavailable(
            f"the nvidia-pytriton wheel holds Triton for Linux on x86_64; this is {system} on {machine}. "
            "Use classifier.backend: embedded, or run Triton's container and set classifier.triton_url"
        )
    version = tuple(int(part) for part in glibc.split(".")[:2]) if glibc else (0, 0)
    if version < OLDEST_GLIBC:
        raise ClassifierUnavailable(
            f"Triton needs glibc {'.'.join(map(str, OLDEST_GLIBC))} or newer, this machine has {glibc or 'none'} "
            "(Debian 12 and Ubuntu 22.04 are new enough). Use classifier.backend: embedded, "
            "or run Triton's container and set classifier.triton_url"
        )
    python_library()


def python_library() -> Path:
    """The shared library of this very interpreter, which the stub loads.

    With another build's library the stub starts, and then returns garbage.
    """
    name = f"libpython{PYTHON}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"]
    folders += [f"{folder}/{sysconfig.get_config_var('MULTIARCH')}" for folder in folders]
    for folder in folders:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise ClassifierUnavailable(
        f"Triton's Python backend loads {name}, and {sys.base_prefix} has none: "
        f"install the system's libpython{PYTHON}, or a Python built with --enable-shared"
    )


def _stamp() -> str:
    facts = REQUIREMENTS.read_bytes() + f"{sys.version} {sys.base_prefix}".encode()
    return hashlib.sha256(facts).hexdigest()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two services of one checkout may want the environment at once; the second waits and finds it made."""
    with REQUIREMENTS.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    # A constraints file named in the environment is Manta's, with numpy 2.
    variables = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClassifierUnavailable(
            f"the Triton environment could not be made: `{' '.join(command)}` ended with {done.returncode}: "
            f"{done.stderr.strip()[-800:]}"
        )
