"""The process that reads documents, for real."""

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serve_app.documents.document import Refusal
from serve_app.documents.parser import ParserProcess
from serve_app.documents.tokens import LONGEST_COUNTED, MOST_CHARACTERS, minilm_tokenizer, token_count
from serve_app.documents.worker import SPENT_BYTES
from tests.unit.hostile_documents import word

Make = Callable[..., ParserProcess]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[ParserProcess] = []

    def one(deadline_s: float = 20, memory_bytes: int = 2 * 2**30, idle_s: float = 20) -> ParserProcess:
        made.append(
            ParserProcess(
                tokenizer_path=minilm_tokenizer(),
                chunk_tokens=60,
                deadline_s=deadline_s,
                memory_bytes=memory_bytes,
                idle_s=idle_s,
            )
        )
        return made[-1]

    yield one
    await asyncio.gather(*(parser.close() for parser in made))


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    path = tmp_path / "file-1"
    path.write_text("# Guide\n\n" + "Every sentence is short. " * 100)
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Opening it never ends: nobody writes."""
    path = tmp_path / "file-2"
    os.mkfifo(path)
    return path


async def test_excerpts_keep_within_the_encoders_tokens(make: Make, guide: Path) -> None:
    parsed = await make().parse("guide.md", guide)
    count = token_count(minilm_tokenizer())
    assert len(parsed.excerpts) > 5
    assert max(count(one.encoded) for one in parsed.excerpts) <= 60
    assert parsed.excerpts[0].heading == "Guide"


async def test_excerpts_are_as_small_as_asked_and_never_larger_than_usual(make: Make, guide: Path) -> None:
    parser, count = make(), token_count(minilm_tokenizer())
    small, usual, large = [(await parser.parse("guide.md", guide, most)).excerpts for most in (30, None, 200)]
    assert max(count(one.encoded) for one in small) <= 30
    assert usual == large


async def test_every_excerpt_tells_its_language_its_files_hash_and_when_it_was_read(make: Make, guide: Path) -> None:
    before = int(time.time())
    parsed = await make().parse("guide.md", guide)
    told = parsed.excerpts[-1].attributes
    assert set(told) == {"language", "content_hash", "ingested_at"}
    assert told["content_hash"] == sha256(guide)
    assert before <= float(told["ingested_at"]) <= time.time()


async def test_a_large_table_is_read_within_the_limits(make: Make, tmp_path: Path) -> None:
    table = tmp_path / "file-4"
    table.write_text("id,name\n" + "".join(f"{number},some name\n" for number in range(20_000)))
    parsed = await make().parse("table.csv", table)
    assert parsed.excerpts[-1].heading.endswith("to 20001")
    assert all(one.text.startswith("| id | name |") for one in parsed.excerpts)


def test_a_text_that_cannot_fit_is_not_tokenized() -> None:
    count = token_count(minilm_tokenizer())
    assert count("[" * 1_000) == 1_000
    assert count("[" * LONGEST_COUNTED) == LONGEST_COUNTED // MOST_CHARACTERS


async def test_one_process_reads_many_files(make: Make, guide: Path) -> None:
    parser = make()
    await parser.parse("guide.md", guide)
    first = parser.pid
    await asyncio.gather(*(parser.parse("guide.md", guide) for _ in range(3)))
    assert parser.pid == first


async def test_a_refusal_comes_with_its_code_and_the_process_stays(make: Make, guide: Path) -> None:
    parser = make()
    with pytest.raises(Refusal, match="is not a kind of document") as refused:
        await parser.parse("guide.exe", guide)
    first = parser.pid
    await parser.parse("guide.md", guide)
    assert (refused.value.code, parser.pid) == ("unsupported_file", first)


async def test_a_document_that_takes_too_long_is_refused_and_the_next_is_read(
    make: Make, guide: Path, endless: Path
) -> None:
    parser = make(deadline_s=1)
    with pytest.raises(Refusal, match="reading it took longer than 1 s"):
        await parser.parse("endless.md", endless)
    assert (await parser.parse("guide.md", guide)).excerpts


async def test_a_document_that_takes_too_much_of_the_processor_is_refused(
    make: Make, guide: Path, tmp_path: Path
) -> None:
    hostile = tmp_path / "file-8"
    hostile.write_bytes(b"[a](" * 2**20)
    parser = make(deadline_s=1)
    with pytest.raises(Refusal, match="reading it took longer than 1 s"):
        await parser.parse("hostile.md", hostile)
    assert (await parser.parse("guide.md", guide)).excerpts


async def test_a_document_that_takes_too_much_memory_is_refused(make: Make, tmp_path: Path, guide: Path) -> None:
    large = tmp_path / "file-3"
    with large.open("wb") as stream:
        stream.truncate(400 * 2**20)
    parser = make(memory_bytes=300 * 2**20)
    with pytest.raises(Refusal, match="takes more memory than a document may use"):
        await parser.parse("large.txt", large)
    assert (await parser.parse("guide.md", guide)).excerpts


async def test_a_parser_that_dies_refuses_its_document_and_is_replaced(make: Make, guide: Path, endless: Path) -> None:
    parser = make()
    await parser.parse("guide.md", guide)
    reading = asyncio.create_task(parser.parse("endless.md", endless))
    # Returns when the worker has opened the other end: killed any earlier, it would be replaced before it is asked.
    held = await asyncio.to_thread(os.open, endless, os.O_WRONLY)
    assert parser.pid
    os.kill(parser.pid, signal.SIGKILL)
    with pytest.raises(Refusal, match="ended the parser"):
        await reading
    os.close(held)
    assert (await parser.parse("guide.md", guide)).excerpts


async def test_an_idle_process_is_ended(make: Make, guide: Path) -> None:
    parser = make(idle_s=0)
    await parser.parse("guide.md", guide)
    # a timer of no time is before one of some
    await asyncio.sleep(0.01)
    assert parser.pid is None


async def test_a_process_that_held_much_is_replaced_before_the_next_file(
    make: Make, guide: Path, tmp_path: Path
) -> None:
    large = tmp_path / "file-5"
    with large.open("wb") as stream:
        stream.truncate(SPENT_BYTES)
    parser = make()
    await parser.parse("guide.md", guide)
    first = parser.pid
    with pytest.raises(Refusal, match="binary"):
        await parser.parse("large.txt", large)
    assert (await parser.parse("guide.md", guide)).excerpts
    assert parser.pid != first


async def test_the_process_gives_way_to_those_that_answer(make: Make, guide: Path) -> None:
    parser = make()
    await parser.parse("guide.md", guide)
    assert parser.pid
    assert os.getpriority(os.PRIO_PROCESS, parser.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)


async def test_a_reason_is_one_line_of_a_bounded_length(make: Make, tmp_path: Path) -> None:
    hostile = tmp_path / "file-6"
    hostile.write_bytes(word(f"<{'a' * 5_000}></b>"))
    with pytest.raises(Refusal) as refused:
        await make().parse("a.docx", hostile)
    assert str(refused.value).startswith("the Word document is damaged")
    assert len(str(refused.value)) < 600 and str(refused.value).isprintable()


async def test_what_every_excerpt_carries_is_held_once(make: Make, tmp_path: Path) -> None:
    headed = tmp_path / "file-7"
    headed.write_text(f"# {'head ' * 100}\n\n" + "A sentence of the section. " * 200)
    parsed = await make().parse("a.md", headed)
    assert len(parsed.excerpts) > 9
    assert len({id(one.heading) for one in parsed.excerpts}) == len({id(one.title) for one in parsed.excerpts}) == 1


async def test_the_process_is_not_given_the_services_secrets(
    make: Make, guide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANTA_API_KEY", "sk-secret")
    parser = make()
    await parser.parse("guide.md", guide)
    assert b"sk-secret" not in environment(parser.pid)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def environment(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()
