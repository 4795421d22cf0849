"""The difference of two manifests as JSON Patch (RFC 6902), which kustomize applies to any kind of object."""

from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def difference(old: Any, new: Any, path: str = "") -> Iterator[Operation]:
    """Operations that turn `old` into `new`, in the order they must be applied."""
    if isinstance(old, dict) and isinstance(new, dict):
        yield from of_objects(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from of_lists(old, new, path)
    elif old != new or type(old) is not type(new):
        yield {"op": "replace", "path": path, "value": new}


def of_objects(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Operation]:
    for key, value in old.items():
        if key in new:
            yield from difference(value, new[key], f"{path}/{escaped(key)}")
        else:
            yield {"op": "remove", "path": f"{path}/{escaped(key)}"}
    for key, value in new.items():
        if key not in old:
            yield {"op": "add", "path": f"{path}/{escaped(key)}", "value": value}


def of_lists(old: list[Any], new: list[Any], path: str) -> Iterator[Operation]:
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        yield from difference(left, right, f"{path}/{index}")
    # From the end, so that the places of those still to be removed stay what they are.
    for index in reversed(range(len(new), len(old))):
        yield {"op": "remove", "path": f"{path}/{index}"}
    for value in new[len(old) :]:
        yield {"op": "add", "path": f"{path}/-", "value": value}


def escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
