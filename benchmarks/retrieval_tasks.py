"""Sets of documents and questions in a folder -> tasks of different character, the same ones every time.

The questions of a set are asked as they are, with slips of the keyboard, as a few rare words, and without most of the
words that their document has; identifiers are taken from the documents. Nothing of this is kept.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from serve_app.evaluation.retrieval import Question, corpus_of, rows
from serve_app.wording import words

MOST = 400
"""Questions of one task."""
IDENTIFIER = re.compile(
    r"(?<![\w/.-])(?:--[a-z][\w-]{5,}|[a-zA-Z]+(?:_[a-zA-Z0-9]+)+|[A-Z][a-z]+(?:[A-Z][a-z]+)+)(?![\w-])"
)
ASKING = ("{}", "what is {}?", "how do I set {}", "{} does not work after an upgrade", "error: {}")


@dataclass(frozen=True, slots=True)
class Set:
    name: str
    documents: Mapping[str, Mapping[str, Any]]
    questions: tuple[Mapping[str, Any], ...]
    """Lines `{"id", "query", "relevant", "answer"?}`; each has a relevant document here."""


@dataclass(frozen=True, slots=True)
class Task:
    set: str
    name: str
    questions: tuple[Question, ...]


def sets_of(folder: Path) -> list[Set]:
    """Sub-folders with a file of queries beside files of documents."""
    found = []
    for path in sorted(one for one in folder.iterdir() if one.is_dir()):
        queries = sorted(path.glob("*queries.jsonl*"))
        corpus = sorted(file for file in path.glob("*.jsonl*") if file not in queries)
        if queries and corpus:
            documents = corpus_of(corpus)
            asked = (row for file in queries for row in rows(file))
            kept = tuple(row for row in asked if any(id in documents for id in row["relevant"]))
            found.append(Set(path.name, documents, kept))
    return found


def held_out(question: Question) -> bool:
    """Whether the weights were fitted without it: by its document, so that no document is on both sides."""
    return sha256(min(question.relevant).encode()).digest()[0] % 2 == 1


def tasks_of(one: Set) -> Iterator[Task]:
    draw = random.Random(7)
    vocabulary = {id: Counter(words(f"{row.get('title') or ''} {row['text']}")) for id, row in one.documents.items()}
    having = Counter(word for counts in vocabulary.values() for word in counts)
    asked = [
        (Question(str(row["id"]), str(row["query"]), frozenset(row["relevant"]) & one.documents.keys()), row)
        for row in one.questions
    ]
    asked = draw.sample(asked, min(MOST, len(asked)))
    plain = [question for question, _ in asked]
    yield Task(one.name, "as they are", tuple(plain))
    yield _changed(one, "with slips", plain, lambda question: _slipped(question.text, draw))
    yield _changed(one, "rare words", plain, lambda question: _rarest(question.text, having))
    yield _changed(one, "words left out", plain, lambda question: _missing(question, vocabulary, draw))
    if answers := [Question(q.id, row["answer"], q.relevant) for q, row in asked if row.get("answer")]:
        yield Task(one.name, "answers", tuple(answers))
        yield _changed(one, "answers, words left out", answers, lambda question: _missing(question, vocabulary, draw))
    if identifiers := list(_identifiers(one, draw)):
        yield Task(one.name, "identifiers", tuple(identifiers))


def _changed(one: Set, name: str, questions: Sequence[Question], change: Any) -> Task:
    texts = [(question, change(question)) for question in questions]
    return Task(one.name, name, tuple(Question(q.id, text, q.relevant) for q, text in texts if words(text)))


def _slipped(text: str, draw: random.Random) -> str:
    """Half of the longer words with two letters exchanged or one missing."""
    made = []
    for word in text.split():
        if len(word) > 4 and draw.random() < 0.5:
            at = draw.randrange(1, len(word) - 2)
            word = word[:at] + (word[at + 1] + word[at] if draw.random() < 0.6 else "") + word[at + 2 :]
        made.append(word)
    return " ".join(made)


def _rarest(text: str, having: Counter[str]) -> str:
    return " ".join(sorted(dict.fromkeys(words(text)), key=lambda word: having[word])[:3])


def _missing(question: Question, vocabulary: Mapping[str, Counter[str]], draw: random.Random) -> str:
    """Without seven in ten of the words that its documents have: asked by somebody who does not know them."""
    known = frozenset(word for id in question.relevant for word in vocabulary[id])
    return " ".join(word for word in question.text.split() if known.isdisjoint(words(word)) or draw.random() >= 0.7)


def _identifiers(one: Set, draw: random.Random) -> Iterator[Question]:
    places: dict[str, set[str]] = defaultdict(set)
    for id, row in one.documents.items():
        for found in set(IDENTIFIER.findall(row["text"])):
            places[found].add(id)
    known = sorted(name for name, ids in places.items() if len(ids) <= 3 and len(name) > 6)
    if len(known) < MOST:
        return
    for name in draw.sample(known, MOST):
        yield Question(name, draw.choice(ASKING).format(name), frozenset(places[name]))
