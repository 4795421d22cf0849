"""The committed manifests, and kustomize's work on them done in Python, where there is no kubectl."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from deployments.manifest import render
from serve_app.settings import Config

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "rayservice"
OVERLAYS = ("development", "production")


def a100() -> Config:
    return Config.model_validate(yaml.safe_load((ROOT / "configs/a100.yaml").read_text()))


def built(name: str) -> list[dict[str, Any]]:
    """Objects of an overlay, or of `base`."""
    files = {str(path): yaml.safe_load(text) for path, text in render(a100()).items()}
    service = files["base/rayservice.yaml"]
    if name == "base":
        return [service]
    folder = f"overlays/{name}"
    overlay = files[f"{folder}/kustomization.yaml"]
    for patch in overlay["patches"]:
        service = applied(service, files[f"{folder}/{patch['path']}"])
    others = [files[f"{folder}/{path}"] for path in overlay["resources"] if path.endswith(".yaml")]
    return [service, *others]


def rayservice(name: str) -> dict[str, Any]:
    return next(manifest for manifest in built(name) if manifest["kind"] == "RayService")


def applied(document: Any, operations: list[dict[str, Any]]) -> Any:
    """JSON Patch (RFC 6902): add, replace and remove, as the standard has them."""
    root = [deepcopy(document)]
    for operation in operations:
        *parents, last = ["0", *map(unescaped, operation["path"].split("/")[1:])]
        place: Any = root
        for step in parents:
            place = place[int(step) if isinstance(place, list) else step]
        apply(place, last, operation)
    return root[0]


def unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def apply(place: Any, key: str, operation: dict[str, Any]) -> None:
    if isinstance(place, list):
        at = len(place) if key == "-" else int(key)
        # Slices: an insertion replaces nothing, a removal leaves nothing.
        place[at : at + (operation["op"] != "add")] = [] if operation["op"] == "remove" else [operation["value"]]
    elif operation["op"] == "remove":
        del place[key]
    elif operation["op"] == "add" or key in place:
        place[key] = operation["value"]
    else:
        raise KeyError(f"{operation['path']}: replace wants a value that is there")
