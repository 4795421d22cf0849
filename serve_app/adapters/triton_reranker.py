"""A cross-encoder on a Triton server."""

from collections.abc import Sequence

import numpy as np

from serve_app.adapters.triton_model import Tensors, TritonModel
from serve_app.errors import RerankerUnavailable
from serve_app.relevance import body_of
from serve_app.turn import Passage

TENSORS: Tensors = {
    "QUESTION": ("BYTES", (1,)),
    "PASSAGE": ("BYTES", (-1,)),
    "SCORE": ("FP32", (-1,)),
}
"""SCORE is a probability: the model in `deployments/triton/` ends in the logistic function."""


class TritonReranker:
    """Port `Reranker`. The model cuts a pair that is longer than it reads, from the end of its longer text; a passage
    goes under its title and headings, so that these stay.
    """

    def __init__(self, url: str, model: str, deadline_s: float) -> None:
        """`url` is host:port of Triton's gRPC. `deadline_s` limits each call."""
        self._model = TritonModel(url, model, deadline_s, TENSORS, RerankerUnavailable)

    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        """As the port says. Cancelling ends the call at once, and the model's work on it within a batch of its own."""
        if not passages:
            return ()
        given = {"QUESTION": (question,), "PASSAGE": tuple(map(body_of, passages))}
        scores = (await self._model.call(given, ("SCORE",), len(passages)))["SCORE"]
        wrong = scores[~((scores >= 0) & (scores <= 1))]
        if wrong.size:
            raise self._model.failed(f"returned the score {wrong[0]:.4g}, which is no probability")
        return tuple(np.asarray(scores, dtype=np.float64).tolist())

    async def aclose(self) -> None:
        """Close the channel; the next call opens another."""
        await self._model.aclose()
