import gzip
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from serve_app.adapters.memory import MemoryIndex
from serve_app.cli import evaluate
from serve_app.cli.main import app as command
from serve_app.evaluation.report import Evaluation
from serve_app.evaluation.retrieval import (
    Asked,
    Comparison,
    Figure,
    Question,
    ask,
    corpus_of,
    digest,
    lost,
    questions_of,
)
from serve_app.ports import Query
from serve_app.turn import Passage, Ranking
from tests.unit.documents import library_app


def asked(*found: str, relevant: tuple[str, ...] = ("a",)) -> Asked:
    return Asked(Question("q", "?", frozenset(relevant)), found, 0.01)


@pytest.mark.parametrize(
    ("one", "ndcg", "recall", "reciprocal"),
    [
        (asked("a", "b"), 1.0, 1.0, 1.0),
        (asked("b", "a"), 1 / math.log2(3), 1.0, 0.5),
        (asked("b", "c"), 0.0, 0.0, 0.0),
        (asked("a", "x", "b", relevant=("a", "b")), (1 + 1 / 2) / (1 + 1 / math.log2(3)), 1.0, 1.0),
        (asked("a", relevant=("a", "b")), 1 / (1 + 1 / math.log2(3)), 0.5, 1.0),
        (asked(*"bcdefghijk", "a"), 0.0, 0.0, 0.0),
    ],
)
def test_the_measures_are_those_of_the_textbook(one: Asked, ndcg: float, recall: float, reciprocal: float) -> None:
    assert (one.ndcg, one.recall, one.reciprocal_rank) == pytest.approx((ndcg, recall, reciprocal))


def test_a_document_found_by_several_chunks_counts_once() -> None:
    (one,) = ask([Question("q", "?", frozenset({"a"}))], lambda text: ["b", "b", "a"])
    assert one.found == ("b", "a")


def test_an_interval_holds_its_mean() -> None:
    figure = Figure.of([0.0, 1.0] * 50)
    assert figure.low < figure.mean == 0.5 < figure.high
    assert Figure.of([1.0, 1.0]) == Figure(1.0, 1.0, 1.0)


def test_a_way_is_compared_with_the_better_of_the_others() -> None:
    right, wrong = asked("a"), asked("b")
    ways = {"both": [right, right, wrong], "meaning": [wrong, wrong, right], "words": [wrong, right, right]}
    compared = Comparison.of(ways, "both")
    assert compared is not None
    assert (compared.better, compared.ahead, compared.behind) == ("words", 1, 1)
    assert compared.difference.mean == 0
    assert lost(ways, "both") == [(1.0, "meaning", wrong)]


def test_one_way_alone_is_compared_with_nothing() -> None:
    assert Comparison.of({"both": [asked("a")]}, "both") is None
    assert lost({"both": [asked("b")]}, "both") == []


def test_questions_and_documents_are_read_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "1", "query": "why?", "relevant": ["a"]}\n')
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"id": "a", "text": "because", "title": "T"}\n')
    assert questions_of(tmp_path / "q.jsonl") == [Question("1", "why?", frozenset({"a"}))]
    assert list(corpus_of([tmp_path / "c.jsonl.gz"])) == ["a"]
    assert digest(corpus_of([tmp_path / "c.jsonl.gz"])) == digest(corpus_of([tmp_path / "c.jsonl.gz"]))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: give one object a line"),
        ('{"query": "x"}', 'line 1: need "query" and a list "relevant"'),
        ('{"query": "x", "relevant": []}', "line 1: no document is relevant"),
        ("", "holds no questions"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(ValueError, match=sentence):
        questions_of(tmp_path / "q.jsonl")


@pytest.fixture
def evaluate_orchard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """The command against an app in this process, with a corpus of four documents."""
    words = ["rollback", "snapshot", "orchard", "harbour"]
    corpus = [{"id": f"doc-{word}", "title": word, "text": f"All about the {word} <b>."} for word in words]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    queries = [{"query": f"Tell me of the {word}", "relevant": [f"doc-{word}"]} for word in words]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, queries)))
    given = ["--queries", str(tmp_path / "q.jsonl"), "--corpus", str(tmp_path / "c.jsonl")]
    with TestClient(library_app(tmp_path, 10**6), base_url="http://manta.test/v1/") as transport:
        client = openai.OpenAI(api_key="ann", base_url="http://manta.test/v1", http_client=transport, max_retries=0)
        monkeypatch.setattr(evaluate, "connect", lambda: client)
        yield lambda *more: CliRunner().invoke(
            command, ["eval", "retrieval", *given, "--report", str(tmp_path / "report"), *more]
        )
        (store,) = client.vector_stores.list()
        assert store.file_counts.completed == 1


def test_the_command_ingests_once_asks_three_ways_and_reports(
    tmp_path: Path, evaluate_orchard: Callable[..., Result]
) -> None:
    for _ in range(2):
        run = evaluate_orchard("--least", "0.9", "--behind", "0.002")
        assert run.exit_code == 0, run.output
    report = json.loads((tmp_path / "report" / "retrieval.json").read_text())
    assert set(report["figures"]) == set(report["latency_ms"]) == {"both", "meaning", "words"}
    assert report["figures"]["both"]["ndcg@10"]["mean"] == 1.0
    assert report["comparison"]["difference"]["mean"] >= 0
    assert report["questions"] == 4
    assert "1.0000" in (tmp_path / "report" / "retrieval.md").read_text()
    page = (tmp_path / "report" / "retrieval.html").read_text()
    assert page.count("<svg") == 3
    assert "<b>" not in page


def test_each_way_is_one_search_alone(evaluate_orchard: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of: list[Ranking] = []
    search = MemoryIndex.search

    async def remembering(index: MemoryIndex, query: Query) -> tuple[Passage, ...]:
        asked_of.append(query.ranking)
        return await search(index, query)

    monkeypatch.setattr(MemoryIndex, "search", remembering)
    assert evaluate_orchard().exit_code == 0
    assert [one.meaning for one in asked_of] == [None] * 4 + [1.0] * 4 + [0.0] * 4


def test_a_search_that_is_not_good_enough_ends_the_command_with_1(evaluate_orchard: Callable[..., Result]) -> None:
    run = evaluate_orchard("--least", "1.01", "--no-compare")
    assert run.exit_code == 1
    assert "nDCG@10 is 1.0000, below the 1.01 asked for" in run.output


@pytest.mark.parametrize(("behind", "reason"), [(0.6, ""), (0.002, "nDCG@10 is 0.5000 below that of words alone")])
def test_a_search_behind_one_of_its_halves_is_said_to_be(behind: float, reason: str) -> None:
    ways = {"both": [asked("b", "c"), asked("a")], "meaning": [asked("b"), asked("b")], "words": [asked("a")] * 2}
    evaluation = Evaluation(target="t", corpus="c", documents=1, date="d", ways=ways)
    assert evaluate.shortfall(evaluation, None, behind).startswith(reason)
    assert bool(evaluate.shortfall(evaluation, None, behind)) is bool(reason)
    assert "is 0.5000 below that of words alone" in evaluation.verdict


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.jsonl")
    run = CliRunner().invoke(command, ["eval", "retrieval", "--queries", missing, "--corpus", missing])
    assert run.exit_code == 2
    assert f"{missing} cannot be read: No such file or directory" in run.output
