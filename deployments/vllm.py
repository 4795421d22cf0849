"""vLLM through `ray.serve.llm`: Ray's own server and `LLMConfig`, and one method that speaks in plain values.

The body crosses the handle as a dict and is parsed here, so that only this process ever imports vLLM.
"""

from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel, ValidationError
from ray.llm._internal.serve.core.configs.openai_api_models import ChatCompletionRequest, CompletionRequest
from ray.llm._internal.serve.core.server.llm_server import LLMServer
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment

from deployments.remote import ENGINE
from serve_app.settings import VllmSettings


class VllmServer(LLMServer):  # type: ignore[misc]
    async def __init__(self, *values: Any, **named_values: Any) -> None:  # type: ignore[misc]
        """Ready means warm: vLLM's first request compiles and loads for seconds, and must not be a caller's."""
        await super().__init__(*values, **named_values)
        body = {"messages": [{"role": "user", "content": "warm up"}], "max_tokens": 2, "stream": True}
        async for _ in self.generate("chat", body):
            continue

    async def generate(self, operation: str, body: dict[str, Any]) -> AsyncGenerator[str | dict[str, Any], None]:
        """Server-sent events as text when `body["stream"]`, else one response object.

        A body that does not fit is answered by an error object, like one that vLLM refuses itself.
        """
        try:
            if operation == "completion":
                responses = await self.completions(CompletionRequest.model_validate(body))
            else:
                responses = await self.chat(ChatCompletionRequest.model_validate(body))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            field = ".".join(str(step) for step in first["loc"])
            yield {"error": {"message": f"{field}: {first['msg']}", "code": 400, "param": field or None}}
            return
        try:
            async for response in responses:
                for item in response if isinstance(response, list) else [response]:
                    yield item.model_dump(mode="json") if isinstance(item, BaseModel) else item
        finally:
            await responses.aclose()

    async def describe(self) -> dict[str, Any]:
        """What the registry fills in when this application is registered."""
        config: LLMConfig = self._llm_config
        tokens = config.engine_kwargs.get("max_model_len")
        return {"engine": "vllm", "served_names": [config.model_id], "context_tokens": tokens}

    async def ping(self) -> None:
        await self.check_health()


def build_vllm(settings: VllmSettings) -> Application:
    config = LLMConfig.model_validate(settings.llm_config)
    # Ray's default holds every first token for up to 50 ms to batch it with the next ones.
    config.experimental_configs.setdefault("stream_batching_interval_ms", 0)
    return build_llm_deployment(config, deployment_cls=VllmServer, override_serve_options={"name": ENGINE})
