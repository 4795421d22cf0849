"""Local files into a vector store, several at a time, each followed until it is ingested or refused."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

import openai

from serve_app.cli.client import message

IN_FLIGHT = 4
_FAULTS_OF_THE_FILE = frozenset({400, 413})


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    chunks: int = 0
    skipped: str = ""
    """Why the file, or a part of it, is not in the store."""


class Upload(Protocol):
    @property
    def name(self) -> str: ...

    def content(self) -> bytes:
        """Raises OSError, and ValueError with a sentence, when it cannot be read."""
        ...


def upload(client: openai.OpenAI, store: str, files: tuple[Upload, ...]) -> Iterator[Outcome]:
    """Outcomes as they come. Raises openai's errors for what is not the fault of one file."""
    store_id = find_store(client, store)
    pool = ThreadPoolExecutor(IN_FLIGHT)
    try:
        for done in as_completed([pool.submit(_upload_one, client, store_id, file) for file in files]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def find_store(client: openai.OpenAI, store: str) -> str:
    """The id of the store with this id or name; a new one of this name if there is none."""
    for known in client.vector_stores.list(limit=100):
        if store in (known.id, known.name):
            return known.id
    return client.vector_stores.create(name=store).id


def _upload_one(client: openai.OpenAI, store_id: str, file: Upload) -> Outcome:
    try:
        content = file.content()
        kept = client.files.create(file=(file.name, content), purpose="assistants")
        client.vector_stores.files.create(vector_store_id=store_id, file_id=kept.id)
    except OSError as exc:
        return Outcome(file.name, skipped=f"it cannot be read ({exc.strerror or exc})")
    except ValueError as exc:
        return Outcome(file.name, skipped=str(exc))
    except openai.APIStatusError as exc:
        if exc.status_code not in _FAULTS_OF_THE_FILE:
            raise
        return Outcome(file.name, skipped=message(exc))
    return _followed(client, store_id, kept.id, file.name)


def _followed(client: openai.OpenAI, store_id: str, file_id: str, name: str) -> Outcome:
    pause_s = 0.05
    while True:
        attached = client.vector_stores.files.retrieve(file_id, vector_store_id=store_id)
        if attached.status != "in_progress":
            break
        time.sleep(pause_s)
        pause_s = min(1.0, pause_s * 1.5)
    reason = attached.last_error.message if attached.last_error else ""
    chunks = int((attached.model_extra or {}).get("chunk_count") or 0)
    return Outcome(name, chunks, reason or ("" if attached.status == "completed" else f"it was {attached.status}"))
