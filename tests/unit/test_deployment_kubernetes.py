"""What is read of Kubernetes, from a server that plays its API with objects that its schemas allow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from serve_app.adapters.kubernetes import KubernetesCluster
from serve_app.deployed.cluster import RayService
from serve_app.errors import Forbidden, MantaError, NotFound, Unavailable
from tests.deployments.strict_schema import complaints, schemas_folder, validators
from tests.unit.kubernetes_api import (
    CLUSTER,
    IMAGE_ID,
    METRICS,
    NAMESPACE,
    PODS,
    RAYSERVICES,
    Api,
    kubeconfig,
    kubernetes,
    pod,
    rayservice,
    usage,
)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    held = {"rayservices": [rayservice()], "pods": [pod()], "metrics": [usage("manta-gateway-1")]}
    with kubernetes(**held) as played:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(played.url, tmp_path)))
        yield played


async def seen(**asked: str) -> RayService:
    cluster = KubernetesCluster.at_hand()
    assert cluster is not None
    [found] = await cluster.rayservices(**asked)
    return found


async def refused(**asked: str) -> MantaError:
    with pytest.raises(MantaError) as caught:
        await seen(**asked)
    return caught.value


def test_the_objects_played_are_such_as_the_schemas_allow() -> None:
    folder = schemas_folder()
    assert complaints(rayservice(), validators(folder)) == []
    core = sorted((folder / "kubernetes-core").glob("v*"))[-1]
    definitions = json.loads((core / "_definitions.json").read_text())
    known = Registry().with_resource(definitions["$id"], DRAFT202012.create_resource(definitions))
    schema = json.loads((core / "pod-v1.json").read_text())
    for made in (pod(), pod(last="OOMKilled", state={"waiting": {"reason": "CrashLoopBackOff"}})):
        assert [error.message for error in Draft202012Validator(schema, registry=known).iter_errors(made)] == []


async def test_a_rayservice_is_read_with_its_pods(api: Api) -> None:
    found = await seen()
    assert (found.full_name, found.active, found.endpoints) == ("manta/manta", CLUSTER, 2)
    assert found.is_true("Ready")
    assert not found.is_true("UpgradeInProgress")
    assert found.declared == {"gateway", "llama-8b", "llama-70b"}
    assert found.applications == dict.fromkeys(found.declared, "RUNNING")
    assert found.images == {"manta:0.1.0"}
    assert found.is_observed
    [one] = found.pods
    [container] = one.containers
    assert (one.ray_cluster, one.group, one.is_ready, one.restarts, one.reason) == (CLUSTER, "gateway", True, 0, "")
    assert (container.image, container.image_id) == ("manta:0.1.0", IMAGE_ID)
    assert (container.memory_limit_bytes, container.memory_bytes) == (16 * 2**30, 4 * 2**30)
    assert container.cpu_cores == 1.5
    assert found.notes == ()


async def test_a_rayservice_is_asked_for_by_its_name(api: Api) -> None:
    assert (await seen(name="manta")).name == "manta"
    error = await refused(name="other")
    assert isinstance(error, NotFound)
    assert str(error) == "there is no RayService 'other' in namespace 'manta'"


async def test_only_pods_of_its_clusters_are_listed(api: Api) -> None:
    stray = pod("stray")
    stray["metadata"]["labels"]["ray.io/cluster"] = "another"
    api.pods.append(stray)
    assert [one.name for one in (await seen()).pods] == ["manta-gateway-1"]


async def test_a_cluster_in_preparation_is_named(api: Api) -> None:
    following = {"rayClusterName": "manta-next", "applicationStatuses": {}}
    api.rayservices = [rayservice(pendingServiceStatus=following, observedGeneration=2)]
    coming = pod("manta-next-1")
    coming["metadata"]["labels"]["ray.io/cluster"] = "manta-next"
    api.pods.append(coming)
    found = await seen()
    assert (found.pending, found.is_observed) == ("manta-next", False)
    assert {one.ray_cluster for one in found.pods} == {CLUSTER, "manta-next"}


async def test_one_that_the_operator_has_not_seen_yet_has_no_pods(api: Api) -> None:
    fresh = rayservice()
    del fresh["status"]
    api.rayservices = [fresh]
    found = await seen()
    assert (found.active, found.pods, found.is_observed) == ("", (), False)
    assert PODS not in api.asked


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
            "ImagePullBackOff: no such image",
        ),
        ({"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}, "Error"),
    ],
)
async def test_why_a_pod_is_not_ready_is_read(api: Api, changes: dict[str, Any], reason: str) -> None:
    api.pods = [pod(is_ready=False, **changes)]
    [one] = (await seen()).pods
    assert (one.is_ready, one.reason) == (False, reason)


async def test_why_a_pod_is_not_scheduled_is_read(api: Api) -> None:
    waiting = pod(is_ready=False, phase="Pending")
    del waiting["status"]["containerStatuses"]
    message = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    waiting["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": message}]
    api.pods = [waiting]
    [one] = (await seen()).pods
    assert (one.phase, one.reason) == ("Pending", message)


async def test_how_a_container_ended_is_read(api: Api) -> None:
    api.pods = [pod(restarts=3, last="OOMKilled")]
    [one] = (await seen()).pods
    assert (one.restarts, one.containers[0].last_end) == (3, "OOMKilled")


async def test_a_cluster_without_a_metrics_api_is_said(api: Api) -> None:
    api.metrics = None
    found = await seen()
    assert found.pods[0].containers[0].memory_bytes is None
    assert found.notes == ("this cluster has no metrics API (metrics-server): what its pods use is not known",)


async def test_what_may_not_be_listed_is_a_sentence_beside_what_may(api: Api) -> None:
    api.refused = {PODS: 403}
    found = await seen()
    assert found.pods == ()
    assert found.notes == (
        "Kubernetes refuses pods in namespace 'manta' (403): its user or service account needs `get` and `list` "
        "on them",
    )


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (403, Forbidden, "Kubernetes refuses rayservices.ray.io in namespace 'manta' (403)"),
        (404, NotFound, "this Kubernetes cluster knows no rayservices.ray.io: is KubeRay installed?"),
        (500, Unavailable, "Kubernetes answered 500"),
    ],
)
async def test_what_is_refused_is_a_sentence(api: Api, status: int, kind: type[MantaError], said: str) -> None:
    api.refused = {RAYSERVICES: status}
    error = await refused()
    assert isinstance(error, kind)
    assert said in str(error)


async def test_metrics_that_may_not_be_read_are_a_note(api: Api) -> None:
    api.refused = {METRICS: 403}
    [note] = (await seen()).notes
    assert "what the pods use is not known" in note


async def test_an_answer_that_is_none_is_a_sentence(api: Api) -> None:
    api.garbage = True
    assert "answered something else than rayservices.ray.io" in str(await refused())


async def test_a_wrong_token_is_a_sentence(api: Api, tmp_path: Path) -> None:
    kubeconfig(api.url, tmp_path, token="old")
    assert "refuses rayservices.ray.io" in str(await refused())


async def test_no_api_server_is_a_sentence_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig("http://127.0.0.1:9", tmp_path)))
    assert str(await refused()).startswith("Kubernetes does not answer: ")


async def test_the_namespace_is_the_contexts_unless_it_is_said(api: Api, tmp_path: Path) -> None:
    kubeconfig(api.url, tmp_path, namespace="elsewhere")
    assert "knows no rayservices.ray.io" in str(await refused())
    assert (await seen(namespace=NAMESPACE)).namespace == NAMESPACE


def test_without_a_configuration_there_is_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert KubernetesCluster.at_hand() is None


def test_a_configuration_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken"
    path.write_text("contexts: [")
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(Unavailable, match="the Kubernetes configuration .*broken cannot be read"):
        KubernetesCluster.at_hand()
