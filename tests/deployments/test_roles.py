import logging
from pathlib import Path

import pytest

from deployments.cluster import free_ports
from deployments.roles import opened
from serve_app.adapters.milvus import MilvusIndex
from serve_app.errors import RetrieverUnavailable
from serve_app.settings import MilvusSettings


async def test_a_retriever_starts_without_its_server(caplog: pytest.LogCaptureFixture) -> None:
    settings = MilvusSettings(uri=f"http://127.0.0.1:{free_ports(1)[0]}", connect_deadline_s=0.5, write_deadline_s=1)
    index = MilvusIndex(settings)
    with caplog.at_level(logging.WARNING, logger="manta"):
        await opened(index, settings)
    assert settings.uri in caplog.text
    with pytest.raises(RetrieverUnavailable):
        await index.ping()
    await index.close()


@pytest.mark.milvus
async def test_a_retriever_does_not_start_on_another_services_folder(tmp_path: Path) -> None:
    (tmp_path / "milvus.db").write_text("not a folder")
    settings = MilvusSettings(uri=str(tmp_path / "milvus.db"))
    index = MilvusIndex(settings)
    with pytest.raises(RetrieverUnavailable):
        await opened(index, settings)
    await index.close()
