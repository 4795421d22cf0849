"""RayServices and their pods, from the cluster that the kubeconfig names, or the one this process runs in."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.utils import parse_quantity

from serve_app.deployed.cluster import Condition, Container, Pod, RayService
from serve_app.errors import Forbidden, NotFound, Unavailable
from serve_app.registry_settings import RegistrySettings
from serve_app.settings import GATEWAY_BUILDER

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayservices"
METRICS = ("metrics.k8s.io", "v1beta1", "pods")
TIMEOUT_S = (2.0, 5.0)
"""To connect, and for an answer: an operator waits for this."""
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubernetesCluster:
    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._objects, self._core, self._namespace = client.CustomObjectsApi(api), client.CoreV1Api(api), namespace

    @classmethod
    def at_hand(cls) -> "KubernetesCluster | None":
        """By KUBECONFIG or ~/.kube/config, else the cluster around this process; None where there is neither.

        Raises Unavailable for a configuration that cannot be read.
        """
        given = os.environ.get("KUBECONFIG", "") or str(Path("~/.kube/config").expanduser())
        settings = client.Configuration()
        settings.retries = False  # one sentence after seconds, not three tries in silence
        try:
            if any(Path(part).is_file() for part in given.split(os.pathsep)):
                config.load_kube_config(given, client_configuration=settings)
                _, active = config.list_kube_config_contexts(given)
                namespace = active["context"].get("namespace", "default")
            elif IN_CLUSTER.is_dir():
                config.load_incluster_config(client_configuration=settings)
                namespace = (IN_CLUSTER / "namespace").read_text().strip()
            else:
                return None
        except (ConfigException, OSError, yaml.YAMLError) as exc:
            raise Unavailable(f"the Kubernetes configuration {given} cannot be read: {exc}") from exc
        return cls(client.ApiClient(settings), namespace)

    async def rayservices(self, *, namespace: str = "", name: str = "") -> tuple[RayService, ...]:
        return await asyncio.to_thread(self._rayservices, namespace or self._namespace, name)

    def _rayservices(self, namespace: str, name: str) -> tuple[RayService, ...]:
        path = (GROUP, VERSION, namespace, PLURAL)
        with _told(f"rayservices.{GROUP}", namespace, name):
            if name:
                found = [self._objects.get_namespaced_custom_object(*path, name, _request_timeout=TIMEOUT_S)]
            else:
                found = self._objects.list_namespaced_custom_object(*path, _request_timeout=TIMEOUT_S)["items"]
        return tuple(self._with_pods(rayservice(one)) for one in found)

    def _with_pods(self, seen: RayService) -> RayService:
        """What the RayService says of itself stays worth reading where its pods may not be listed."""
        clusters = [name for name in (seen.active, seen.pending) if name]
        if not clusters:
            return seen
        selector = f"ray.io/cluster in ({','.join(clusters)})"
        try:
            with _told("pods", seen.namespace):
                answer = self._core.list_namespaced_pod(
                    seen.namespace, label_selector=selector, _preload_content=False, _request_timeout=TIMEOUT_S
                )
                pods = json.loads(answer.data)["items"]
        except (Forbidden, NotFound, Unavailable) as error:
            return replace(seen, notes=(str(error),))
        usage, note = self._usage(seen.namespace, selector)
        return replace(seen, pods=tuple(pod(one, usage) for one in pods), notes=(note,) if note else ())

    def _usage(self, namespace: str, selector: str) -> tuple[dict[tuple[str, str], Mapping[str, str]], str]:
        """By pod and container; with a sentence where the metrics API does not say."""
        group, version, plural = METRICS
        try:
            with _told(f"pods.{group}", namespace):
                found = self._objects.list_namespaced_custom_object(
                    group, version, namespace, plural, label_selector=selector, _request_timeout=TIMEOUT_S
                )
        except NotFound:
            return {}, "this cluster has no metrics API (metrics-server): what its pods use is not known"
        except (Forbidden, Unavailable) as error:
            return {}, f"what the pods use is not known: {error}"
        return {
            (one["metadata"]["name"], container["name"]): container["usage"]
            for one in found["items"]
            for container in one["containers"]
        }, ""


@contextmanager
def _told(resource: str, namespace: str, name: str = "") -> Iterator[None]:
    try:
        yield
    except ApiException as exc:
        if exc.status in (401, 403):
            raise Forbidden(
                f"Kubernetes refuses {resource} in namespace {namespace!r} ({exc.status}): "
                f"its user or service account needs `get` and `list` on them"
            ) from exc
        if exc.status == 404 and name:
            raise NotFound(f"there is no RayService {name!r} in namespace {namespace!r}") from exc
        if exc.status == 404:
            raise NotFound(f"this Kubernetes cluster knows no {resource}: is KubeRay installed?") from exc
        raise Unavailable(f"Kubernetes answered {exc.status} to a question about {resource}: {exc.reason}") from exc
    except (urllib3.exceptions.HTTPError, OSError) as exc:
        raise Unavailable(f"Kubernetes does not answer: {_reason(exc)}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable(f"Kubernetes answered something else than {resource}: {exc!r}") from exc


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)[:200]


def rayservice(given: Mapping[str, Any]) -> RayService:
    """As the CRD ray.io/v1 has it, version 1.7 of the operator."""
    metadata, spec, status = given["metadata"], given.get("spec", {}), given.get("status") or {}
    active, pending = status.get("activeServiceStatus") or {}, status.get("pendingServiceStatus") or {}
    applications = active.get("applicationStatuses") or {}
    declared = configured(spec.get("serveConfigV2", ""))
    return RayService(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        conditions=tuple(
            Condition(
                type=one["type"], status=one["status"], reason=one.get("reason", ""), message=one.get("message", "")
            )
            for one in status.get("conditions") or ()
        ),
        applications={name: one.get("status", "") for name, one in applications.items()},
        declared=frozenset(declared),
        environment=environment(declared),
        images=images(spec.get("rayClusterConfig") or {}),
        active=active.get("rayClusterName", ""),
        pending=pending.get("rayClusterName", ""),
        endpoints=status.get("numServeEndpoints", 0),
        is_observed=status.get("observedGeneration", 0) >= metadata.get("generation", 0),
    )


def configured(serve_config: str) -> dict[str, Mapping[str, Any]]:
    """Applications by name; none where the text is no Serve config."""
    try:
        read = yaml.safe_load(serve_config)
    except yaml.YAMLError:
        return {}
    applications = read.get("applications") if isinstance(read, dict) else None
    return {str(one["name"]): one for one in applications or () if isinstance(one, dict) and "name" in one}


def environment(applications: Mapping[str, Mapping[str, Any]]) -> str:
    """What the gateway's settings say, or their default; empty without a gateway."""
    for application in applications.values():
        if application.get("import_path") == GATEWAY_BUILDER:
            registry = (application.get("args") or {}).get("registry") or {}
            return str(registry.get("environment", RegistrySettings().environment))
    return ""


