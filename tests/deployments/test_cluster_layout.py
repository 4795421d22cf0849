from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments import cluster_layout, remote
from deployments.cluster_layout import gateway_group, pods, worker_groups
from serve_app.settings import Config


def engine(name: str, gpus: int = 1, **llm_config: Any) -> dict[str, Any]:
    return {
        "name": name,
        "import_path": "deployments.vllm:build_vllm",
        "args": {
            "llm_config": {
                "model_loading_config": {"model_id": name},
                "accelerator_type": "A100",
                "engine_kwargs": {"tensor_parallel_size": gpus},
                **llm_config,
            }
        },
        "deployments": [{"name": "engine", "num_replicas": 1}],
    }


def config(*engines: dict[str, Any], deployments: tuple[dict[str, Any], ...] = (), **cluster: Any) -> Config:
    gateway = {
        "name": "gateway",
        "route_prefix": "/",
        "import_path": "deployments.app:build_gateway",
        "args": {
            "keys": [{"id": "one", "tenant": "one", "env": "KEY"}],
            "models": {"model": {"application": "gateway", "engine": "extractive"}},
            "router": {"small": "model", "large": "model"},
        },
        "deployments": deployments,
    }
    return Config.model_validate({"applications": [gateway, *engines], "cluster": cluster})


def test_the_layout_and_the_graph_call_the_engine_the_same() -> None:
    assert cluster_layout.ENGINE == remote.ENGINE


def test_engines_with_the_same_card_and_number_share_a_group() -> None:
    group = worker_groups(config(engine("one"), engine("two")))[1]

    assert (group.name, group.gpus, group.minimum, group.maximum) == ("a100-x1", 1, 2, 2)


def test_tensor_and_pipeline_parallel_ranks_sit_on_one_node() -> None:
    parallel = engine("one", engine_kwargs={"tensor_parallel_size": 2, "pipeline_parallel_size": 2})

    assert worker_groups(config(parallel))[1].gpus == 4


def test_what_deployments_says_wins_over_the_engines_own_scale() -> None:
    own = {"autoscaling_config": {"min_replicas": 3, "max_replicas": 9}}
    given_twice = engine("one", deployment_config=own)
    given_once = given_twice | {"deployments": []}

    assert worker_groups(config(given_twice))[1].maximum == 1
    assert worker_groups(config(given_once))[1].maximum == 9


def test_a_cpu_bundle_of_a_worker_is_counted() -> None:
    bundled = engine("one", 2, placement_group_config={"bundle_per_worker": {"GPU": 1, "CPU": 2}})

    assert worker_groups(config(bundled))[1].cpus == 5


def test_an_engine_that_would_land_on_the_pods_of_a_larger_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"small\.llm_config: replicas fit .*a100-x4.*resources: \{a100-x1: 0\.001\}"):
        worker_groups(config(engine("small"), engine("large", 4)))


def test_an_engine_without_a_card_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"one\.llm_config\.accelerator_type: missing"):
        worker_groups(config(engine("one", accelerator_type=None)))


def test_an_engine_without_a_number_of_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one\.deployments: say how many replicas"):
        worker_groups(config(engine("one") | {"deployments": []}))


def test_a_deployment_that_the_graph_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no deployment 'ingres'; use ingress, screener"):
        worker_groups(config(deployments=({"name": "ingres"},)))


def test_a_replica_larger_than_a_pod_is_refused() -> None:
    large = {"name": "screener", "ray_actor_options": {"num_cpus": 9}}

    with pytest.raises(ValueError, match=r"cluster\.gateway_cpus: a replica asks for 9 CPUs, a pod has 8"):
        worker_groups(config(deployments=(large,)))


def test_the_gateway_group_grows_with_its_replicas() -> None:
    scaling = {"name": "screener", "autoscaling_config": {"min_replicas": 1, "max_replicas": 13}}

    group = gateway_group(config(deployments=(scaling,)))

    assert (group.minimum, group.maximum) == (1, 2)


def test_gateway_pods_are_kept_beyond_what_the_replicas_need() -> None:
    group = gateway_group(config(gateway_min_pods=3))

    assert (group.minimum, group.maximum) == (3, 3)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 1, 2, 3, 8]), st.integers(0, 5))))
def test_packing_takes_at_least_the_cores_and_at_most_a_pod_per_replica(
    needs: list[tuple[float, int]],
) -> None:
    cores = sum(size * count for size, count in needs)

    assert cores / 8 - 1e-9 <= pods(needs, 8) <= sum(count for _, count in needs)
