"""A cross-encoder as a Triton model: QUESTION and PASSAGE in; SCORE, the probability that each passage answers, out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from deployments.triton.cross_encoder import Cancelled, CrossEncoder


class TritonPythonModel:
    """The name Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        path = Path(setting("reranker_path", parameters))
        self.encoder = CrossEncoder(path, int(setting("reranker_threads", parameters)))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        [question] = texts(request, "QUESTION")
        try:
            # Work for callers whose deadline has passed would make the next ones miss theirs, for ever.
            scores = self.encoder.read(question, texts(request, "PASSAGE"), request.is_cancelled)
        except Cancelled:
            error = pb_utils.TritonError("the caller has gone", pb_utils.TritonError.CANCELLED)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("SCORE", scores)])


def texts(request: Any, name: str) -> list[str]:
    given = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return [text.decode("utf-8", "replace") for text in given]


def setting(name: str, parameters: dict[str, dict[str, str]]) -> str:
    return os.environ.get(f"MANTA_{name.upper()}") or parameters[name]["string_value"]
