"""`POST /v1/moderations` as the command line asks it."""

from collections.abc import Iterator, Sequence
from typing import Any

import openai

MOST_TEXTS = 256
MOST_CHARS = 400_000
"""Of one call: seconds of work, so that a large file shows its progress and no call runs into a deadline."""


def judged(client: openai.OpenAI, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One result per text, in order, as the wire has it, in as few calls as the service allows."""
    for batch in batches(texts):
        yield from client.moderations.create(input=batch).model_dump(by_alias=True)["results"]


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        if batch and (len(batch) == MOST_TEXTS or sum(map(len, batch)) + len(text) > MOST_CHARS):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
