"""Where registry, Ray Serve and Kubernetes say different things."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.deployed.applications import Application
from serve_app.deployed.cluster import Condition, Container, Pod, RayService
from serve_app.deployed.disagreements import Picture, disagreements
from serve_app.registry.entry import STATUSES, ModelEntry
from tests.unit.rollout_service import GATEWAY, application, entry

READY = Condition(type="Ready", status="True", reason="NonZeroServeEndpoints")


def rayservice(**changes: Any) -> RayService:
    made = RayService(
        name="manta",
        namespace="ml",
        conditions=(READY,),
        applications={"gateway": "RUNNING", "qwen-1": "RUNNING"},
        declared=frozenset({"gateway", "qwen-1"}),
        images=frozenset({"manta:1"}),
        active="manta-abc",
        endpoints=2,
        pods=(pod(),),
    )
    return replace(made, **changes)


def pod(name: str = "p1", image: str = "manta:1", digest: str = "a", **changes: Any) -> Pod:
    container = Container(name="ray-worker", image=image, image_id=f"docker.io/manta@sha256:{digest}")
    made = Pod(name=name, ray_cluster="manta-abc", group="gpu", phase="Running", is_ready=True, containers=(container,))
    return replace(made, **changes)


def picture(*entries: ModelEntry, **changes: Any) -> Picture:
    made = Picture(
        environment="development",
        entries=entries or (entry(),),
        applications=(GATEWAY, application()),
        rayservices=(rayservice(),),
    )
    return replace(made, **changes)


def test_sides_that_agree_say_nothing() -> None:
    assert disagreements(picture()) == ()


def serving(**changes: Any) -> dict[str, Any]:
    return {"applications": (GATEWAY, application(**changes)), "rayservices": ()}


def kubernetes(**changes: Any) -> dict[str, Any]:
    return {"rayservices": (rayservice(**changes),)}


@pytest.mark.parametrize(
    ("entries", "changes", "words"),
    [
        (
            (),
            {"applications": (GATEWAY,), "rayservices": ()},
            "org/qwen@1 is enabled, but Ray Serve has no application 'qwen-1': add it to the cluster, or `manta "
            "registry disable --model org/qwen --version 1 --environment development`",
        ),
        (
            (),
            serving(status="DEPLOY_FAILED", message="Traceback\n  File x\nValueError: no such weights\n"),
            "org/qwen@1 is enabled, but its application 'qwen-1' is DEPLOY_FAILED: ValueError: no such weights",
        ),
        (
            (),
            serving(running=1, wanted=3),
            "org/qwen@1 is enabled, but its application 'qwen-1' has 1 of 3 replicas of 'engine'",
        ),
        (
            (entry(status="disabled"),),
            {"rayservices": ()},
            "org/qwen@1 is disabled, but 1 replica(s) of its application 'qwen-1' still run: remove the application, "
            "or enable the version",
        ),
        (
            (),
            {"applications": (GATEWAY, application(), application("stray")), "rayservices": ()},
            "application 'stray' is RUNNING in Ray Serve, but no entry of development names it: `manta registry "
            "register --endpoint serve://stray`",
        ),
        (
            (),
            {"circuits": {"org/qwen@1": "open"}},
            "org/qwen@1 is enabled, but its circuit is open: its last requests failed, nothing is sent there now",
        ),
        (
            (),
            kubernetes(declared=frozenset({"gateway"})),
            "org/qwen@1 is enabled, but the serveConfigV2 of RayService ml/manta has no application 'qwen-1': its "
            "next cluster will start without it",
        ),
        (
            (),
            kubernetes(applications={"qwen-1": "UNHEALTHY"}),
            "org/qwen@1 is enabled, but RayService ml/manta says its application is UNHEALTHY",
        ),
        (
            (),
            kubernetes(is_observed=False),
            "RayService ml/manta was changed and the operator has not acted on it: is the KubeRay operator running?",
        ),
        (
            (),
            kubernetes(conditions=(Condition(type="Ready", status="False", reason="Initializing", message="wait"),)),
            "RayService ml/manta is not ready (Initializing; wait)",
        ),
        ((), kubernetes(conditions=()), "RayService ml/manta is not ready (no condition yet)"),
        (
            (),
            kubernetes(conditions=(READY, Condition(type="UpgradeInProgress", status="True"))),
            "RayService ml/manta is being upgraded: requests move to another RayCluster",
        ),
        (
            (),
            kubernetes(endpoints=0),
            "RayService ml/manta says that it is ready, but its Service has no endpoint",
        ),
        (
            (),
            kubernetes(pods=(pod(is_ready=False, phase="Pending", reason="no GPU"),)),
            "pod p1 is Pending and not ready: no GPU",
        ),
        (
            (),
            kubernetes(pods=(pod(image="manta:0"),)),
            "pod p1 runs manta:0, but RayService ml/manta asks for manta:1",
        ),
        (
            (),
            kubernetes(pods=(pod(), pod("p2", digest="b"))),
            "manta:1 is 2 different images by pod: name it by its digest",
        ),
        (
            (entry(), entry("1", "staging", digest="sha256:" + "2" * 64)),
            {},
            "org/qwen@1 has other weights by environment (sha256:111111111111... in development, "
            "sha256:222222222222... in staging): register what is really there, or a new version",
        ),
    ],
)
def test_each_disagreement_is_one_sentence(
    entries: tuple[ModelEntry, ...], changes: dict[str, Any], words: str
) -> None:
    assert disagreements(picture(*entries, **changes)) == (words,)


def test_what_is_not_known_is_no_disagreement() -> None:
    assert disagreements(picture(applications=None, rayservices=())) == ()


def test_a_replica_that_nobody_wants_is_none_too_few() -> None:
    asleep = application(running=0, wanted=0)
    assert disagreements(picture(applications=(asleep,), rayservices=())) == ()


def test_versions_may_share_an_application() -> None:
    twin = entry("2", endpoint="serve://qwen-1", status="disabled")
    assert disagreements(picture(entry(), twin)) == ()


def test_what_is_registered_elsewhere_is_not_looked_for() -> None:
    assert disagreements(picture(entry(), entry("9", "production"))) == ()


def test_one_model_is_looked_at_alone() -> None:
    other = entry("1", model="gpt", endpoint="serve://gpt")
    seen = picture(entry(), other, applications=(GATEWAY, application()), rayservices=())
    assert len(disagreements(seen)) == 1
    assert disagreements(seen.of_model("org/qwen")) == ()
    assert len(disagreements(seen.of_model("gpt"))) == 1


entries = st.builds(
    entry,
    st.sampled_from(["1", "2"]),
    status=st.sampled_from(STATUSES),
    endpoint=st.sampled_from(["serve://a", "serve://b", "https://c.example"]),
)
applications = st.builds(
    application,
    st.sampled_from(["a", "b", "z"]),
    running=st.integers(0, 2),
    wanted=st.integers(0, 2),
    status=st.sampled_from(["RUNNING", "DEPLOYING", "UNHEALTHY"]),
)


@given(st.lists(entries, max_size=2, unique_by=lambda e: e.key), st.lists(applications, unique_by=lambda a: a.name))
def test_agreement_is_exactly_what_it_says(known: list[ModelEntry], found: list[Application]) -> None:
    """Nothing is said if, and only if, every enabled entry has what it needs and nothing else runs."""
    seen = Picture(environment="development", entries=tuple(known), applications=tuple(found))
    by_name = {one.name: one for one in found}
    served = {e.application for e in known if e.is_enabled and e.application}
    well = all(
        name in by_name and by_name[name].status == "RUNNING" and by_name[name].running >= (by_name[name].wanted or 0)
        for name in served
    )
    tidy = all(one.name in served or (one.name in {e.application for e in known} and not one.running) for one in found)
    assert (disagreements(seen) == ()) == (well and tidy)
