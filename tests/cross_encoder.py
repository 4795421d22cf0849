"""A tiny cross-encoder made in seconds: random weights, saved for vLLM and exported to ONNX for Triton."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCES = Path(__file__).parents[1] / "serve_app"
MAX_TOKENS = 128
Logits = Callable[[str, list[str]], NDArray[np.float64]]
"""What the checkpoint itself, in PyTorch, says of each pair of the question and a text."""


def make(folder: Path, labels: int = 1) -> Logits:
    """Write the checkpoint: config.json, model.safetensors, model.onnx, tokenizer.json and its settings.

    With more than one label it is a classifier of pairs, and no reranker.
    """
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = BertWordPieceTokenizer()
    words.train_from_iterator(
        (file.read_text() for file in sorted(SOURCES.rglob("*.py"))), vocab_size=1024, show_progress=False
    )
    tokenizer = BertTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1024,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=MAX_TOKENS,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,  # Far more than a model is trained from: scores must differ between texts.
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    export(model, folder / "model.onnx")

    def logits(question: str, texts: list[str]) -> NDArray[np.float64]:
        pairs = tokenizer([question] * len(texts), texts, truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            return model(**pairs).logits[:, 0].double().numpy()

    return logits


def export(model: "torch.nn.Module", path: Path) -> None:  # noqa: F821
    import torch
    from torch.onnx._internal.torchscript_exporter import onnx_proto_utils

    class Positional(torch.nn.Module):
        """The exporter hands over inputs by position, and the model's are in another order."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    names = ["input_ids", "attention_mask", "token_type_ids"]
    # Three tensors, or the graph would read one input three times; a mask with a gap, or it would read no mask.
    example = tuple(torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]) for _ in names)
    # The step that adds functions written in onnxscript: a BERT has none, and the step wants the package onnx.
    adding, onnx_proto_utils._add_onnxscript_fn = onnx_proto_utils._add_onnxscript_fn, lambda graph, _: graph
    try:
        torch.onnx.export(
            Positional().eval(),
            example,
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            dynamo=False,
        )
    finally:
        onnx_proto_utils._add_onnxscript_fn = adding
