"""Files that nobody wrote in good faith, through the official client and the real parser process: each is refused or
read in bounded time and memory, with a reason, and the store is as it was."""

import gzip
import io
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openai.types.vector_stores import VectorStoreFile

from serve_app.adapters.catalog import Catalog
from serve_app.adapters.memory import MemoryIndex
from serve_app.adapters.milvus import MilvusIndex
from serve_app.http import errors
from serve_app.http.files import files_router
from serve_app.http.vector_stores import vector_stores_router
from serve_app.library import Library
from serve_app.ports import Index
from serve_app.settings import MilvusSettings, RetrieverSettings
from tests.unit.documents import authenticate, bag_of_words, library_app, pdf, presentation, served, word_document
from tests.unit.hostile_documents import LAUGHS, SHOWN, deflated, lying, page_of, paragraph, pdf_of, rezipped, word

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
GOOD = b"# Rollback\n\nThe weights roll back with one command."
MOST_SECONDS = 30
"""Of one file, on cores that others keep busy; alone they take below two."""
MB = 2**20


@pytest.fixture(scope="module", params=["memory", pytest.param("lite", marks=pytest.mark.milvus)])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Index:
    if request.param == "memory":
        return MemoryIndex()
    return MilvusIndex(MilvusSettings(uri=f"{tmp_path_factory.mktemp('lite')}/milvus.db"), 384)


