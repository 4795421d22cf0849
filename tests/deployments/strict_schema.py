"""Kubernetes schemas made strict: a field they do not name is refused, as `kubectl --validate=strict` would."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).parents[2]

METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
CORE_SCHEMAS = {
    ("v1", "Namespace"): "namespace-v1.json",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudget-policy-v1.json",
}


def schemas_folder() -> Path:
    """Where the schemas are: MANTA_CRDS, or `shared/data/crds` in or beside the repository. Skips without."""
    named = os.environ.get("MANTA_CRDS")
    places = [Path(named)] if named else [folder / "shared/data/crds" for folder in (ROOT, ROOT.parent)]
    for place in places:
        if (place / "kuberay/ray.io_rayservices.yaml").is_file():
            return place
    pytest.skip(
        "no kuberay/ray.io_rayservices.yaml (KubeRay's CRD) and kubernetes-core/ (strict JSON Schemas) in "
        f"{' or '.join(map(str, places))}; set MANTA_CRDS to a folder that has them"
    )


def validators(folder: Path) -> dict[tuple[str, str], Draft202012Validator]:
    """By apiVersion and kind."""
    core = sorted((folder / "kubernetes-core").glob("v*"))[-1]
    definitions = json.loads((core / "_definitions.json").read_text())
    registry = Registry().with_resource(definitions["$id"], DRAFT202012.create_resource(definitions))
    schemas = {kind: json.loads((core / name).read_text()) for kind, name in CORE_SCHEMAS.items()}
    schemas["ray.io/v1", "RayService"] = rayservice_schema(folder, f"{definitions['$id']}#/$defs/{METADATA}")
    return {kind: Draft202012Validator(schema, registry=registry) for kind, schema in schemas.items()}


def rayservice_schema(folder: Path, metadata: str) -> Any:
    definition = yaml.load((folder / "kuberay/ray.io_rayservices.yaml").read_text(), Loader=yaml.CSafeLoader)
    served = next(found for found in definition["spec"]["versions"] if found["name"] == "v1")
    schema = closed(served["schema"]["openAPIV3Schema"])
    # A CRD says nothing of metadata: it is the API server's own.
    schema["properties"]["metadata"] = {"$ref": metadata}
    return schema


def complaints(manifest: dict[str, Any], known: dict[tuple[str, str], Draft202012Validator]) -> list[str]:
    """What is wrong with the manifest, as `path: message`; empty for a valid one."""
    validator = known[manifest["apiVersion"], manifest["kind"]]
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def closed(schema: Any) -> Any:
    """A CRD's structural schema as a strict JSON Schema.

    The API server drops unknown fields in silence: here they are errors. It also fills in defaults before it asks for
    required fields, and spells "integer or string" in its own way.
    """
    if isinstance(schema, list):
        return [closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items() if not key.startswith("x-kubernetes")}
    properties = schema.get("properties")
    if isinstance(properties, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
        strict["required"] = [name for name in schema.get("required", []) if "default" not in properties.get(name, {})]
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("anyOf", None)
        strict["type"] = ["integer", "string"]
    return strict
