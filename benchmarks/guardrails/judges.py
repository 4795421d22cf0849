"""Who judges: the roles of a replica in this process, or a running service. Both say what the wire says."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from deployments import roles
from deployments.ingress import shipped_thresholds
from serve_app.cli.moderating import batches
from serve_app.configuration import load
from serve_app.http.moderation_wire import result_object
from serve_app.moderation import Moderation

ROOT = Path(__file__).parents[2]

Result = dict[str, Any]
Judge = Callable[[Sequence[str]], list[Result]]
"""Texts to results as `/v1/moderations` gives them, in order."""


class Local:
    """The roles that a replica runs, in this process, under the local profile's policy."""

    def __init__(self) -> None:
        self._settings = load(ROOT / "configs" / "local.yaml").gateway
        self.screener, self.classifier = roles.Screener(self._settings), roles.Classifier(self._settings)
        self.shipped = shipped_thresholds()
        self._moderation = Moderation(self.screener, self.classifier, self._settings.guardrail, self.shipped)
        self.runner = asyncio.Runner()

    def judge(self, given: Sequence[str]) -> list[Result]:
        verdicts = self.runner.run(self._moderation.verdicts(tuple(given), "local", deadline_s=600))
        return list(map(result_object, verdicts))


class Service:
    def __init__(self, url: str) -> None:
        key = os.environ.get("MANTA_API_KEY", "sk-manta-local")
        self._client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=600)

    def judge(self, given: Sequence[str]) -> list[Result]:
        response = self._client.post("/v1/moderations", json={"input": list(given)})
        response.raise_for_status()
        found: list[Result] = response.json()["results"]
        return found


class Known:
    """Judges every text once: some stand in two sets."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[str, Result] = {}

    def __call__(self, given: Sequence[str]) -> list[Result]:
        for batch in batches([text for text in dict.fromkeys(given) if text not in self._known]):
            self._known.update(zip(batch, self._judge(batch), strict=True))
        return [self._known[text] for text in given]
