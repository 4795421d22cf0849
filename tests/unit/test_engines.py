from dataclasses import replace

import pytest

from serve_app.engines import Engines
from serve_app.registry.declared import declared
from tests.builders import ScriptedEngine, settings

ENTRY = declared(settings().models, "development").entries[0]


def test_a_changed_weight_keeps_the_engine_with_its_connections() -> None:
    engines = Engines(lambda entry: ScriptedEngine())
    first = engines.of(ENTRY)
    assert engines.of(replace(ENTRY, weight=5, status="disabled", version="2", owner="somebody")) is first


@pytest.mark.parametrize(
    "change", [{"endpoint": "serve://other"}, {"served_name": "x"}, {"key_env": "X_API_KEY"}, {"engine": "openai"}]
)
def test_what_an_engine_is_made_from_makes_another(change: dict[str, str]) -> None:
    engines = Engines(lambda entry: ScriptedEngine())
    assert engines.of(replace(ENTRY, **change)) is not engines.of(ENTRY)
