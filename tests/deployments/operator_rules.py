"""What KubeRay's operator and the cluster refuse although the schema allows it (KubeRay 1.7, utils/validation.go)."""

import re
from collections.abc import Iterator
from typing import Any

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LONGEST_NAME = 47
"""RayService names: KubeRay appends up to 16 characters, and a Service's name has 63."""
RESOURCE_PARAMETERS = {"num-cpus", "num-gpus", "memory", "resources"}


VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
"""Kinds the restricted pod security standard allows."""


def refusals(service: dict[str, Any]) -> list[str]:
    """Why the operator would not start this RayService; empty when it would."""
    cluster = service["spec"]["rayClusterConfig"]
    return [
        *of_service(service),
        *of_head(cluster),
        *of_fault_tolerance(cluster),
        *(reason for group in cluster["workerGroupSpecs"] for reason in of_group(group)),
        *(reason for pod in pod_templates(service) for reason in of_pod(pod, cluster)),
    ]


def pod_templates(service: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = service["spec"]["rayClusterConfig"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def of_service(service: dict[str, Any]) -> Iterator[str]:
    name, spec = service["metadata"]["name"], service["spec"]
    if len(name) > LONGEST_NAME or not DNS_1035.fullmatch(name):
        yield f"metadata.name: {name!r} is no DNS-1035 label of at most {LONGEST_NAME} characters"
    if spec.get("upgradeStrategy", {}).get("type") not in {"NewCluster", "NewClusterWithIncrementalUpgrade", "None"}:
        yield "upgradeStrategy.type: unknown"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds: negative"


def of_head(cluster: dict[str, Any]) -> Iterator[str]:
    head = cluster["headGroupSpec"]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield "headService.metadata.name: two clusters of an upgrade would share it"
    if head.get("resources") and RESOURCE_PARAMETERS & head["rayStartParams"].keys():
        yield "headGroupSpec: resources stand in rayStartParams too"


def of_fault_tolerance(cluster: dict[str, Any]) -> Iterator[str]:
    options = cluster.get("gcsFaultToleranceOptions")
    if options is None:
        return
    if options.get("externalStorageNamespace"):
        yield "gcsFaultToleranceOptions.externalStorageNamespace: old and new cluster would share their state"
    head = cluster["headGroupSpec"]
    names = {entry["name"] for entry in head["template"]["spec"]["containers"][0].get("env", [])}
    if names & {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD"} or "redis-password" in head["rayStartParams"]:
        yield "gcsFaultToleranceOptions: Redis is configured a second time on the head"


def of_group(group: dict[str, Any]) -> Iterator[str]:
    if not DNS_1035.fullmatch(group["groupName"]):
        yield f"groupName: {group['groupName']!r} is no DNS-1035 label"
    if not 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
        yield f"{group['groupName']}: replicas are not between minReplicas and maxReplicas"
    if group["maxReplicas"] == 0:
        yield f"{group['groupName']}: no pod can ever start"
    if group.get("resources") and RESOURCE_PARAMETERS & group["rayStartParams"].keys():
        yield f"{group['groupName']}: resources stand in rayStartParams too"


def of_pod(template: dict[str, Any], cluster: dict[str, Any]) -> Iterator[str]:
    spec = template["spec"]
    if cluster.get("enableInTreeAutoscaling") and spec.get("restartPolicy", "Never") != "Never":
        yield "restartPolicy: the autoscaler (v2) takes only Never"
    for container in spec["containers"]:
        if "RAY_enable_autoscaler_v2" in {entry["name"] for entry in container.get("env", [])}:
            yield "RAY_enable_autoscaler_v2: autoscalerOptions.version says it already"
        yield from of_security(spec, container["securityContext"])
    for volume in spec["volumes"]:
        if not volume.keys() - {"name"} <= VOLUMES:
            yield f"volumes.{volume['name']}: a kind the restricted standard refuses"


def of_security(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    """The restricted pod security standard, for a container that must satisfy it without its pod."""
    wanted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for field, value in wanted.items():
        if container.get(field) != value:
            yield f"securityContext.{field}: the restricted standard wants {value}"
    if pod["securityContext"].get("runAsUser", 0) == 0:
        yield "securityContext.runAsUser: the image's user must be numbered and not 0"
    if pod.get("hostNetwork") or pod.get("hostPID") or pod.get("hostIPC"):
        yield "the pod shares a namespace with its node"
