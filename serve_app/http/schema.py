"""Request bodies as /docs shows them, where the body is read by us and not by FastAPI."""

from typing import Any

from pydantic import BaseModel


def body_schema(shape: type[BaseModel]) -> dict[str, Any]:
    """What a route takes as `openapi_extra`."""
    schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
    inlined = {**schema, "properties": schema["properties"]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline(inlined)}}}}


def inline(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` put where they are referred to: OpenAPI has no local definitions."""
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(definitions[node["$ref"].rsplit("/", 1)[-1]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(value) for value in node] if isinstance(node, list) else node

    resolved: dict[str, Any] = resolve(schema)
    return resolved
