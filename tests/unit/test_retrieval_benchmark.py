import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.retrieval_fit import FLOOR, FLOOR_SHARE, Lesson, fitted
from benchmarks.retrieval_tasks import held_out, sets_of, tasks_of
from serve_app.evaluation.retrieval import Question
from serve_app.reranking import FEATURES

PAGES = {"rollback": "Redeploy the previous version of the service.", "orchard": "Pears ripen slowly in September."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pages"
    path.mkdir()
    rows = [{"id": id, "title": id, "text": text} for id, text in PAGES.items()]
    (path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [
        {"id": "1", "query": "When do the pears ripen?", "relevant": ["orchard"]},
        {"id": "2", "query": "Where is the harbour?", "relevant": ["harbour"]},
    ]
    (path / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_set_is_a_folder_of_documents_and_of_questions_that_they_answer(folder: Path) -> None:
    (one,) = sets_of(folder)
    assert (one.name, set(one.documents), [row["id"] for row in one.questions]) == ("pages", set(PAGES), ["1"])


def test_the_tasks_are_the_same_every_time(folder: Path) -> None:
    (one,) = sets_of(folder)
    first, again = list(tasks_of(one)), list(tasks_of(one))
    assert first == again
    assert {task.name: [question.text for question in task.questions] for task in first}["rare words"] == [
        "pears ripen"
    ]


def test_words_that_the_document_has_are_left_out_and_others_kept(folder: Path) -> None:
    (one,) = sets_of(folder)
    texts = {task.name: task.questions for task in tasks_of(one)}
    assert all({"When", "do", "the"} <= set(question.text.split()) for question in texts["words left out"])


def test_a_document_is_on_one_side_only() -> None:
    sides = {held_out(Question(str(number), "?", frozenset({"a"}))) for number in range(9)}
    assert len(sides) == 1
    assert {held_out(Question("1", "?", frozenset({str(number)}))) for number in range(99)} == {True, False}


def test_a_feature_that_tells_answers_apart_gets_the_weight() -> None:
    draw = np.random.default_rng(0)
    telling = FEATURES.index("pairs")

    def lesson() -> Lesson:
        features = draw.random((20, len(FEATURES)))
        answers = np.arange(20) == 3
        features[:, telling] = answers * 0.8 + features[:, telling] * 0.2
        return Lesson("t", features, answers)

    foreign = [draw.random((20, len(FEATURES))) * 0.3 for _ in range(40)]
    weights = fitted([lesson() for _ in range(60)], foreign)
    assert max(weights.by_feature, key=weights.by_feature.__getitem__) == "pairs"
    assert min(weights.by_feature.values()) >= 0
    above = np.mean([max(weights.scores(one)) >= FLOOR for one in foreign])
    assert above == pytest.approx(1 - FLOOR_SHARE, abs=0.03)
