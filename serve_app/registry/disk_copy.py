"""The last registry that was seen, in a file: what a gateway begins with while the database is away."""

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from serve_app.registry.snapshot import Snapshot

logger = logging.getLogger("manta")
SNAPSHOT = TypeAdapter(Snapshot)


@dataclass(frozen=True)
class DiskCopy:
    """A line with the SHA-256 of what follows and when it was read from the database, then the registry as JSON."""

    path: Path

    def read(self) -> tuple[Snapshot, float] | None:
        """The registry and the Unix second it is of; None where there is none, or none that can be trusted."""
        try:
            head, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as exc:
            logger.warning("registry: its last copy %s cannot be read (%s)", self.path, exc.strerror)
            return None
        try:
            known = json.loads(head)
            if known["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("not what was written")
            return SNAPSHOT.validate_json(body), float(known["at"])
        except (ValueError, TypeError, KeyError, ValidationError):
            self._set_aside()
            return None

    def write(self, snapshot: Snapshot, at: float) -> None:
        """All of it or nothing, whenever the machine stops. Raises OSError."""
        body = SNAPSHOT.dump_json(snapshot)
        head = json.dumps({"sha256": hashlib.sha256(body).hexdigest(), "at": at}).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # of its own name: the replicas of a machine share the path
        with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}.", delete=False) as file:
            try:
                file.write(head + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self.path)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _set_aside(self) -> None:
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        logger.warning("registry: its last copy %s is damaged; set aside as %s", self.path, damaged.name)
        try:
            self.path.replace(damaged)
        except OSError as exc:
            logger.warning("registry: %s cannot be set aside (%s)", self.path, exc.strerror)
