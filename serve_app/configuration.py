"""Config files in, checked: what is wrong is named by file, key and allowed values before anything starts."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serve_app.settings import (
    ARGUMENTS,
    Application,
    Config,
    GatewaySettings,
    ModelSettings,
    VllmSettings,
)

DATA_PREFIX = "var/"
CPU_CONTEXT_TOKENS = 8_192
"""Longest context of a model on a CPU: its key-value cache has to fit beside everything else on a laptop."""
TOOL_PARSERS = {"<tool_call>": "hermes", "<|python_tag|>": "llama3_json", "[TOOL_CALLS]": "mistral"}
"""vLLM's parser of tool calls, by the mark that a model's chat template writes them with."""


class InvalidConfig(ValueError):
    """A config that must not start; the message is for the person who wrote it."""


def load(path: Path) -> Config:
    """The config at `path`. Raises InvalidConfig with a line for each thing that is wrong."""
    try:
        given = yaml.safe_load(path.read_text())
    except OSError as exc:
        raise InvalidConfig(f"{path}: cannot be read: {exc.strerror}") from exc
    except yaml.YAMLError as exc:
        raise InvalidConfig(f"{path}: is not YAML: {exc}") from exc
    if not isinstance(given, dict):
        raise InvalidConfig(f"{path}: must be a mapping with the key 'applications'")
    try:
        config = Config.model_validate(given)
        checked_gateway(config)
        for application in config.applications:
            check_tensor_parallel(application)
    except ValidationError as exc:
        raise InvalidConfig("\n".join(f"{path}: {line}" for line in complaints(exc, given))) from exc
    except ValueError as exc:
        raise InvalidConfig(f"{path}: {exc}") from exc
    return config


def checked_gateway(config: Config) -> GatewaySettings:
    for application in config.applications:
        if isinstance(application.args, GatewaySettings) and application.name != "gateway":
            raise ValueError(f"applications: the gateway's name must be 'gateway' (got {application.name!r})")
    return config.gateway


def complaints(failure: ValidationError, given: Mapping[str, Any]) -> list[str]:
    """One sentence for each error; a key that does not exist is answered with those that do."""
    lines = []
    for error in failure.errors(include_url=False, include_context=False):
        steps, section = located(error["loc"], given)
        where = ".".join(str(step) for step in steps)
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = f"unknown key; allowed here: {', '.join(sorted(section.model_fields))}"
        lines.append(f"{where}: {message}" if where else message)
    return lines


def located(location: tuple[str | int, ...], given: Mapping[str, Any]) -> tuple[tuple[str | int, ...], Any]:
    """The full path of a wrong key, and the section it stands in.

    Pydantic reports errors inside `args` as if they stood in the application: `args` is validated before it is a field.
    """
    section: Any = Config
    steps = location
    if location[:1] == ("applications",) and len(location) > 2:
        application = given["applications"][location[1]]
        section = Application
        if location[2] not in Application.model_fields:
            section = ARGUMENTS[application["import_path"]]
            steps = (*location[:2], "args", *location[2:])
        location = location[2:]
    for step in location[:-1]:
        if step in section.model_fields:
            section = next(iter(sections_of(section.model_fields[step].annotation)), section)
    return steps, section


def sections_of(annotation: Any) -> list[Any]:
    """The settings classes inside an annotation such as `tuple[KeySettings, ...]` or `dict[str, ModelSettings]`."""
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in sections_of(part)]


def check_tensor_parallel(application: Application) -> None:
    """Raises ValueError when a model whose config.json is at hand cannot be split as asked."""
    if not isinstance(application.args, VllmSettings):
        return
    llm_config = application.args.llm_config
    size = (llm_config.get("engine_kwargs") or {}).get("tensor_parallel_size", 1)
    heads = model_facts(llm_config).get("num_attention_heads")
    if heads and heads % size:
        fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise ValueError(
            f"applications.{application.name}.args.llm_config.engine_kwargs.tensor_parallel_size: {size} does not "
            f"divide the model's {heads} attention heads; allowed: {fitting}"
        )


def model_facts(llm_config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own config.json where it is on this machine (a folder, or the hub's cache); else empty."""
    loading = llm_config.get("model_loading_config") or {}
    source = loading.get("model_source") or loading.get("model_id") or ""
    return facts_of(source) if isinstance(source, str) else {}


