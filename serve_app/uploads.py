import asyncio
import hashlib
import uuid
from weakref import WeakValueDictionary

from serve_app.adapters.catalog import Catalog
from serve_app.documents.document import cleaned
from serve_app.documents.folder import Folder
from serve_app.documents.records import StoredFile
from serve_app.errors import BodyTooLarge, InvalidRequest, NotFound

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
"""They shape Persian and Hindi words and join emoji; nothing else that is invisible may stand in a name."""
LONGEST_NAME = 1024


class Uploads:
    """The files as they were sent: bytes in the folder, and what the catalog knows of them."""

    def __init__(self, catalog: Catalog, folder: Folder, most_bytes: int) -> None:
        self._catalog = catalog
        self._folder = folder
        self._most_bytes = most_bytes
        self._arriving: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Remove the bytes of files that a crash kept from being known, or from being gone."""
        for file_id in await self._catalog.files.loose():
            await self.discard(file_id)

    async def create(self, tenant: str, name: str, content: bytes, purpose: str) -> StoredFile:
        """The same bytes under the same name are the same file, whoever of the tenant sends them, and when."""
        name = _checked_name(name)
        if purpose not in PURPOSES:
            raise InvalidRequest(f"purpose: {purpose!r} is not one of {', '.join(PURPOSES)}").at("purpose")
        if len(content) > self._most_bytes:
            raise BodyTooLarge(f"file: {name} has {len(content)} bytes; at most {self._most_bytes} are taken").at(
                "file"
            )
        sha256 = (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
        async with self._arriving.setdefault((tenant, name, purpose, sha256), asyncio.Lock()):
            known = await self._catalog.files.find(tenant=tenant, name=name, purpose=purpose, sha256=sha256)
            if known:
                if not self._folder.path(known.id).exists():
                    await self._folder.put(known.id, content)
                return known
            file_id = f"file-{uuid.uuid4().hex[:24]}"
            await self._catalog.files.expect(file_id)
            await self._folder.put(file_id, content)
            return await self._catalog.files.add(
                tenant=tenant, file_id=file_id, name=name, purpose=purpose, size=len(content), sha256=sha256
            )

    async def content(self, tenant: str, file_id: str) -> bytes:
        await self._catalog.files.get(tenant, file_id)
        try:
            return await self._folder.get(file_id)
        except FileNotFoundError as exc:
            raise NotFound(f"the content of file {file_id!r} is gone; upload it again") from exc

    async def discard(self, file_id: str) -> None:
        """The bytes of a file that is not known any more."""
        await self._folder.delete(file_id)
        await self._catalog.files.forget(file_id)


def _checked_name(name: str) -> str:
    """A name for people, as it came; it never becomes a path."""
    name = cleaned(name).strip()
    if not name or len(name) > LONGEST_NAME or not name.translate(JOINERS).isprintable():
        raise InvalidRequest(f"file: a file needs a name of 1 to {LONGEST_NAME} printable characters").at("file")
    return name
