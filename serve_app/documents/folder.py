import asyncio
import os
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
        """Also what a crash left of it half written."""
        await asyncio.to_thread(self._remove, file_id)

    def _put(self, file_id: str, content: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        unfinished = self._unfinished(file_id)
        try:
            with unfinished.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(self.path(file_id))
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _remove(self, file_id: str) -> None:
        for path in (self.path(file_id), self._unfinished(file_id)):
            path.unlink(missing_ok=True)

    def _unfinished(self, file_id: str) -> Path:
        return self.root / f".{file_id}"
