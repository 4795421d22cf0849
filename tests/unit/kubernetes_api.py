"""A server on loopback that plays Kubernetes' API server, with objects as KubeRay's operator writes them."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

ROOT = Path(__file__).parents[2]
NAMESPACE = "manta"
CLUSTER = "manta-x7k2p"
TOKEN = "sa-token"
THEN = "2026-11-01T08:00:00Z"
IMAGE_ID = "registry.example/manta@sha256:" + "a" * 64

RAYSERVICES = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayservices"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
METRICS = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason or kind,
        "message": message,
        "lastTransitionTime": THEN,
    }


def rayservice(**status: Any) -> dict[str, Any]:
    """The one that `manta manifests render` wrote, and a status in which all is well."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "rayservice/base/rayservice.yaml").read_text())
    made["metadata"] |= {"namespace": NAMESPACE, "generation": 3}
    running = {"status": "RUNNING", "message": ""}
    names = [one["name"] for one in yaml.safe_load(made["spec"]["serveConfigV2"])["applications"]]
    made["status"] = {
        "observedGeneration": 3,
        "numServeEndpoints": 2,
        "conditions": [
            condition("Ready", reason="NonZeroServeEndpoints"),
            condition("UpgradeInProgress", "False", "NoPendingCluster"),
        ],
        "activeServiceStatus": {
            "rayClusterName": CLUSTER,
            "applicationStatuses": {
                name: {**running, "serveDeploymentStatuses": {"engine": {"status": "HEALTHY", "message": ""}}}
                for name in names
            },
        },
        **status,
    }
    return made


def pod(name: str = "manta-gateway-1", **changes: Any) -> dict[str, Any]:
    """`changes`: group, image, image_id, state, restarts, last, is_ready, phase."""
    is_ready = changes.get("is_ready", True)
    last = {"lastState": {"terminated": {"exitCode": 137, "reason": changes["last"]}}} if "last" in changes else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"ray.io/cluster": CLUSTER, "ray.io/group": changes.get("group", "gateway")},
        },
        "spec": {
            "containers": [
                {
                    "name": "ray-worker",
                    "image": changes.get("image", "manta:0.1.0"),
                    "resources": {"limits": {"memory": "16Gi"}, "requests": {"cpu": "8", "memory": "16Gi"}},
                }
            ]
        },
        "status": {
            "phase": changes.get("phase", "Running"),
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
            "containerStatuses": [
                {
                    "name": "ray-worker",
                    "image": changes.get("image", "manta:0.1.0"),
                    "imageID": changes.get("image_id", IMAGE_ID),
                    "ready": is_ready,
                    "restartCount": changes.get("restarts", 0),
                    "state": changes.get("state", {"running": {"startedAt": THEN}}),
                    **last,
                }
            ],
        },
    }


def usage(name: str, memory: str = "4096Mi", cpu: str = "1500m") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "timestamp": THEN,
        "window": "15s",
        "containers": [{"name": "ray-worker", "usage": {"cpu": cpu, "memory": memory}}],
    }


@dataclass
class Api:
    """What it holds, which may be changed between questions, and the questions."""

    rayservices: list[dict[str, Any]] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] | None = None
    """None: the cluster has no metrics API."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Status by the path's beginning."""
    garbage: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, query: Mapping[str, list[str]], authorization: str) -> tuple[int, Any]:
        self.asked.append(path)
        if authorization != f"Bearer {TOKEN}":
            return 401, failure(401, "Unauthorized")
        for beginning, status in self.refused.items():
            if path.startswith(beginning):
                return status, failure(status, "refused")
        if self.garbage:
            return 200, {"kind": "Oops"}
        found = self.found(path, query)
        return (200, found) if found else (404, failure(404, "the server could not find the requested resource"))

    def found(self, path: str, query: Mapping[str, list[str]]) -> Any:
        if path == RAYSERVICES:
            return {"apiVersion": "ray.io/v1", "kind": "RayServiceList", "items": self.rayservices}
        if path == PODS:
            return {"apiVersion": "v1", "kind": "PodList", "items": selected(self.pods, query)}
        if path == METRICS and self.metrics is not None:
            return {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetricsList", "items": self.metrics}
        return next((one for one in self.rayservices if path == f"{RAYSERVICES}/{one['metadata']['name']}"), None)


def selected(pods: list[dict[str, Any]], query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    [selector] = query["labelSelector"]
    label, _, values = selector.partition(" in ")
    wanted = values.strip("()").split(",")
    return [one for one in pods if one["metadata"]["labels"].get(label) in wanted]


def failure(code: int, message: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message}


@contextmanager
def kubernetes(**held: Any) -> Iterator[Api]:
    api = Api(**held)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            authorization = self.headers.get("Authorization", "")
            status, body = api.answer(asked.path, parse_qs(asked.query), authorization)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(url: str, folder: Path, namespace: str = NAMESPACE, token: str = TOKEN) -> Path:
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path
