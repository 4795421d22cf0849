"""The engines of configs/a100.yaml as Ray itself reads them. One test: importing vLLM takes 20 seconds."""

from collections import Counter
from typing import Any

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _node_type_from_group_spec

from serve_app.settings import VllmSettings
from tests.deployments.rendered_manifests import a100, rayservice

pytestmark = pytest.mark.vllm


def needs(config: Any) -> Counter[str]:
    """Resources of one replica: its workers' bundles and its own actor, which Ray adds to the first of them."""
    from ray.llm._internal.serve.engines.vllm.vllm_models import VLLMEngineConfig

    actor = config.deployment_config["ray_actor_options"]
    total = Counter({"CPU": actor.get("num_cpus", 1), **actor["resources"]})
    for bundle in VLLMEngineConfig.from_llm_config(config).placement_bundles:
        total.update(bundle)
    return total


def test_ray_takes_the_engines_unchanged_and_each_fits_a_pod_of_one_group_only() -> None:
    from ray.serve.llm import LLMConfig

    groups = rayservice("base")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    # What the cluster's autoscaler will believe of each group.
    offered = {group["groupName"]: _node_type_from_group_spec(group, is_head=False)["resources"] for group in groups}
    placed = {}
    for application in a100().applications:
        if isinstance(application.args, VllmSettings):
            wanted = needs(LLMConfig.model_validate(application.args.llm_config))
            placed[application.name] = [
                name for name, pod in offered.items() if all(pod.get(key, 0) >= wanted[key] for key in wanted)
            ]

    assert placed == {"llama-8b": ["a100-x1"], "llama-70b": ["a100-x4"]}