def images(cluster: Mapping[str, Any]) -> frozenset[str]:
    """Of the first container of each template: that is the Ray container."""
    groups = [cluster.get("headGroupSpec") or {}, *(cluster.get("workerGroupSpecs") or ())]
    found = (((one.get("template") or {}).get("spec") or {}).get("containers") or [{}] for one in groups)
    return frozenset(containers[0]["image"] for containers in found if "image" in containers[0])


def pod(given: Mapping[str, Any], usage: Mapping[tuple[str, str], Mapping[str, str]]) -> Pod:
    metadata, spec, status = given["metadata"], given.get("spec") or {}, given.get("status") or {}
    labels, name = metadata.get("labels") or {}, metadata["name"]
    states = {one["name"]: one for one in status.get("containerStatuses") or ()}
    ready: Mapping[str, Any] = next((one for one in status.get("conditions") or () if one["type"] == "Ready"), {})
    asked = spec.get("containers") or ()
    return Pod(
        name=name,
        ray_cluster=labels.get("ray.io/cluster", ""),
        group=labels.get("ray.io/group", ""),
        phase=status.get("phase", "Unknown"),
        is_ready=ready.get("status") == "True",
        reason=_waiting(status, states.values(), ready),
        containers=tuple(
            container(one, states.get(one["name"], {}), usage.get((name, one["name"]), {})) for one in asked
        ),
    )


def container(asked: Mapping[str, Any], state: Mapping[str, Any], usage: Mapping[str, str]) -> Container:
    limits = (asked.get("resources") or {}).get("limits") or {}
    ended = (state.get("lastState") or {}).get("terminated") or {}
    return Container(
        name=asked["name"],
        image=asked.get("image", ""),
        image_id=state.get("imageID", ""),
        restarts=state.get("restartCount", 0),
        last_end=ended.get("reason", ""),
        memory_limit_bytes=int(parse_quantity(limits["memory"])) if "memory" in limits else None,
        memory_bytes=int(parse_quantity(usage["memory"])) if "memory" in usage else None,
        cpu_cores=float(parse_quantity(usage["cpu"])) if "cpu" in usage else None,
    )


def _waiting(status: Mapping[str, Any], states: Any, ready: Mapping[str, Any]) -> str:
    """What holds it up: a container that waits or ended says it best, then the scheduler, then the condition."""
    for one in states:
        state = one.get("state") or {}
        held = state.get("waiting") or state.get("terminated")
        if held:
            return ": ".join(filter(None, [held.get("reason", ""), held.get("message", "")]))
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message") or condition.get("reason") or "")
    return str(ready.get("message") or status.get("message") or "") if ready.get("status") != "True" else ""