def facts_of(source: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(model_file(source, "config.json") or "{}")
    text: dict[str, Any] = facts.get("text_config", facts)
    return text


def tool_parser(source: str) -> str | None:
    """By the model's chat template where it is at hand; a wrong parser would keep vLLM from starting."""
    template = model_file(source, "chat_template.jinja") + model_file(source, "tokenizer_config.json")
    if not template and "qwen" in source.lower():
        return "hermes"
    return next((parser for mark, parser in TOOL_PARSERS.items() if mark in template), None)


def model_file(source: str, name: str) -> str:
    """A file of a model, from its folder or from the hub's cache on this machine; empty where it is in neither."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    file = Path(source) / name
    if not file.is_file():
        try:
            cached = try_to_load_from_cache(source, name)
        except HFValidationError:
            return ""
        file = Path(cached) if isinstance(cached, str) else file
    return file.read_text() if file.is_file() else ""


def at_home(config: Config, folder: Path) -> Config:
    """The config with its data below `folder`, absolute: Ray's workers do not share our working directory."""
    tree = dump(config)
    for application in tree["applications"]:
        retriever = application["args"].get("retriever")
        if retriever is None:
            continue
        home = f"{folder.resolve()}/"
        retriever["files_path"] = moved(retriever["files_path"], home)
        retriever["milvus"]["uri"] = moved(retriever["milvus"]["uri"], home)
        classifier = application["args"]["classifier"]
        classifier["encoder_path"] = str(Path(classifier["encoder_path"]).resolve())
        registry = application["args"]["registry"]
        registry["copy_path"] = moved(registry["copy_path"], home)
        for section, url in ((retriever, "catalog_url"), (registry, "database_url")):
            section[url] = section[url].replace(f":///{DATA_PREFIX}", f":///{home}")
    return Config.model_validate(tree)


def moved(path: str, home: str) -> str:
    return home + path.removeprefix(DATA_PREFIX) if path.startswith(DATA_PREFIX) else path


def dump(config: Config) -> dict[str, Any]:
    """The config as plain values, defaults written out, as Serve takes it."""
    tree: dict[str, Any] = config.model_dump(mode="json", exclude={"cluster"})
    for application in tree["applications"]:
        application["deployments"] = [
            {key: value for key, value in options.items() if value is not None}
            for options in application["deployments"]
        ]
        if application["runtime_env"] is None:
            del application["runtime_env"]
    return tree


def with_model(config: Config, model: str, *, gpu: bool, tensor_parallel_size: int = 1) -> Config:
    """The config with one more application, vLLM running `model` (a hub id or a folder), and `auto` sent to it."""
    folder = Path(model).expanduser()
    source = str(folder.resolve()) if folder.is_dir() else model
    model_id = folder.name if folder.is_dir() else model
    facts = facts_of(source)
    positions = int(facts.get("max_position_embeddings", CPU_CONTEXT_TOKENS))
    context = positions if gpu else min(positions, CPU_CONTEXT_TOKENS)
    llm_config = vllm_on_gpu(tensor_parallel_size) if gpu else vllm_on_cpu(tensor_parallel_size)
    llm_config["model_loading_config"] = {"model_id": model_id, "model_source": source}
    llm_config["engine_kwargs"] |= {"max_model_len": context, "tensor_parallel_size": tensor_parallel_size}
    if parser := tool_parser(source):
        llm_config["engine_kwargs"] |= {"enable_auto_tool_choice": True, "tool_call_parser": parser}
    name = model_id.replace("/", "--")
    application = Application(
        name=name, import_path="deployments.vllm:build_vllm", args=VllmSettings(llm_config=llm_config)
    )
    check_tensor_parallel(application)
    gateway = config.gateway
    own = Path(source) / "tokenizer.json"
    served = ModelSettings(
        application=name,
        engine="vllm",
        context_tokens=context,
        tokenizer_path=str(own) if own.is_file() else None,
    )
    models = {**gateway.models, model_id: served}
    router = gateway.router.model_copy(update={"small": model_id, "large": model_id})
    gateway = gateway.model_copy(update={"models": models, "router": router})
    others = [app.model_copy(update={"args": gateway}) if app.name == "gateway" else app for app in config.applications]
    return config.model_copy(update={"applications": (*others, application)})


def vllm_on_gpu(tensor_parallel_size: int) -> dict[str, Any]:
    return {
        "engine_kwargs": {"enable_prefix_caching": True},
        "placement_group_config": {"bundles": [{"CPU": 0.1, "GPU": 1}] * tensor_parallel_size},
        "deployment_config": {
            "autoscaling_config": {"min_replicas": 1, "max_replicas": 1, "target_ongoing_requests": 64}
        },
    }


def vllm_on_cpu(tensor_parallel_size: int) -> dict[str, Any]:
    """Two ranks on one NUMA node need their cores named, and the multiprocessing executor (vLLM's CPU build)."""
    variables = {"VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"), "VLLM_NO_USAGE_STATS": "1"}
    kwargs: dict[str, Any] = {"dtype": "bfloat16", "enforce_eager": True}
    if tensor_parallel_size > 1:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(core) for core in range(tensor_parallel_size))
        kwargs["distributed_executor_backend"] = "mp"
    return {
        "engine_kwargs": kwargs,
        "accelerator_config": {"kind": "cpu"},
        "placement_group_config": {"bundles": [{"CPU": 0.5}]},
        "runtime_env": {"env_vars": variables},
        "deployment_config": {
            "autoscaling_config": {"min_replicas": 1, "max_replicas": 1, "target_ongoing_requests": 64}
        },
    }
