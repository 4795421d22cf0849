"""The real Triton server that the classifier's contract and the backend's own tests share."""

from collections.abc import Iterator

import pytest

from deployments.triton.environment import ROOT, TritonEnvironment
from deployments.triton.server import Model, TritonServer
from serve_app.adapters.encoder import ensure
from serve_app.heads import SHIPPED


@pytest.fixture(scope="session")
def triton_model() -> Model:
    if not TritonEnvironment().is_installed:
        pytest.skip(".venv-triton is missing or old: run `python -m deployments.triton.server --install`")
    return Model(encoder=ensure(ROOT / "var" / "encoder"), heads=SHIPPED)


@pytest.fixture(scope="session")
def triton_server(triton_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with TritonServer(triton_model, log=tmp_path_factory.mktemp("triton") / "triton.log") as running:
        yield running
