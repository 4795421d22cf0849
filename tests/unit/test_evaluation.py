import gzip
import json
import math
from pathlib import Path

import openai
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from serve_app.cli import evaluate
from serve_app.cli.main import app as command
from serve_app.evaluation.retrieval import Asked, Figure, Question, ask, corpus_of, digest, questions_of
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


@pytest.mark.parametrize(("least", "status"), [("0.9", 0), ("1.01", 1)])
def test_the_command_ingests_asks_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: str, status: int
) -> None:
    words = ["rollback", "snapshot", "orchard", "harbour"]
    corpus = [{"id": f"doc-{word}", "title": word, "text": f"All about the {word} <b>."} for word in words]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    queries = [{"query": f"Tell me of the {word}", "relevant": [f"doc-{word}"]} for word in words]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, queries)))
    with TestClient(library_app(tmp_path, 10**6), base_url="http://manta.test/v1/") as transport:
        client = openai.OpenAI(api_key="ann", base_url="http://manta.test/v1", http_client=transport, max_retries=0)
        monkeypatch.setattr(evaluate, "connect", lambda: client)
        arguments = ["eval", "retrieval", "--queries", str(tmp_path / "q.jsonl"), "--corpus", str(tmp_path / "c.jsonl")]
        for _ in range(2):
            run = CliRunner().invoke(command, [*arguments, "--report", str(tmp_path / "report"), "--least", least])
            assert run.exit_code == status, run.output
        (store,) = client.vector_stores.list()
        assert store.file_counts.completed == 1
    report = json.loads((tmp_path / "report" / "retrieval.json").read_text())
    assert report["figures"]["both"]["ndcg@10"]["mean"] == 1.0
    assert report["questions"] == 4
    assert "1.0000" in (tmp_path / "report" / "retrieval.md").read_text()
    assert "<svg" in (tmp_path / "report" / "retrieval.html").read_text()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.jsonl")
    run = CliRunner().invoke(command, ["eval", "retrieval", "--queries", missing, "--corpus", missing])
    assert run.exit_code == 2
    assert f"{missing} cannot be read: No such file or directory" in run.output
