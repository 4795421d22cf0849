import numpy as np
import pytest

from serve_app.errors import UnknownModel
from serve_app.registry.declared import declared
from serve_app.routing.router import Router
from serve_app.turn import Signals
from tests.builders import settings, turn


def router(**changes: object) -> Router:
    chosen = settings(**changes)
    snapshot = declared(chosen.models, "development")
    return Router(lambda: snapshot, "development", chosen.router)


def signals(difficulty: float) -> Signals:
    return Signals(np.zeros(384, np.float32), {"difficulty": difficulty, "injection": 0.0})


def test_a_named_model_is_taken_as_named() -> None:
    assert router().route(turn(model="large"), signals(0.0)).chosen.model == "large"


@pytest.mark.parametrize(("difficulty", "model"), [(0.1, "small"), (0.5, "large"), (0.9, "large")])
def test_auto_goes_by_difficulty(difficulty: float, model: str) -> None:
    assert router().route(turn(model="auto"), signals(difficulty)).chosen.model == model


def test_the_reason_names_score_and_threshold() -> None:
    assert router().route(turn(model="auto"), signals(0.31)).reason == "auto; difficulty 0.31 < 0.50"


def test_auto_without_a_classifier_takes_the_default() -> None:
    assert router().route(turn(model="auto"), None).chosen.model == "small"


def test_a_model_nobody_serves_is_refused_with_the_names_of_those_served() -> None:
    with pytest.raises(UnknownModel, match="auto, extractive, large, small"):
        router().check("gpt-9")


def test_auto_and_the_extractive_engine_look_for_passages_by_default() -> None:
    assert [router().grounds_by_default(m) for m in ("auto", "extractive", "small")] == [True, True, False]
