"""The classifier as a Triton model: TEXT in; EMBEDDING, a column of SCORES for each head, and SUSPICION out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serve_app import indirect
from serve_app.adapters.encoder import Encoder
from serve_app.heads import NAMES, SHIPPED, Heads
from serve_app.indirect import Inspector


class TritonPythonModel:
    """The name Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.heads = Heads.load(Path(setting("heads_path", parameters) or SHIPPED))
        self.inspector = Inspector.load(indirect.SHIPPED)
        threads = int(setting("encoder_threads", parameters))
        self.encoder = Encoder(Path(setting("encoder_path", parameters)), threads, self.heads.branch)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        given = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        texts = [text.decode("utf-8", "replace") for text in given]
        wanted = set(request.requested_output_names())
        arrays = self.scored(texts, wanted) if "SCORES" in wanted else {}
        if "EMBEDDING" in wanted - arrays.keys():
            arrays["EMBEDDING"] = self.encoder.encode(texts)
        if "SUSPICION" in wanted:
            arrays["SUSPICION"] = self.inspector.read(texts, self.encoder.encode)
        outputs = [pb_utils.Tensor(name, np.ascontiguousarray(arrays[name])) for name in arrays if name in wanted]
        return pb_utils.InferenceResponse(output_tensors=outputs)

    def scored(self, texts: Sequence[str], wanted: set[str]) -> dict[str, NDArray[np.float32]]:
        """SCORES, and EMBEDDING where it is wanted too: it then costs less than by itself."""
        arrays = {}
        if "EMBEDDING" in wanted and texts:
            arrays["EMBEDDING"], states = self.encoder.read(texts)
        else:
            states = self.encoder.states(texts)
        rows = self.heads.read(texts, self.encoder.states, states)
        scores = [[row[name] for name in NAMES] for row in rows]
        return arrays | {"SCORES": np.array(scores, np.float32).reshape(len(texts), len(NAMES))}


def setting(name: str, parameters: dict[str, dict[str, str]]) -> str:
    return os.environ.get(f"MANTA_{name.upper()}") or parameters[name]["string_value"]
