"""Pod templates of the Ray cluster: environment, sizes, volumes, and the restricted pod security standard."""

from typing import Any

from deployments.cluster_layout import WorkerGroup
from serve_app.settings import ClusterSettings, Config

RAY_USER, RAY_GROUP = 1000, 100
"""The user `ray` of Ray's own images; the restricted standard wants a number that is not 0."""
OBJECT_STORE_BYTES = 2**30
"""Calls between replicas go over gRPC: the object store stays almost empty."""
MINIMUM_MESSAGE_BYTES = 64 * 2**20


def longest_answer_s(config: Config) -> int:
    return int(config.gateway.http.request_deadline_s)


def environment(config: Config) -> dict[str, str]:
    """What every Ray process must see before it starts: Serve reads these once, at import, in all of them."""
    gateway = config.gateway
    message_bytes = 2 * max(gateway.http.max_body_bytes, gateway.retriever.max_file_bytes)
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # Every change of replicas reloads HAProxy, which then cuts the streams older than this.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(longest_answer_s(config) + 30),
        # A node told to stop drains first; less than the pod's terminationGracePeriodSeconds.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(longest_answer_s(config) + 30),
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(max(MINIMUM_MESSAGE_BYTES, message_bytes)),
        "RAYLLM_MODEL_RESPONSE_BATCH_TIMEOUT_MS": "0",
        "RAYLLM_ENABLE_REQUEST_PROMPT_LOGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": "/models",
    }


def gateway_secrets(config: Config) -> tuple[str, ...]:
    """Environment variables the gateway's replicas read their secrets from; no other pod gets them."""
    gateway = config.gateway
    retriever, sessions = gateway.retriever, gateway.guardrail.sessions
    registry = gateway.registry
    named = (
        retriever.milvus.token_env,
        retriever.reranker.key_env,
        sessions.redis_url_env,
        registry.database_url_env,
        registry.redis_url_env,
        *registry.upstream_key_envs,
    )
    return tuple(sorted({name for name in (*(key.env for key in gateway.keys), *named) if name}))


def head_template(config: Config) -> dict[str, Any]:
    cluster = config.cluster
    size = {"cpu": str(cluster.head_cpus), "memory": f"{cluster.head_memory_gib}Gi"}
    return template(config, "head", "ray-head", size)


def worker_template(config: Config, group: WorkerGroup) -> dict[str, Any]:
    return gpu_template(config, group) if group.gpus else gateway_template(config, group)


def gateway_template(config: Config, group: WorkerGroup) -> dict[str, Any]:
    cluster = config.cluster
    size = {"cpu": str(cluster.gateway_cpus), "memory": f"{cluster.gateway_memory_gib}Gi"}
    pod = template(config, group.name, "ray-worker", size, secrets=gateway_secrets(config))
    spec = pod["spec"]
    spec["containers"][0]["volumeMounts"].append({"name": "documents", "mountPath": "/data"})
    spec["volumes"].append(volume("documents", cluster.documents_claim))
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels(config.cluster, group.name)},
        }
    ]
    return without_token(pod)


def gpu_template(config: Config, group: WorkerGroup) -> dict[str, Any]:
    cluster = config.cluster
    size = {
        "cpu": str(cluster.cpus_per_gpu * group.gpus),
        "memory": f"{cluster.memory_gib_per_gpu * group.gpus}Gi",
        "nvidia.com/gpu": str(group.gpus),
    }
    # NCCL passes tensors between the cards of a pod through shared memory.
    pod = template(config, group.name, "ray-worker", size, shared_memory=f"{4 + 4 * group.gpus}Gi")
    pod["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if cluster.gpu_node_selector:
        pod["spec"]["nodeSelector"] = dict(cluster.gpu_node_selector)
    return without_token(pod)


def template(
    config: Config,
    component: str,
    container: str,
    size: dict[str, str],
    *,
    secrets: tuple[str, ...] = (),
    shared_memory: str = "4Gi",
) -> dict[str, Any]:
    """What all pods share. Probes are KubeRay's: it injects them into containers that bring none."""
    return {
        "metadata": {"labels": labels(config.cluster, component)},
        "spec": {
            "restartPolicy": "Never",  # the autoscaler (v2) replaces pods, it does not restart them
            "terminationGracePeriodSeconds": longest_answer_s(config) + 60,
            "securityContext": pod_security(),
            "containers": [
                {
                    "name": container,
                    "image": config.cluster.image,
                    "env": container_environment(config, secrets),
                    "resources": resources(size),
                    "securityContext": container_security(),
                    "volumeMounts": [
                        {"name": "shared-memory", "mountPath": "/dev/shm"},
                        {"name": "models", "mountPath": "/models"},
                    ],
                }
            ],
            "volumes": [
                {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
                volume("models", config.cluster.models_claim),
            ],
        },
    }


def labels(cluster: ClusterSettings, component: str) -> dict[str, str]:
    """Ours, beside KubeRay's: stable across the clusters of an upgrade, so that selectors can rely on them."""
    return {"app.kubernetes.io/part-of": cluster.name, "app.kubernetes.io/component": component}


def container_environment(config: Config, secrets: tuple[str, ...]) -> list[dict[str, Any]]:
    plain = [{"name": name, "value": value} for name, value in environment(config).items()]
    required = [{"name": name, "valueFrom": secret(config.cluster, name)} for name in secrets]
    # Serve builds applications on any node, and building an engine reads its model's configuration from the hub.
    hub = {"name": "HF_TOKEN", "valueFrom": secret(config.cluster, "HF_TOKEN", optional=True)}
    return [*plain, *required, hub]


def secret(cluster: ClusterSettings, key: str, *, optional: bool = False) -> dict[str, Any]:
    return {"secretKeyRef": {"name": cluster.secret, "key": key, **({"optional": True} if optional else {})}}


def resources(size: dict[str, str]) -> dict[str, Any]:
    """Memory and cards are limited to what is requested; cores are not, for throttling shows in every token."""
    return {"requests": size, "limits": {name: amount for name, amount in size.items() if name != "cpu"}}


def pod_security() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": RAY_USER,
        "runAsGroup": RAY_GROUP,
        "fsGroup": RAY_GROUP,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """KubeRay copies this to the init containers it injects, so it is complete without the pod's."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def volume(name: str, claim: str | None) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}} if claim else {"name": name, "emptyDir": {}}


def without_token(pod: dict[str, Any]) -> dict[str, Any]:
    """Only the head's autoscaler talks to the Kubernetes API."""
    return {**pod, "spec": {**pod["spec"], "automountServiceAccountToken": False}}
