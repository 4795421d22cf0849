import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folder:
    """The bytes of the files, each under its own id: what a user calls a file is never part of a path."""

    root: Path

    def path(self, file_id: str) -> Path:
        return self.root / file_id

    async def put(self, file_id: str, content: bytes) -> None:
        """The file is there whole, or not at all."""
        await asyncio.to_thread(self._put, file_id, content)

    async def get(self, file_id: str) -> bytes:
        return await asyncio.to_thread(self.path(file_id).read_bytes)

    async def delete(self, file_id: str) -> None:
        await asyncio.to_thread(self.path(file_id).unlink, missing_ok=True)

    def _put(self, file_id: str, content: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=self.root, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(unfinished).replace(self.path(file_id))
        except OSError:
            Path(unfinished).unlink(missing_ok=True)
            raise
