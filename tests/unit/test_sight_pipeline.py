"""Over the whole life of a turn: no text that a caller may not see is returned, cited, prompted or remembered."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from serve_app.adapters.memory import MemoryIndex
from serve_app.admission import Standing
from serve_app.authenticator import digest
from serve_app.errors import MantaError
from serve_app.events import Delta, Event, Events, Finished, Started
from serve_app.http.answers import Answer
from serve_app.http.responses import answer_headers
from serve_app.pipeline import Pipeline
from serve_app.playbook import KEY
from serve_app.ports import ANY, Chunk, Query
from serve_app.prompt import render
from serve_app.sight import Sight, Terms
from serve_app.turn import Caller, Finding, Found, Grounding, Message, Scope, Screening, Turn
from tests.builders import HashClassifier, pipeline, settings, turn

TENANTS, GROUPS, STORES, PURPOSES = ("acme", "umbra"), ("legal", "board"), ("vs_1", "vs_2"), ("retrieval", "training")
KEYS = ("k1", "k2", "k3")
PAST, FUTURE = 1.0, 4e9
NAMES = ("rollback", "greeting")
FILTERS: tuple[Any, ...] = (
    None,
    None,
    {"type": "ne", "key": "access", "value": "nobody"},
    {"type": "in", "key": "access", "value": [*GROUPS, ""]},
    {"type": "or", "filters": [{"type": "gt", "key": "n", "value": -1}, {"type": "ne", "key": "tenant", "value": "x"}]},
    {"type": "nin", "key": "consent_purposes", "value": ["retrieval"]},
)


@dataclass(frozen=True)
class Doc:
    n: int
    tenant: str
    store: str
    terms: Terms

    @property
    def secret(self) -> str:
        """Stands in its text, title, name and address, and in no other document."""
        return f"zq{self.n}x"

    @property
    def chunk(self) -> Chunk:
        text = f"How do I roll back weights? {' '.join(f'{word}{self.secret}' for word in 'abcdefg')} {self.person}"
        return Chunk(
            id=f"c-{self.secret}", tenant=self.tenant, store=self.store, file_id=f"f-{self.secret}", ordinal=self.n,
            text=text, source=f"s-{self.secret}.md", title=f"t-{self.secret}", heading=f"h-{self.secret}",
            attributes={"n": self.n, KEY: NAMES[self.n % 2], "name": f"{NAMES[self.n % 2]} {self.secret}",
                        "access": ",".join(sorted(self.terms.access))},
            terms=self.terms,
        )  # fmt: skip

    @property
    def person(self) -> str:
        return f"Nadia-{self.secret}"


def sees(caller: Caller, doc: Doc) -> bool:
    """The rule, written a second time and differently."""
    open_to = not doc.terms.access or any(group in caller.groups for group in doc.terms.access)
    agreed = not doc.terms.purposes or "retrieval" in doc.terms.purposes
    return doc.tenant == caller.tenant and open_to and agreed and doc.terms.until != PAST


@dataclass
class Retrieving:
    index: MemoryIndex

    async def search(self, query: Query) -> Found:
        return Found(await self.index.search(query))


class NameScreener:
    """Finds the names, which by default are masked in a prompt and allowed in an answer."""

    async def screen(self, texts: tuple[str, ...], scope: Scope = ANY) -> tuple[Screening, ...]:
        found = (tuple(Finding("PERSON", *match.span()) for match in re.finditer(r"Nadia-\w+", text)) for text in texts)
        return tuple(map(Screening, found))


@dataclass
class Parrot:
    """Says all it was prompted with, cites every number there could be, and asks for placeholders of others."""

    prompts: list[str] = field(default_factory=list)

    async def generate(self, turn: Turn) -> Events:
        prompt = "\n".join(f"{message.text} {message.fields}" for message in render(turn))
        self.prompts.append(prompt)
        cited = " ".join(f"[{n}]" for n in range(1, 12))
        guessed = " ".join(f"<PERSON_{n}>" for n in range(1, 12))
        for piece in (f"{prompt}\n\n", f"So it is {cited} ", guessed):
            yield Delta({"content": piece})
        yield Delta({}, finish_reason="stop")
        yield Finished(prompt_tokens=1, output_tokens=1)


@dataclass(frozen=True)
class Asked:
    caller: Caller
    grounding: Grounding
    session: str

    @property
    def said(self) -> Turn:
        messages = (Message("user", "How do I roll back weights?"),)
        return turn(caller=self.caller, messages=messages, grounding=self.grounding, session=self.session)


@dataclass(frozen=True)
class World:
    """One service for all callers, as it runs: its caches outlive a turn."""

    docs: Sequence[Doc]
    engine: Parrot
    classifier: HashClassifier
    service: Pipeline

    @classmethod
    async def of(cls, docs: Sequence[Doc], index: MemoryIndex | None = None, retriever: Any = None) -> "World":
        index = MemoryIndex() if index is None else index
        await index.upsert([doc.chunk for doc in docs], np.eye(384, dtype=np.float32)[: len(docs)])
        engine, classifier = Parrot(), HashClassifier()
        model = {"application": "small", "engine": "vllm", "context_tokens": 100_000}
        given = settings(
            keys=[{"id": key, "tenant": "acme", "sha256": digest(key)} for key in KEYS],
            models={"small": model},
            router={"small": "small", "large": "small"},
            retriever={"min_score": 0.0, "sources_tokens": 100_000},
        )
        parts = {"engine": engine, "classifier": classifier, "screener": NameScreener()}
        service = pipeline(given, retriever=retriever or Retrieving(index), **parts)
        return cls(docs, engine, classifier, service)

    async def check(self, asked: Asked) -> int:
        """Raises AssertionError where anything of a forbidden document comes out; how many documents were prompted."""
        forbidden = [doc.secret for doc in self.docs if not sees(asked.caller, doc)]
        before = len(self.engine.prompts)
        try:
            events = [event async for event in self.service.answer(asked.said)]
            seen = [*self.engine.prompts[before:], *told(asked.said, events)]
        except MantaError as refused:
            seen = [*self.engine.prompts[before:], str(refused)]
        leaks = [secret for secret in forbidden for text in seen if secret in text]
        assert not leaks, f"{asked.caller} was shown {leaks}"
        return sum(doc.secret in text for doc in self.docs for text in self.engine.prompts[before:])


def told(turn: Turn, events: Sequence[Event]) -> list[str]:
    """All that a client receives: headers, every chunk, and the whole answer."""
    started = events[0]
    assert isinstance(started, Started)
    answer = Answer(turn, started.model)
    deltas = [event for event in events if isinstance(event, Delta)]
    chunks = [repr(answer.chunk(delta)) for delta in deltas]
    for delta in deltas:
        answer.gather(delta)
    standing = Standing(limit=1, remaining=1, reset_s=0.0)
    return [
        repr(answer_headers(started, standing)),
        repr(started),
        *chunks,
        repr(answer.completed(Finished(prompt_tokens=1, output_tokens=1))),
    ]


groups = st.frozensets(st.sampled_from(GROUPS))
terms = st.builds(
    Terms,
    access=groups,
    subject=st.sampled_from(["", "jane"]),
    purposes=st.frozensets(st.sampled_from(PURPOSES)),
    until=st.sampled_from([None, None, PAST, FUTURE]),
)
documents = st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from(STORES), terms), max_size=10).map(
    lambda rows: tuple(Doc(n, *row) for n, row in enumerate(rows))
)
callers = st.builds(Caller, st.sampled_from(TENANTS), st.sampled_from(KEYS), groups=groups)
groundings = st.builds(
    Grounding,
    wanted=st.sampled_from([True, True, False]),
    stores=st.sets(st.sampled_from(STORES)).map(tuple),
    filters=st.sampled_from(FILTERS),
    top_k=st.sampled_from([None, 50]),
    playbook=st.sampled_from(["", "", *NAMES, "rolback"]),
)
asking = st.builds(Asked, callers, groundings, st.sampled_from(["", "monday"]))


@given(documents, st.lists(asking, min_size=1, max_size=5))
@examples(max_examples=150)
async def test_nothing_forbidden_is_returned_cited_prompted_or_remembered(
    docs: tuple[Doc, ...], asked: list[Asked]
) -> None:
    world = await World.of(docs)
    for one in asked:
        await world.check(one)


@given(documents, callers)
@examples(max_examples=50)
async def test_everything_else_is_shown(docs: tuple[Doc, ...], caller: Caller) -> None:
    world = await World.of(docs)
    shown = await world.check(Asked(caller, Grounding(wanted=True, top_k=50), ""))
    assert shown == sum(sees(caller, doc) for doc in docs)


HIDDEN = {
    "tenant": Doc(0, "umbra", "vs_1", Terms()),
    "access": Doc(0, "acme", "vs_1", Terms(access=frozenset({"board"}))),
    "purposes": Doc(0, "acme", "vs_1", Terms(purposes=frozenset({"training"}))),
    "until": Doc(0, "acme", "vs_1", Terms(until=PAST)),
}
STRANGER = Asked(Caller("acme", "k1"), Grounding(wanted=True), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind(Sight):
    """A sight that forgets one of its conditions."""

    to: str

    def sees(self, tenant: str, terms: Terms) -> bool:
        if self.to == "tenant":
            return Sight.sees(self, self.tenant, terms)
        return Sight.sees(self, tenant, replace(terms, **{self.to: getattr(Terms(), self.to)}))


@dataclass(frozen=True)
class BlindIndex(MemoryIndex):
    to: str = ""

    async def search(self, query: Query) -> Any:
        sight = query.sight
        blind = Blind(tenant=sight.tenant, groups=sight.groups, now=sight.now, to=self.to)
        return await MemoryIndex.search(self, replace(query, sight=blind))


@pytest.mark.parametrize("condition", HIDDEN)
@pytest.mark.parametrize("playbook", ["", "rollback"])
async def test_an_index_that_forgets_a_condition_is_caught(condition: str, playbook: str) -> None:
    asked = replace(STRANGER, grounding=Grounding(wanted=True, playbook=playbook))
    await (await World.of([HIDDEN[condition]])).check(asked)
    leaking = await World.of([HIDDEN[condition]], BlindIndex(to=condition))
    with pytest.raises(AssertionError, match="was shown"):
        await leaking.check(asked)


@dataclass
class Remembering(Retrieving):
    """What a cache must not be: answers by the question alone."""

    known: dict[str, Found] = field(default_factory=dict)

    async def search(self, query: Query) -> Found:
        if query.text not in self.known:
            self.known[query.text] = await Retrieving.search(self, query)
        return self.known[query.text]


async def test_a_cache_that_forgets_who_asks_is_caught() -> None:
    index, doc = MemoryIndex(), HIDDEN["access"]
    world = await World.of([doc], index, Remembering(index))
    assert await world.check(replace(STRANGER, caller=Caller("acme", "k2", groups=frozenset({"board"})))) == 1
    with pytest.raises(AssertionError, match="was shown"):
        await world.check(STRANGER)


async def test_a_placeholder_of_another_callers_turn_is_not_brought_back() -> None:
    """Two of one tenant may name their conversations alike: a placeholder brings back only what its own turn read."""
    world = await World.of([HIDDEN["access"]])
    member = Caller("acme", "k2", groups=frozenset({"board"}))
    assert await world.check(replace(STRANGER, caller=member, session="monday")) == 1
    await world.check(replace(STRANGER, session="monday"))
