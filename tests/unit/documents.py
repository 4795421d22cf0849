"""Builders for tests about documents."""

import asyncio
import hashlib
import io
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docx
import numpy as np
import pptx
import uvicorn
from fastapi import FastAPI, Request
from numpy.typing import NDArray
from pptx.util import Cm
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.memory import MemoryIndex
from serve_app.documents.chunk import excerpts
from serve_app.documents.parse import parse
from serve_app.documents.parser import Parsed
from serve_app.errors import Unauthenticated
from serve_app.http import errors
from serve_app.http.files import files_router
from serve_app.http.vector_stores import vector_stores_router
from serve_app.ingestion import Encode
from serve_app.library import Library
from serve_app.ports import Index
from serve_app.settings import RetrieverSettings
from serve_app.turn import Caller


def word_count(text: str) -> int:
    return len(text.split())


@dataclass(frozen=True)
class InlineParser:
    """The parser without its process; a token is a word."""

    most_tokens: int = 50

    async def parse(self, name: str, path: Path, most_tokens: int | None = None) -> Parsed:
        most = min(self.most_tokens, most_tokens or self.most_tokens)
        reading = parse(name, await asyncio.to_thread(path.read_bytes))
        cut = [excerpts(document, count=word_count, most_tokens=most) for document in reading.documents]
        return Parsed(excerpts=tuple(one for part in cut for one in part), skipped=reading.skipped)

    async def close(self) -> None:
        """Holds nothing."""


async def bag_of_words(texts: tuple[str, ...]) -> NDArray[np.float32]:
    """Texts with words in common are near each other."""
    rows = np.full((len(texts), 384), 1e-6, np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().replace(".", " ").split():
            row[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % 384] += 1
    normalised: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


def pdf(*pages: str, bookmarks: tuple[tuple[str, int], ...] = (), password: str = "", title: str = "") -> bytes:
    """A PDF with one text per page, a line of it per line; bookmarks are (title, page from 0)."""
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(595, 842)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        lines = " ".join(f"({line}) Tj T*" for line in text.split("\n"))
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 14 TL 72 720 Td {lines} ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    for name, number in bookmarks:
        writer.add_outline_item(title=name, page_number=number)
    if title:
        writer.add_metadata({"/Title": title})
    if password:
        writer.encrypt(password, algorithm="AES-256")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def word_document() -> bytes:
    """A heading, a paragraph, a list and a table."""
    made = docx.Document()
    made.add_heading("Operations", 1)
    made.add_paragraph("Keep calm.")
    made.add_heading("Rollback", 2)
    made.add_paragraph("Stop traffic", style="List Bullet")
    made.add_paragraph("Switch back", style="List Bullet")
    table = made.add_table(2, 2)
    for at, text in enumerate(("step", "who", "stop", "ops")):
        table.cell(at // 2, at % 2).text = text
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def presentation() -> bytes:
    """Two slides: bullets, a table and notes; a title alone."""
    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = "Rollback"
    text = slide.placeholders[1].text_frame
    text.text = "Stop traffic"
    below = text.add_paragraph()
    below.text, below.level = "Tell the users", 1
    table = slide.shapes.add_table(2, 2, 0, Cm(12), Cm(10), Cm(2)).table
    for at, cell in enumerate(("step", "who", "stop", "ops")):
        table.cell(at // 2, at % 2).text = cell
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    made.slides.add_slide(made.slide_layouts[5]).shapes.title.text = "Questions"
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def authenticate(request: Request) -> Caller:
    """The key is the tenant."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key not in ("ann", "bob"):
        raise Unauthenticated("no such key")
    return Caller(tenant=key, key_id=key)


def library_app(folder: Path, most_bytes: int) -> FastAPI:
    """The document endpoints over a library in `folder`, with an index in memory."""
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{folder}/catalog.db",
        files_path=str(folder / "files"),
        max_file_bytes=most_bytes,
    )
    library = Library(Catalog(settings.catalog_url), MemoryIndex(), bag_of_words, settings, InlineParser())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await library.open()
        yield
        await library.close()

    app = FastAPI(lifespan=lifespan)
    errors.install(app)
    app.include_router(files_router(library, authenticate, most_bytes))
    app.include_router(vector_stores_router(library, authenticate, library.search, bag_of_words))
    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of the app on a real socket."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # a client may come before the server has begun
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def kept_in(folder: Path) -> RetrieverSettings:
    """A library's settings, everything of it below one folder."""
    return RetrieverSettings(catalog_url=f"sqlite+aiosqlite:///{folder}/catalog.db", files_path=str(folder / "files"))


@asynccontextmanager
async def opened(settings: RetrieverSettings, index: Index, encode: Encode = bag_of_words) -> AsyncIterator[Library]:
    """A library whose documents are parsed in this process."""
    library = Library(Catalog(settings.catalog_url), index, encode, settings, InlineParser())
    await library.open()
    try:
        yield library
    finally:
        await library.close()
