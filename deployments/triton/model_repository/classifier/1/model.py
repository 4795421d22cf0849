"""The classifier as a Triton model: TEXT in; EMBEDDING, and the heads' probabilities as columns of SCORES, out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serve_app.adapters.encoder import Encoder
from serve_app.heads import NAMES, SHIPPED, Heads


class TritonPythonModel:
    """The name Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.heads = Heads.load(Path(setting("heads_path", parameters) or SHIPPED))
        threads = int(setting("encoder_threads", parameters))
        self.encoder = Encoder(Path(setting("encoder_path", parameters)), threads, self.heads.branch)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        given = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        texts = [text.decode("utf-8", "replace") for text in given]
        wanted = set(request.requested_output_names())
        arrays = {"EMBEDDING": self.encoder.encode(texts)} if wanted == {"EMBEDDING"} else self.scored(texts, wanted)
        outputs = [pb_utils.Tensor(name, np.ascontiguousarray(arrays[name])) for name in arrays if name in wanted]
        return pb_utils.InferenceResponse(output_tensors=outputs)

    def scored(self, texts: Sequence[str], wanted: set[str]) -> dict[str, NDArray[np.float32]]:
        if "EMBEDDING" not in wanted or not texts:
            embeddings, states = np.zeros((len(texts), self.encoder.dimension), np.float32), self.encoder.states(texts)
        else:
            embeddings, states = self.encoder.read(texts)
        rows = self.heads.read(texts, self.encoder.states, states)
        scores = np.array([[row[name] for name in NAMES] for row in rows], np.float32).reshape(len(texts), len(NAMES))
        return {"EMBEDDING": embeddings, "SCORES": scores}


def setting(name: str, parameters: dict[str, dict[str, str]]) -> str:
    return os.environ.get(f"MANTA_{name.upper()}") or parameters[name]["string_value"]