@pytest.fixture(scope="module")
def app(index: Index, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The document endpoints with the limits, and with the parser process, of the service."""
    folder = tmp_path_factory.mktemp("hostile")
    settings = RetrieverSettings(
        catalog_url=f"sqlite+aiosqlite:///{folder}/catalog.db", files_path=str(folder / "files")
    )
    library = Library(Catalog(settings.catalog_url), index, bag_of_words, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await library.open()
        yield
        await library.close()
        if isinstance(index, MilvusIndex):
            await index.close()

    made = FastAPI(lifespan=lifespan)
    errors.install(made)
    made.include_router(files_router(library, authenticate, settings.max_file_bytes))
    made.include_router(vector_stores_router(library, authenticate, library.search, bag_of_words))
    return made


@pytest.fixture(scope="module")
def ann(app: FastAPI) -> Iterator[openai.OpenAI]:
    with TestClient(app, base_url="http://manta.test/v1/") as transport:
        yield openai.OpenAI(api_key="ann", base_url="http://manta.test/v1", http_client=transport, max_retries=0)


@pytest.fixture(scope="module")
def store(ann: openai.OpenAI) -> str:
    store_id = ann.vector_stores.create(name="s").id
    assert ingest(ann, store_id, "good.md", GOOD).status == "completed"
    return store_id


def ingest(client: openai.OpenAI, store_id: str, name: str, content: bytes) -> VectorStoreFile:
    return client.vector_stores.files.upload_and_poll(
        vector_store_id=store_id, file=(name, content), poll_interval_ms=20
    )


def texts(client: openai.OpenAI, store_id: str, query: str) -> list[str]:
    return [part.text for found in client.vector_stores.search(store_id, query=query) for part in found.content]


Hostile = Callable[[], bytes]
DEFLATE = b"/Filter/FlateDecode"
SELF = b"/XObject<</X 6 0 R>>"
REFUSED: dict[str, tuple[str, Hostile, str]] = {
    "a bomb of zeros": ("a.docx", lambda: word(" " * 60 * MB), "damaged"),
    "a bomb of slides": (
        "a.pptx",
        lambda: rezipped(presentation(), {}, {"ppt/media/image1.png": bytes(201 * MB)}),
        "unpacks to 201 MiB",
    ),
    "an archive of 10,001 parts": (
        "a.docx",
        lambda: rezipped(word_document(), {}, {f"x{number}": b"" for number in range(10_001)}),
        "at most 200 MiB in 10000 parts",
    ),
    "a part that unpacks to more than it says": (
        "a.docx",
        lambda: lying(word(paragraph("x" * 1_000) * 10_000), "word/document.xml", 1_000),
        "damaged",
    ),
    "a billion laughs in Word": ("a.docx", lambda: word(paragraph("&a11;"), LAUGHS), "damaged"),
    "a billion laughs in PowerPoint": (
        "a.pptx",
        lambda: rezipped(presentation(), {}, {"ppt/slides/slide1.xml": f"{LAUGHS}<a>&a11;</a>"}),
        "damaged",
    ),
    "one long entity many times": (
        "a.docx",
        lambda: word(paragraph("&a;" * 50_000), f"<!DOCTYPE x [<!ENTITY a '{'a' * 100_000}'>]>"),
        "damaged",
    ),
    "a file of the machine as an entity": (
        "a.docx",
        lambda: word(paragraph("before &x; after"), "<!DOCTYPE x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"),
        "declares entities of its own",
    ),
    "elements without end": ("a.docx", lambda: word("<w:p>" * 100_000), "damaged"),
    "a text of one node": ("a.docx", lambda: word(paragraph("word " * 4 * MB)), "damaged"),
    "half a Word document": ("a.docx", lambda: word_document()[:3_000], "damaged"),
    "half a presentation": ("a.pptx", lambda: presentation()[:9_000], "damaged"),
    "a PDF with a password": ("a.pdf", lambda: pdf("secret", password="hunter2"), "protected by a password"),
    "a Word document with a password": ("a.docx", lambda: b"\xd0\xcf\x11\xe0" + bytes(600), "protected by a password"),
    "a PDF of images": ("a.pdf", lambda: pdf("", ""), "no text, only images"),
    "a PDF that unpacks to 200 MB": ("a.pdf", lambda: page_of(deflated(bytes(200 * MB)), filters=DEFLATE), "damaged"),
    "a PDF packed twice": (
        "a.pdf",
        lambda: page_of(deflated(deflated(bytes(300 * MB))), filters=b"/Filter[/FlateDecode/FlateDecode]"),
        "damaged",
    ),
    "pages that hold themselves": (
        "a.pdf",
        lambda: pdf_of(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>"),
        "damaged",
    ),
    "pages that are a reference to themselves": (
        "a.pdf",
        lambda: pdf_of(b"<</Type/Catalog/Pages 2 0 R>>", b"2 0 R"),
        "damaged",
    ),
    "two billion pages": (
        "a.pdf",
        lambda: pdf_of(
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 2000000000>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>",
        ),
        "no text",
    ),
    "a PDF of noise": ("a.pdf", lambda: b"%PDF-1.7\n" + b"1 0 obj\n" * 100_000, "damaged"),
    "a PDF named .txt": ("a.txt", lambda: pdf("x"), "the content is a PDF"),
    "a picture named .md": ("a.md", lambda: PNG, "the content is a PNG image"),
    "a picture named .html": ("a.html", lambda: PNG, "the content is a PNG image"),
    "an archive named .csv": ("a.csv", word_document, "the content is a ZIP archive"),
    "a gzip archive named .txt": ("a.txt", lambda: gzip.compress(b"text"), "the content is a gzip archive"),
    "a presentation named .docx": ("a.docx", presentation, "another kind of archive"),
    "a text named .pdf": ("a.pdf", lambda: b"hello", "the content is something else"),
    "a program": ("setup.exe", lambda: b"MZ\x90\x00", "is not a kind of document"),
    "noise named .html": ("a.html", lambda: bytes(range(128, 256)) * 9, "it is not UTF-8 text"),
    "UTF-8 with a wrong byte": (
        "a.md",
        lambda: "Größe über alles".encode() + b"\xff",
        "(byte 19)",
    ),
    "half a UTF-16 text": ("a.txt", lambda: "text".encode("utf-16")[:-1], "it is not UTF-16 text"),
    "UTF-16 without its mark": ("a.txt", lambda: "text".encode("utf-16-le"), "the content is binary"),
    "NUL bytes": ("a.txt", lambda: b"text\x00" * 100, "the content is binary"),
    "an empty file": ("a.txt", lambda: b"", "empty"),
    "blanks": ("a.md", lambda: b" \n\t" * 1_000, "the file is empty"),
    "signs that nobody sees": ("a.md", lambda: "\u200b\ufeff\u00ad".encode() * 99, "no text"),
    "a page of scripts": ("a.html", lambda: b"<script>evil()</script><!-- evil -->", "no text"),
    "a page of hidden text": ("a.html", lambda: b"<p hidden>evil</p>", "no text in it; hidden elements were left out"),
    "a million columns": ("a.csv", lambda: b"a," * MB, "row 1 has 1048577 columns"),
    "a quote that never ends": ("a.csv", lambda: b'a,b\n"' + b"x,y\n" * MB, "quotes must be closed"),
    "lists without end": ("a.md", lambda: b"- " * 50_000 + b"a", "nested too deeply"),
    "quotations without end": ("a.md", lambda: b">" * MB + b"a", "nested too deeply"),
    "elements of a page without end": ("a.html", lambda: b"<div>" * 20_000 + b"deep", "nested too deeply"),
    "JSON without end": ("a.jsonl", lambda: b'{"text":' + b"[" * MB, "line 1: not JSON"),
    "a number without end": ("a.jsonl", lambda: b'{"text": "a", "n": ' + b"9" * MB + b"}", "line 1: not JSON"),
    "JSON of something else": ("a.jsonl", lambda: b"[1]\n" * 100_000, "a JSON object is expected"),
}
READ: dict[str, tuple[str, Hostile, str]] = {
    "a cell over a hundred million columns": (
        "a.docx",
        lambda: word(
            "<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val='100000000'/></w:tcPr>"
            f"{paragraph('wide1')}</w:tc><w:tc/></w:tr></w:tbl>"
        ),
        "wide1",
    ),
    "tables in tables": (
        "a.docx",
        lambda: word("<w:tbl><w:tr><w:tc>" * 60 + paragraph("deep1") + "</w:tc></w:tr></w:tbl>" * 60),
        "deep1",
    ),
    "an archive in an archive": (
        "a.docx",
        lambda: rezipped(word(paragraph("nested1")), {}, {"word/media/a.zip": word(" " * 30 * MB)}),
        "nested1",
    ),
    "a form that draws itself": (
        "a.pdf",
        lambda: page_of(
            b"/X Do " + SHOWN,
            b"<</Type/XObject/Subtype/Form/Resources<<%s>>/Length 11>>stream\n/X Do /X Do\nendstream" % SELF,
            resources=SELF,
        ),
        "Hello",
    ),
    "bookmarks that follow themselves": (
        "a.pdf",
        lambda: page_of(
            SHOWN,
            b"<</First 7 0 R/Last 7 0 R>>",
            b"<</Title(a)/Next 7 0 R/First 7 0 R/Dest[3 0 R/Fit]>>",
        ).replace(b"/Pages 2 0 R>>", b"/Pages 2 0 R/Outlines 6 0 R>>", 1),
        "Hello",
    ),
    "a thousand pages of one drawing": ("a.pdf", lambda: page_of(SHOWN, pages=1_000), "Hello"),
    "UTF-16": ("a.txt", lambda: "sixteen1 bits".encode("utf-16"), "sixteen1"),
    "one line of 200,000 characters": ("a.txt", lambda: b"line1 " + b"word " * 40_000, "line1"),
    "one word of 40,000 brackets": ("a.json", lambda: b'{"word1": "' + b"[" * 40_000 + b'"}', "word1"),
    "abbreviations": ("a.txt", lambda: b"See e.g. A " * 15_000, "See"),
    "blanks without end": ("a.py", lambda: b"blank1 = 1" + b" " * MB + b"\ny = 2", "blank1"),
    "signs of no token": ("a.txt", lambda: "\u200b\n\n".encode() * 200_000 + b"token1", "token1"),
    "comments that never end": ("a.md", lambda: b"begun1\n\n<div>\n" + b"<!-- a " * 150_000, "begun1"),
    "a header of 2,000 columns": ("a.csv", lambda: b",".join([b"h" * 100] * 2_000) + b"\n" + b"x\n" * 9_000, "x"),
    "a title of 40,000 characters": (
        "a.jsonl",
        lambda: b'{"title": "%s", "text": "%s"}' % (b"t " * 20_000, b"paragraph1 " * 10_000),
        "paragraph1",
    ),
    "a heading of 100,000 characters": ("a.md", lambda: b"# " + b"head " * 20_000 + b"\n\nunder1\n", "under1"),
    "a billion laughs in a page": ("a.html", lambda: f"{LAUGHS}<p>laugh1 &a11;</p>".encode(), "laugh1"),
    "many attributes": (
        "a.html",
        lambda: b"<p " + b"".join(b"a%d=1 " % number for number in range(50_000)) + b">attr1",
        "attr1",
    ),
    "Java without end": ("a.java", lambda: b"a b c d e f g h(" * 5_000, "g"),
}


IN_MEMORY = pytest.mark.parametrize("index", ["memory"], indirect=True)
"""Of what a parser does with a file an index sees nothing."""


@IN_MEMORY
@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_with_its_reason(ann: openai.OpenAI, store: str, name: str) -> None:
    filename, make, reason = REFUSED[name]
    content = make()
    begun = time.monotonic()
    attached = ingest(ann, store, filename, content)
    assert time.monotonic() - begun < MOST_SECONDS
    assert attached.status == "failed"
    assert attached.last_error is not None
    assert reason in attached.last_error.message
    assert len(attached.last_error.message) < 600 and attached.last_error.message.isprintable()
    assert texts(ann, store, "weights roll back")[0] == "The weights roll back with one command."


@IN_MEMORY
@pytest.mark.parametrize("name", READ)
def test_a_hostile_file_that_can_be_read_is_read(ann: openai.OpenAI, name: str) -> None:
    """In a store of its own: what is searched for is all there is."""
    filename, make, word_in_it = READ[name]
    content = make()
    own = ann.vector_stores.create(name=name).id
    begun = time.monotonic()
    attached = ingest(ann, own, filename, content)
    assert time.monotonic() - begun < MOST_SECONDS
    assert attached.status == "completed", attached.last_error
    assert any(word_in_it in text for text in texts(ann, own, word_in_it))
    ann.vector_stores.delete(own)


def test_the_store_takes_a_good_file_after_all_of_them(ann: openai.OpenAI, store: str) -> None:
    assert ingest(ann, store, "next.md", b"# Next\n\nThe orchard ripens in summer.").status == "completed"
    assert texts(ann, store, "orchard")[0] == "The orchard ripens in summer."
    assert texts(ann, store, "weights roll back")[0] == "The weights roll back with one command."


NAMES = {
    "a way up": "../../../etc/passwd.md",
    "an absolute path": "/etc/passwd.md",
    "backslashes": "..\\..\\windows\\system.md",
    "a device": "CON.md",
    "a flag": "-rf.md",
    "quotes and a semicolon": "a';DROP TABLE files;--.md",
    "a longest name": "n" * 1_021 + ".md",
    "another script": "\u0437\u0432\u0456\u0442.md",
    "joined letters": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.md",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_strange_name_is_only_a_name(ann: openai.OpenAI, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = ann.vector_stores.create().id
    attached = ingest(ann, own, name, b"named1 by a stranger")
    assert attached.status == "completed", attached.last_error
    assert [found.filename for found in ann.vector_stores.search(own, query="named1")] == [name]
    assert ann.files.retrieve(attached.id).filename == name
    written = {path.name for path in tmp_path_factory.getbasetemp().rglob("*")}
    assert not {"passwd.md", "system.md", name} & written
    ann.vector_stores.delete(own)


@pytest.mark.parametrize(
    "name",
    ["n" * 4_000 + ".md", "a\u202egnp.md", "a\x1b[2Jb.md", " "],
    ids=["long", "rtl", "esc", "blank"],
)
def test_a_name_that_deceives_is_refused(ann: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.BadRequestError, match="1 to 1024 printable characters"):
        ann.files.create(file=(name, b"x"), purpose="assistants")


def test_the_same_file_twice_at_once_is_one_file(ann: openai.OpenAI) -> None:
    own = ann.vector_stores.create().id
    together(lambda: ingest(ann, own, "same.md", b"# Same\n\nOnly once1."), times=8)
    assert len(list(ann.vector_stores.files.list(own))) == 1
    assert texts(ann, own, "once1") == ["Only once1."]
    ann.vector_stores.delete(own)


def test_two_versions_at_once_end_as_one_of_them(ann: openai.OpenAI) -> None:
    own = ann.vector_stores.create().id
    numbers = itertools.count()
    together(lambda: ingest(ann, own, "same.md", b"# Same\n\nVersion v%d." % next(numbers)), times=6)
    [found] = texts(ann, own, "version")
    assert found in {f"Version v{number}." for number in range(6)}
    assert len(list(ann.vector_stores.files.list(own))) == 1
    ann.vector_stores.delete(own)


def together(work: Callable[[], object], times: int) -> None:
    """The work in so many threads, all begun at once; none of them fails."""
    ready = threading.Barrier(times)
    failed: list[BaseException] = []

    def begin() -> None:
        ready.wait()
        try:
            work()
        except openai.NotFoundError:
            pass  # replaced by a later version while it was followed
        except openai.APIError as exc:
            failed.append(exc)

    threads = [threading.Thread(target=begin) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.fixture
def sparse(tmp_path: Path) -> io.BufferedReader:
    """500 MB that take no disk."""
    path = tmp_path / "large.txt"
    with path.open("wb") as stream:
        stream.truncate(500 * 10**6)
    return path.open("rb")


def test_a_file_of_500_megabytes_is_refused_while_it_arrives(sparse: io.BufferedReader, tmp_path: Path) -> None:
    with served(library_app(tmp_path, most_bytes=50 * MB)) as address:
        client = openai.OpenAI(api_key="ann", base_url=f"{address}/v1", max_retries=0)
        client.files.list()
        before = peak_bytes(reset=True)
        with pytest.raises(openai.APIStatusError) as refused, sparse:
            client.files.create(file=("large.txt", sparse), purpose="assistants")
        held = peak_bytes() - before
        assert list(client.files.list()) == []
    assert refused.value.status_code == 413
    assert "larger than 52428800 bytes" in str(refused.value)
    assert held < 100 * MB


def peak_bytes(*, reset: bool = False) -> int:
    """Most memory this process has held since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_many_tiny_files_are_one_batch(ann: openai.OpenAI) -> None:
    own = ann.vector_stores.create().id
    files = [(f"{number}.md", b"Tiny file t%d." % number) for number in range(200)]
    begun = time.monotonic()
    batch = ann.vector_stores.file_batches.upload_and_poll(own, files=files, poll_interval_ms=50)
    assert time.monotonic() - begun < 60
    assert (batch.file_counts.completed, batch.file_counts.total) == (200, 200)
    assert texts(ann, own, "t199")[0] == "Tiny file t199."
    ann.vector_stores.delete(own)
