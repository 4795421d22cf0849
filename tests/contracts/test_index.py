"""What every Index does: in memory, in Milvus Lite by path, and on a Milvus server by URI (Lite's own gRPC server)."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve_app.adapters.memory import MemoryIndex
from serve_app.adapters.milvus import MilvusIndex
from serve_app.errors import InvalidRequest, RetrieverUnavailable
from serve_app.ports import Chunk, Index, Query
from serve_app.settings import MilvusSettings
from serve_app.sight import Sight, Terms
from serve_app.turn import Caller, Passage
from tests.contracts.milvus_servers import Server

DIMENSION = 8
TEXTS = {
    "rollback": "The rollback command returns to the revision before.",
    "orchard": "Apples and pears ripen in late summer.",
    "harbour": "Ships wait outside the harbour for the tide.",
}


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Index]:
    yield MemoryIndex()


@asynccontextmanager
async def lite(folder: Path) -> AsyncIterator[Index]:
    index = MilvusIndex(MilvusSettings(uri=str(folder / "below" / "passages.db"), dimension=DIMENSION))
    await index.open()
    yield index
    await index.close()


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Index]:
    running = Server(folder / "server")
    index = MilvusIndex(MilvusSettings(uri=running.uri, dimension=DIMENSION))
    await index.open()
    yield index
    await index.close()
    running.stop()


@pytest.fixture(
    params=[memory, pytest.param(lite, marks=pytest.mark.milvus), pytest.param(server, marks=pytest.mark.milvus)]
)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Index]:
    async with request.param(tmp_path) as opened:
        yield opened


def direction(number: int) -> NDArray[np.float32]:
    """A meaning of its own: at right angles to all others."""
    vector: NDArray[np.float32] = np.zeros(DIMENSION, np.float32)
    vector[number] = 1
    return vector


def chunk(id: str = "rollback", text: str | None = None, **fields: Any) -> Chunk:
    given: dict[str, Any] = {
        "tenant": "acme",
        "store": "main",
        "file_id": f"file-{id}",
        "ordinal": 0,
        "source": f"{id}.md",
    }
    return Chunk(id=id, text=TEXTS.get(id, id) if text is None else text, **(given | fields))


async def fill(index: Index, *chunks: Chunk) -> None:
    """The n-th chunk means the n-th direction."""
    await index.upsert(chunks, np.stack([direction(n) for n in range(len(chunks))]))


async def found(
    index: Index,
    text: str = "rollback",
    *,
    embedding: NDArray[np.float32] | None = None,
    tenant: str = "acme",
    stores: Sequence[str] = ("main",),
    top_k: int = 10,
    filters: dict[str, Any] | None = None,
    groups: Sequence[str] = (),
    hidden: Sequence[tuple[str, str]] = (),
) -> tuple[Passage, ...]:
    caller = Caller(tenant, "k", groups=frozenset(groups))
    asked: dict[str, Any] = {"text": text, "embedding": embedding, "stores": tuple(stores), "top_k": top_k}
    return await index.search(Query.of(caller, filters=filters, hidden=tuple(hidden), **asked))


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in passages]


LAW = Terms(access=frozenset({"legal", "finance"}))


@pytest.mark.parametrize(("groups", "sees"), [((), False), (("sales",), False), (("sales", "finance"), True)])
async def test_a_document_for_groups_is_for_nobody_else(index: Index, groups: tuple[str, ...], sees: bool) -> None:
    await fill(index, chunk("rollback", terms=LAW), chunk("open", "rollback for all"))
    for embedding in (None, direction(0)):
        assert ("rollback" in ids(await found(index, embedding=embedding, groups=groups))) is sees
        assert "open" in ids(await found(index, embedding=embedding, groups=groups))


async def test_a_group_of_another_tenant_opens_nothing(index: Index) -> None:
    await fill(index, chunk("rollback", terms=LAW))
    assert await found(index, tenant="other", groups=("legal",)) == ()


async def test_consent_that_has_run_out_is_never_returned(index: Index) -> None:
    past, future = time.time() - 1, time.time() + 3_600
    await fill(
        index,
        chunk("past", "rollback", terms=Terms(until=past)),
        chunk("future", "rollback", terms=Terms(until=future)),
    )
    assert ids(await found(index, embedding=direction(0))) == ["future"]


async def test_consent_to_another_purpose_is_no_consent_to_search(index: Index) -> None:
    await fill(
        index,
        chunk("training", "rollback", terms=Terms(purposes=frozenset({"training"}))),
        chunk("both", "rollback", terms=Terms(purposes=frozenset({"training", "retrieval"}))),
    )
    assert ids(await found(index, embedding=direction(0))) == ["both"]


@pytest.mark.parametrize("filter", [{"type": "ne", "key": "x", "value": 1}, None])
async def test_a_callers_filter_only_narrows(index: Index, filter: dict[str, Any] | None) -> None:
    await fill(index, chunk("rollback", terms=LAW, attributes={"x": 2}))
    assert await found(index, filters=filter) == ()


@pytest.mark.parametrize("name", ['x" or true or "', "x]", "\\", "a b", "ä😀", "true", "group:legal"])
async def test_a_group_may_have_any_name_and_opens_only_its_own(index: Index, name: str) -> None:
    await fill(index, chunk("rollback", terms=Terms(access=frozenset({name}))))
    assert await found(index, groups=("legal", name.upper() + "?")) == ()
    assert ids(await found(index, groups=(name,))) == ["rollback"]


async def test_a_purge_takes_every_chunk_of_a_subject_and_no_other(index: Index) -> None:
    about = Terms(subject='p-"17')
    await fill(
        index,
        chunk("a", "rollback", terms=about),
        chunk("b", "rollback", terms=about, store="second"),
        chunk("c", "rollback", terms=Terms(subject="p-1")),
        chunk("d", "rollback", terms=about, tenant="other"),
        chunk("e", "rollback"),
    )
    assert await index.purge("acme", 'p-"17') == 2
    assert await index.purge("acme", 'p-"17') == 0
    assert sorted(ids(await found(index, embedding=direction(0), stores=()))) == ["c", "e"]
    assert ids(await found(index, embedding=direction(0), tenant="other")) == ["d"]


GROUPS = st.frozensets(st.sampled_from(["legal", "finance", "sales"]))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["acme", "other"]), GROUPS, st.booleans()), max_size=8), GROUPS)
async def test_no_forbidden_chunk_is_ever_returned(
    index: Index, documents: list[tuple[str, frozenset[str], bool]], groups: frozenset[str]
) -> None:
    """The index and the rule in Python agree on every document, for random documents, groups and callers."""
    store, now = uuid.uuid4().hex, time.time()
    chunks = [
        chunk(f"c{n}", "rollback", tenant=tenant, store=store, terms=Terms(access, until=now - 9 if late else now + 99))
        for n, (tenant, access, late) in enumerate(documents)
    ]
    if chunks:
        await fill(index, *chunks)
    for tenant in ("acme", "other"):
        sight = Sight(tenant=tenant, groups=groups, now=now)
        allowed = {one.id for one in chunks if sight.sees(one.tenant, one.terms)}
        seen = await found(index, embedding=direction(0), tenant=tenant, stores=(store,), groups=sorted(groups))
        assert {passage.id for passage in seen} == allowed


async def test_a_chunk_keeps_what_was_judged_of_it(index: Index) -> None:
    await fill(index, chunk("a", suspicion=0.75), chunk("b"))
    assert {passage.id: passage.suspicion for passage in await found(index, embedding=direction(0))} == {
        "a": 0.75,
        "b": None,
    }


async def test_what_was_upserted_is_found_at_once_with_all_it_carried(index: Index) -> None:
    await fill(
        index,
        chunk(title="Operations", heading="Operations > Going back", page=0, attributes={"lang": "en", "year": 2024}),
    )
    (passage,) = await found(index, embedding=direction(0))
    assert passage.text == TEXTS["rollback"]
    assert (passage.file_id, passage.source, passage.page) == ("file-rollback", "rollback.md", 0)
    assert (passage.title, passage.heading) == ("Operations", "Operations > Going back")
    assert passage.attributes == {"lang": "en", "year": 2024}


async def test_a_passage_without_a_page_has_none(index: Index) -> None:
    await fill(index, chunk())
    (passage,) = await found(index, embedding=direction(0))
    assert passage.page is None


async def test_the_nearest_in_meaning_comes_first(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    passages = await found(index, "zzz", embedding=direction(2))
    assert ids(passages)[0] == "harbour"


async def test_the_words_of_the_question_find_a_passage_that_means_something_else(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    passages = await found(index, "When do pears ripen?", embedding=direction(7))
    assert ids(passages)[0] == "orchard"


async def test_both_together_are_surer_than_either(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    (both, *_) = await found(index, "rollback command", embedding=direction(0))
    (meaning, *_) = await found(index, "zzz", embedding=direction(0))
    (wording, *_) = await found(index, "rollback command", embedding=direction(7))
    assert both.score == pytest.approx(1.0)
    assert meaning.score == pytest.approx(0.5)
    assert wording.score == pytest.approx(0.5)


async def test_a_question_about_something_else_scores_low_even_for_its_best_passage(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    passages = await found(index, "Who wrote the second symphony?", embedding=direction(7))
    assert max((passage.score for passage in passages), default=0.0) < 0.1


async def test_without_an_embedding_words_alone_find(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    (passage,) = await found(index, "the rollback command")
    assert passage.id == "rollback"
    assert passage.score == pytest.approx(1.0)


async def test_without_an_embedding_and_words_that_count_nothing_is_found(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    assert await found(index, "what is this?") == ()


async def test_titles_and_headings_are_searched_for_words(index: Index) -> None:
    await fill(index, chunk(heading="Disaster recovery"), chunk("orchard", title="Fruit"))
    assert ids(await found(index, "disaster")) == ["rollback"]
    assert ids(await found(index, "fruit")) == ["orchard"]


async def test_top_k_bounds_the_answer(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    assert len(await found(index, embedding=direction(0), top_k=2)) == 2


async def test_equal_passages_come_in_the_order_of_their_ids(index: Index) -> None:
    same = [chunk(id, "The same sentence.") for id in ("c", "a", "d", "b")]
    await index.upsert(same, np.stack([direction(0)] * 4))
    assert ids(await found(index, "same sentence", embedding=direction(0))) == ["a", "b", "c", "d"]


async def test_an_empty_index_finds_nothing(index: Index) -> None:
    assert await found(index, embedding=direction(0)) == ()
    assert await found(index) == ()


async def test_upserting_nothing_is_allowed(index: Index) -> None:
    await index.upsert((), np.zeros((0, DIMENSION), np.float32))


async def test_a_chunk_upserted_twice_is_there_once_with_its_last_text(index: Index) -> None:
    await fill(index, chunk())
    await fill(index, chunk(text="The rollback was renamed to undo."))
    (passage,) = await found(index, embedding=direction(0))
    assert passage.text == "The rollback was renamed to undo."


async def test_a_chunk_that_stands_twice_in_one_batch_is_there_once(index: Index) -> None:
    await fill(index, chunk(), chunk(text="The rollback again."))
    (passage,) = await found(index, embedding=direction(1))
    assert passage.text == "The rollback again."


async def test_hidden_files_are_left_out_by_meaning_and_by_words(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS), chunk("rollback-2", "rollback again", file_id="file-rollback"))
    hidden = [("main", "file-rollback"), ("main", "file-none"), ("other", "file-harbour")]
    for embedding in (None, direction(0)):
        passages = await found(index, "rollback harbour", embedding=embedding, hidden=hidden)
        assert "harbour" in ids(passages)
        assert not {"rollback", "rollback-2"} & set(ids(passages))


async def test_a_file_that_is_hidden_in_one_store_is_found_in_another(index: Index) -> None:
    await fill(index, chunk(), chunk(store="copy"))
    for embedding in (None, direction(0)):
        passages = await found(index, embedding=embedding, stores=(), hidden=[("copy", "file-rollback")])
        assert ids(passages) == ["rollback"]


async def test_many_hidden_files_are_no_error(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS))
    hidden = [("main", f"file-{n:024x}") for n in range(1_000)] + [("main", "file-orchard")]
    assert set(ids(await found(index, embedding=direction(0), hidden=hidden))) == {"rollback", "harbour"}


async def test_a_chunk_upserted_again_loses_the_attributes_it_no_longer_has(index: Index) -> None:
    await fill(index, chunk(attributes={"lang": "en", "draft": True}, suspicion=0.5))
    await fill(index, chunk(attributes={"lang": "en"}))
    (passage,) = await found(index, embedding=direction(0))
    assert (passage.attributes, passage.suspicion) == ({"lang": "en"}, None)
    draft = {"type": "eq", "key": "draft", "value": True}
    assert await found(index, embedding=direction(0), filters=draft) == ()


async def test_a_caller_in_64_groups_sees_what_one_of_them_sees(index: Index) -> None:
    await fill(
        index, chunk(terms=Terms(access=frozenset(f"group {n}" for n in range(64)))), chunk("orchard", terms=LAW)
    )
    groups = [f"group {n}" for n in range(63, 127)]
    assert ids(await found(index, embedding=direction(0), groups=groups)) == ["rollback"]


async def test_a_hundred_stores_can_be_searched_at_once(index: Index) -> None:
    await fill(index, chunk(store="store 99"), chunk("orchard", store="store 100"))
    stores = [f"store {n}" for n in range(100)]
    assert ids(await found(index, embedding=direction(0), stores=stores)) == ["rollback"]


async def test_texts_and_attributes_of_8_kib_come_back_whole(index: Index) -> None:
    text, value = "rollback " + "länge 東京 " * 600, "wert " * 1_700
    await fill(index, chunk(text=text, attributes={"long": value}))
    (passage,) = await found(index, embedding=direction(0))
    assert (passage.text, passage.attributes) == (text, {"long": value})


async def test_deleting_a_file_of_many_chunks_leaves_none(index: Index) -> None:
    many = [chunk(f"c{n}", f"rollback {n}", file_id="file-many") for n in range(700)]
    await index.upsert(many, np.stack([direction(0)] * len(many)))
    await fill(index, chunk("harbour"))
    await index.delete("acme", "main", "file-many")
    assert ids(await found(index, "rollback harbour", embedding=direction(0), top_k=50)) == ["harbour"]


async def test_a_purge_counts_what_it_removed_of_one_tenant(index: Index) -> None:
    about = Terms(subject="person 1")
    many = [chunk(f"c{n}", store=f"s{n % 3}", terms=about) for n in range(90)]
    await index.upsert(many, np.stack([direction(0)] * len(many)))
    await fill(index, chunk(terms=about, tenant="rival"), chunk("orchard", terms=Terms(subject="person 11")))
    assert await index.purge("acme", "person 1") == 90
    assert await index.purge("acme", "person 1") == 0
    assert ids(await found(index, embedding=direction(0), stores=())) == ["orchard"]
    assert ids(await found(index, embedding=direction(0), tenant="rival")) == ["rollback"]


async def test_embeddings_must_be_as_many_as_chunks(index: Index) -> None:
    with pytest.raises(ValueError, match="chunks"):
        await index.upsert([chunk()], np.zeros((2, DIMENSION), np.float32))


async def test_tenants_never_see_each_other(index: Index) -> None:
    await fill(index, chunk(), chunk(tenant="rival", text="A rollback of the rival."))
    (ours,) = await found(index, embedding=direction(0))
    (theirs,) = await found(index, embedding=direction(0), tenant="rival")
    assert (ours.text, theirs.text) == (TEXTS["rollback"], "A rollback of the rival.")
    assert await found(index, embedding=direction(0), tenant="nobody") == ()


async def test_one_tenant_cannot_delete_or_replace_what_another_has(index: Index) -> None:
    await fill(index, chunk())
    await fill(index, chunk(tenant="rival", text="Replaced."))
    await index.delete("rival", "main")
    (passage,) = await found(index, embedding=direction(0))
    assert passage.text == TEXTS["rollback"]


async def test_only_the_stores_asked_for_are_searched(index: Index) -> None:
    await fill(index, chunk(store="a"), chunk("orchard", store="b"), chunk("harbour", store="c"))
    passages = await found(index, embedding=direction(0), stores=("a", "c"))
    assert set(ids(passages)) == {"rollback", "harbour"}


async def test_no_stores_means_all_of_the_tenants(index: Index) -> None:
    await fill(index, chunk(store="a"), chunk("orchard", store="b"), chunk("harbour", tenant="rival"))
    assert set(ids(await found(index, embedding=direction(0), stores=()))) == {"rollback", "orchard"}


async def test_the_same_chunk_can_stand_in_two_stores(index: Index) -> None:
    await fill(index, chunk(store="a"), chunk(store="b"))
    await index.delete("acme", "a")
    assert ids(await found(index, embedding=direction(0), stores=("b",))) == ["rollback"]


async def test_deleting_a_file_leaves_the_others(index: Index) -> None:
    await fill(index, *map(chunk, TEXTS), chunk("rollback-2", file_id="file-rollback"))
    await index.delete("acme", "main", "file-rollback")
    assert set(ids(await found(index, embedding=direction(0)))) == {"orchard", "harbour"}


async def test_deleting_a_store_leaves_the_others(index: Index) -> None:
    await fill(index, chunk(store="a"), chunk("orchard", store="b"))
    await index.delete("acme", "a")
    assert ids(await found(index, embedding=direction(0), stores=("a", "b"))) == ["orchard"]


async def test_a_deleted_chunk_can_be_upserted_again(index: Index) -> None:
    await fill(index, chunk())
    await index.delete("acme", "main", "file-rollback")
    await fill(index, chunk())
    assert ids(await found(index, embedding=direction(0))) == ["rollback"]


async def test_deleting_what_is_not_there_is_no_error(index: Index) -> None:
    await index.delete("acme", "main", "file-none")
    await index.delete("acme", "none")


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"type": "eq", "key": "lang", "value": "de"}, {"orchard"}),
    ({"type": "ne", "key": "lang", "value": "de"}, {"rollback", "harbour"}),
    ({"type": "gt", "key": "year", "value": 2021}, {"orchard"}),
    ({"type": "gte", "key": "year", "value": 2021}, {"rollback", "orchard"}),
    ({"type": "lt", "key": "year", "value": 2023.5}, {"rollback"}),
    ({"type": "lte", "key": "year", "value": -1}, set()),
    ({"type": "in", "key": "lang", "value": ["de", "fr", 7]}, {"orchard"}),
    ({"type": "in", "key": "year", "value": [2021, 2024]}, {"rollback", "orchard"}),
    ({"type": "nin", "key": "lang", "value": ["de", "fr"]}, {"rollback", "harbour"}),
    ({"type": "nin", "key": "year", "value": [2021]}, {"orchard", "harbour"}),
    ({"type": "eq", "key": "draft", "value": True}, {"orchard"}),
    ({"type": "ne", "key": "draft", "value": True}, {"rollback", "harbour"}),
    ({"type": "eq", "key": "year", "value": "2021"}, set()),
    ({"type": "eq", "key": "nobody has this", "value": 1}, set()),
    ({"type": "ne", "key": "nobody has this", "value": 1}, {"rollback", "orchard", "harbour"}),
    ({"type": "eq", "key": "tenant", "value": "rival"}, set()),
    (
        {
            "type": "and",
            "filters": [
                {"type": "eq", "key": "lang", "value": "en"},
                {"type": "or", "filters": [{"type": "lt", "key": "year", "value": 2000}] * 2},
            ],
        },
        set(),
    ),
    (
        {
            "type": "or",
            "filters": [{"type": "eq", "key": "lang", "value": "de"}, {"type": "lt", "key": "year", "value": 2022}],
        },
        {"rollback", "orchard"},
    ),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=[str(filters)[:60] for filters, _ in FILTERS])
async def test_attributes_narrow_a_search(index: Index, filters: dict[str, Any], expected: set[str]) -> None:
    await fill(
        index,
        chunk(attributes={"lang": "en", "year": 2021, "draft": False}),
        chunk("orchard", attributes={"lang": "de", "year": 2024, "draft": True}),
        chunk("harbour"),
    )
    assert set(ids(await found(index, embedding=direction(0), filters=filters))) == expected


async def test_a_filter_cannot_reach_another_tenant(index: Index) -> None:
    await fill(index, chunk(), chunk("orchard", tenant="rival", attributes={"a": "x"}))
    escape = {"type": "or", "filters": [{"type": "ne", "key": 'a"] == "x") or (tenant == "rival', "value": "x"}]}
    assert ids(await found(index, embedding=direction(0), filters=escape)) == ["rollback"]


async def test_a_filter_that_cannot_be_read_is_the_callers_mistake(index: Index) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await found(index, filters={"type": "like", "key": "lang", "value": "e%"})
    assert refused.value.param == "filters.type"


AWKWARD = [
    'quote " and \\ backslash',
    "it's",
    "Zürich 東京 😀",
    "line\nbreak\ttab",
    '"] or tenant != "',
    "%_{}$meta",
    "\x01",
]


@pytest.mark.parametrize("name", AWKWARD)
async def test_any_text_is_a_name_and_comes_back_unchanged(index: Index, name: str) -> None:
    mine = chunk(text=f"rollback {name}", tenant=name, store=name, file_id=name, attributes={name: name})
    await fill(index, mine, chunk("orchard"))
    same = {"type": "eq", "key": name, "value": name}
    (passage,) = await found(
        index, f"rollback {name}", embedding=direction(0), tenant=name, stores=(name,), filters=same
    )
    assert (passage.text, passage.file_id, passage.attributes) == (f"rollback {name}", name, {name: name})
    await index.delete(name, name, name)
    assert await found(index, embedding=direction(0), tenant=name, stores=(name,)) == ()
    assert ids(await found(index, embedding=direction(0))) == ["orchard"]


async def test_half_a_surrogate_pair_in_a_question_is_no_error(index: Index) -> None:
    await fill(index, chunk())
    assert ids(await found(index, "rollback \ud83d", embedding=direction(0), stores=("main", "\ud83d"))) == ["rollback"]


async def test_ping_answers(index: Index) -> None:
    await index.ping()


@pytest.mark.milvus
async def test_what_was_written_is_still_there_after_reopening(tmp_path: Path) -> None:
    async with lite(tmp_path) as first:
        await fill(first, chunk())
    async with lite(tmp_path) as second:
        assert ids(await found(second, embedding=direction(0))) == ["rollback"]


@pytest.mark.milvus
async def test_many_chunks_in_one_call_are_all_there(tmp_path: Path) -> None:
    async with lite(tmp_path) as index:
        many = [chunk(f"c{n}", f"sentence number {n}") for n in range(1_201)]
        await index.upsert(many, np.stack([direction(0)] * len(many)))
        assert ids(await found(index, "1200")) == ["c1200"]


@pytest.mark.milvus
async def test_a_search_fails_while_the_server_is_down_and_works_when_it_is_back(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    index = MilvusIndex(MilvusSettings(uri=running.uri, dimension=DIMENSION))
    await fill(index, chunk())
    running.stop()
    calls: list[Callable[[], Any]] = [
        lambda: found(index, embedding=direction(0)),
        lambda: fill(index, chunk()),
        lambda: index.delete("acme", "main"),
        index.ping,
    ]
    for call in calls:
        async with asyncio.timeout(4):
            with pytest.raises(RetrieverUnavailable, match=running.uri):
                await call()
    running.start()
    assert ids(await found(index, embedding=direction(0))) == ["rollback"]
    await index.close()
    running.stop()


@pytest.mark.milvus
async def test_searches_under_way_when_the_server_goes_away_end_as_unavailable(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    index = MilvusIndex(MilvusSettings(uri=running.uri, dimension=DIMENSION))
    await fill(index, *map(chunk, TEXTS))
    searches = [asyncio.ensure_future(found(index, embedding=direction(0))) for _ in range(20)]
    await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.to_thread(running.stop)
    outcomes = await asyncio.gather(*searches, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {tuple, RetrieverUnavailable}
    await index.close()


@pytest.mark.milvus
async def test_a_caller_who_gives_up_is_not_told_that_milvus_failed(tmp_path: Path) -> None:
    async with lite(tmp_path) as index:
        search = asyncio.ensure_future(found(index, embedding=direction(0)))
        await asyncio.sleep(0)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        assert await found(index, embedding=direction(0)) == ()


@pytest.mark.milvus
async def test_an_index_can_be_made_before_its_server_is_there(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    running.stop()
    index = MilvusIndex(MilvusSettings(uri=running.uri, dimension=DIMENSION))
    with pytest.raises(RetrieverUnavailable):
        await index.open()
    running.start()
    await fill(index, chunk())
    assert ids(await found(index)) == ["rollback"]
    await index.close()
    running.stop()


@pytest.mark.milvus
async def test_a_server_that_came_back_empty_gets_its_collection_again(tmp_path: Path) -> None:
    running = Server(tmp_path / "server")
    index = MilvusIndex(MilvusSettings(uri=running.uri, dimension=DIMENSION))
    await fill(index, chunk())
    running.stop()
    running.folder = tmp_path / "empty"
    running.start()
    with pytest.raises(RetrieverUnavailable):
        await found(index)
    assert await found(index) == ()
    await index.close()
    running.stop()


@pytest.mark.milvus
async def test_a_server_that_accepts_and_never_answers_does_not_hold_a_caller(tmp_path: Path) -> None:
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    index = MilvusIndex(MilvusSettings(uri=f"http://127.0.0.1:{port}", dimension=DIMENSION))
    with pytest.raises(RetrieverUnavailable):
        async with asyncio.timeout(8):
            await index.ping()
    await index.close()
    silent.close()


@pytest.mark.milvus
async def test_vectors_of_another_length_are_refused_with_the_way_out(tmp_path: Path) -> None:
    settings = MilvusSettings(uri=str(tmp_path / "passages.db"), dimension=DIMENSION)
    first = MilvusIndex(settings)
    await first.open()
    await first.close()
    second = MilvusIndex(settings.model_copy(update={"dimension": DIMENSION + 1}))
    with pytest.raises(ValueError, match=r"vectors of 8 numbers, the encoder makes 9; .*retriever\.milvus\.collection"):
        await second.open()
    await second.close()


@pytest.mark.milvus
async def test_a_text_too_long_for_milvus_names_its_chunk(tmp_path: Path) -> None:
    async with lite(tmp_path) as index:
        with pytest.raises(ValueError, match="'long': text has more than 65535 bytes"):
            await fill(index, chunk("long", "ü" * 40_000))


@pytest.mark.milvus
async def test_a_folder_that_another_process_holds_is_named(tmp_path: Path) -> None:
    running = Server(tmp_path / "passages.db")
    index = MilvusIndex(MilvusSettings(uri=str(tmp_path / "passages.db"), dimension=DIMENSION))
    with pytest.raises(RetrieverUnavailable, match=r"passages\.db.*one process"):
        await index.open()
    await index.close()
    running.stop()
