"""Which reranker reads the passages, by the config."""

import os

from serve_app.ports import Reranker
from serve_app.settings import RerankerSettings


def reranker_of(settings: RerankerSettings) -> Reranker | None:
    """None where the index's own ranking stands.

    Raises ValueError where the config names a variable that holds no key. A server that is not there is no error: a
    search goes on without it, and finds it when it comes.
    """
    deadline_s = settings.deadline_ms / 1000
    match settings.backend:
        case "vllm":
            from serve_app.adapters.vllm_reranker import VllmReranker

            logits = settings.scores == "logits"
            return VllmReranker(settings.url, settings.model, deadline_s, key=_key(settings), logits=logits)
        case "triton":
            from serve_app.adapters.triton_reranker import TritonReranker

            return TritonReranker(settings.url, settings.model, deadline_s)
        case "embedded":
            from serve_app.reranking import EmbeddedReranker

            return EmbeddedReranker.shipped()
        case "off":
            return None


def _key(settings: RerankerSettings) -> str | None:
    if settings.key_env is None:
        return None
    # A secret written with `echo` ends in a line break, which no header may carry.
    key = os.environ.get(settings.key_env, "").strip()
    if not key:
        raise ValueError(f"retriever.reranker.key_env: the environment variable {settings.key_env!r} is not set")
    if not key.isascii() or not key.isprintable():
        # httpx would refuse it too, with the key in its message.
        raise ValueError(f"retriever.reranker.key_env: {settings.key_env!r} holds characters that no header can carry")
    return key
