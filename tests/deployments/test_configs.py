from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.configuration import dump, load

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_serve_takes_a_config_as_it_stands(file: Path) -> None:
    """What `serve run` reads: a route left out would be `/`, and two of them are refused."""
    schema = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    assert [app.name for app in schema.applications] == [app.name for app in load(file).applications]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_serve_takes_what_manta_serve_makes_of_it(file: Path) -> None:
    assert ServeDeploySchema.model_validate(dump(load(file))).applications
