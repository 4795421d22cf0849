"""A cross-encoder behind `POST /v1/rerank`: vLLM's, and what speaks the same (Cohere, Jina, llama.cpp)."""

import asyncio
import math
from collections.abc import Sequence

import httpx
from pydantic import BaseModel, Field, ValidationError

from serve_app.errors import RerankerUnavailable
from serve_app.relevance import body_of
from serve_app.turn import Passage

KEEPALIVE_S = 4.0
"""Idle connections are closed before vLLM closes them, after 5 s: no request meets one that is being closed."""

COMPLAINT_CHARS = 200
"""How much of a server's refusal is repeated."""


class Result(BaseModel):
    index: int
    relevance_score: float = Field(allow_inf_nan=False)


class Answer(BaseModel):
    """What is read of an answer, in whatever order it comes."""

    results: tuple[Result, ...]


class VllmReranker:
    """Port `Reranker`. One pool of connections, opened at first use in the loop of that call.

    The server cuts what is longer than its model reads (`truncate_prompt_tokens: -1` tells vLLM to, the others do by
    themselves). A passage goes under its title and headings, so that the cut takes its end.
    """

    def __init__(
        self, url: str, model: str, deadline_s: float, *, key: str | None = None, logits: bool = False
    ) -> None:
        """`url` is http(s)://host:port; a path in it stands in place of `/v1`. `deadline_s` limits each call.

        `logits`: the server's scores are mapped to probabilities by the logistic function; without it a score outside
        [0, 1] is an error.
        """
        root = httpx.URL(url)
        self.url = root.copy_with(path=f"{root.path.rstrip('/') or '/v1'}/rerank")
        self.model = model
        self.deadline_s = deadline_s
        self.logits = logits
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=None,  # The deadline is for the whole call; httpx's own are for each of its parts.
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_S),
        )

    async def rerank(self, question: str, passages: Sequence[Passage]) -> tuple[float, ...]:
        """As the port says. Cancelling closes the connection, on which vLLM stops."""
        if not passages:
            return ()
        try:
            async with asyncio.timeout(self.deadline_s):
                response = await self._client.post(self.url, json=self._asked(question, passages))
        except TimeoutError as exc:
            raise self._failed(f"gave no answer within {self.deadline_s * 1000:.0f} ms") from exc
        except httpx.HTTPError as exc:
            raise self._failed(f"failed: {type(exc).__name__}: {exc}") from exc
        if response.status_code != httpx.codes.OK:
            raise self._failed(_refusal(response))
        return self._scores(response, len(passages))

    async def aclose(self) -> None:
        """Close the connections; the reranker is of no use after it."""
        await self._client.aclose()

    def _asked(self, question: str, passages: Sequence[Passage]) -> dict[str, object]:
        return {
            "model": self.model,
            "query": _readable(question),
            "documents": [_readable(body_of(passage)) for passage in passages],
            "truncate_prompt_tokens": -1,
        }

    def _scores(self, response: httpx.Response, count: int) -> tuple[float, ...]:
        try:
            results = Answer.model_validate_json(response.content).results
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise self._failed(f"answered something else than results: {place} {first['msg']}".rstrip()) from exc
        found = sorted(result.index for result in results)
        if found != list(range(count)):
            raise self._failed(f"answered for the passages {_shortened(found)} where {count} were sent")
        scores = [result.relevance_score for result in sorted(results, key=lambda result: result.index)]
        return tuple(map(logistic, scores)) if self.logits else self._probabilities(scores)

    def _probabilities(self, scores: Sequence[float]) -> tuple[float, ...]:
        for score in scores:
            if not 0 <= score <= 1:
                raise self._failed(
                    f"answered the score {score:.4g}, which is no probability: set retriever.reranker.scores to logits"
                )
        return tuple(scores)

    def _failed(self, what: str) -> RerankerUnavailable:
        return RerankerUnavailable(f"reranker {self.model!r} at {self.url} {what}")


def logistic(logit: float) -> float:
    """In [0, 1], for any finite number: the form with `exp` overflows below -709."""
    return (1 + math.tanh(logit / 2)) / 2


def _refusal(response: httpx.Response) -> str:
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return (
            f"answered {response.status_code}: let retriever.reranker.key_env name the environment variable that holds "
            "a key of that server"
        )
    if response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
        # Its words may repeat ours, and this sentence is logged: a question must not stand in a log.
        return f"answered {response.status_code}: it does not take `query` and `documents` as sent"
    return f"answered {response.status_code}: {' '.join(response.text.split())[:COMPLAINT_CHARS]}"


def _shortened(indices: Sequence[int]) -> str:
    return f"{', '.join(map(str, indices[:10]))}{', ...' if len(indices) > 10 else ''}" or "(none)"


def _readable(text: str) -> str:
    """Without lone surrogates, which JSON may carry and httpx refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")
