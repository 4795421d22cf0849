"""Real servers that several contracts share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.triton.environment import ROOT, TritonEnvironment
from deployments.triton.server import Model, TritonServer
from serve_app.adapters.encoder import ensure
from serve_app.heads import SHIPPED
from tests.contracts.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def triton_model() -> Model:
    if not TritonEnvironment().is_installed:
        pytest.skip(".venv-triton is missing or old: run `python -m deployments.triton.server --install`")
    return Model(encoder=ensure(ROOT / "var" / "encoder"), heads=SHIPPED)


@pytest.fixture(scope="session")
def triton_server(triton_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with TritonServer(triton_model, log=tmp_path_factory.mktemp("triton") / "triton.log") as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Not for those that kill or freeze it."""
    with postgres() as running:
        yield running


@pytest.fixture
def registry_at(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """URL of a new registry, by the kind of its database."""

    def url(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/deep/registry.db"
        server: Postgres = request.getfixturevalue("postgres_server")
        return server.new_database()

    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def registry_url(request: pytest.FixtureRequest, registry_at: Callable[[str], str]) -> str:
    """A new registry on each of the databases."""
    return registry_at(request.param)
