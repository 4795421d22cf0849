"""`manta validate` against the whole public API on a real socket, with parts that can be told to be unwell."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from serve_app.adapters.memory_registry import MemoryRegistryStore
from serve_app.authenticator import digest
from serve_app.cli.validate import validate
from serve_app.deployed.applications import Application
from serve_app.errors import EngineFailed, Unavailable
from serve_app.http.app import create_app
from serve_app.http.deployment import Deployment
from serve_app.http.health import Readiness
from serve_app.registry.declared import declared
from serve_app.registry.entry import Key, ModelEntry
from serve_app.registry.operations import CheckResult
from serve_app.registry.registry import Registry
from serve_app.registry.snapshot import Change, Snapshot
from serve_app.telemetry import Telemetry
from serve_app.validation.answering import counted, healthy
from serve_app.validation.finding import Finding, State, together
from serve_app.validation.target import Health
from tests.builders import KEY, ScriptedEngine, gateway, settings
from tests.unit.documents import served
from tests.unit.kubernetes_api import PODS, Api, kubeconfig, kubernetes, pod, rayservice, usage
from tests.unit.rollout_service import GATEWAY, application

ADMIN = {"id": "k1", "tenant": "acme", "sha256": digest(KEY), "roles": ["user", "admin"]}
STEPS = ["application", "replicas", "health", "registry", "inference", "metrics", "resources"]


@dataclass
class Whole:
    """What the service is made of, which tests change."""

    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    applications: tuple[Application, ...] = (GATEWAY, application("small"))
    circuits: dict[str, str] = field(default_factory=dict)
    unready: list[str] = field(default_factory=list)
    """Reasons, one for each look at the health until it is well."""
    serve_fails: Unavailable | None = None
    is_stale: bool = False
    store: MemoryRegistryStore = field(default_factory=MemoryRegistryStore)
    snapshot: Snapshot = Snapshot()
    url: str = ""

    async def engine_ping(self) -> None:
        if self.unready:
            raise EngineFailed(self.unready.pop(0))

    async def applications_now(self) -> tuple[Application, ...]:
        if self.serve_fails:
            raise self.serve_fails
        return self.applications

    def put(self, *entries: ModelEntry) -> None:
        asyncio.run(self.store.change(lambda _: Change(action="register", who="test", put=entries)))
        self.snapshot = asyncio.run(self.store.snapshot())

    def entry(self, **changes: Any) -> ModelEntry:
        found = self.snapshot.find(("small", "1", "development"))
        assert found is not None
        return replace(found, **changes)


@dataclass(frozen=True)
class Serve:
    whole: Whole

    async def applications(self) -> tuple[Application, ...]:
        return await self.whole.applications_now()


class Check:
    async def check(self, entry: ModelEntry) -> CheckResult:
        return CheckResult(steps={})


@contextmanager
def running() -> Iterator[Whole]:
    whole = Whole()
    given = settings(keys=[ADMIN])
    whole.put(*declared(given.models, "development").entries)

    async def find(key: Key) -> ModelEntry | None:
        return whole.snapshot.find(key)

    behind = gateway(
        given,
        engine=whole.engine,
        readiness=Readiness(required={"engine": whole.engine_ping}, optional={}),
    )
    router = replace(behind.pipeline.router, snapshot=lambda: whole.snapshot)
    made = replace(
        behind,
        pipeline=replace(behind.pipeline, router=router),
        operations=Registry(whole.store),
        deployment=Deployment(
            environment="development",
            serve=Serve(whole),
            check=Check(),
            find=find,
            circuits=lambda: whole.circuits,
            copy=lambda: (1, 900.0, whole.is_stale),
        ),
    )
    with served(create_app(made)) as url:
        whole.url = url
        yield whole


@pytest.fixture
def whole() -> Iterator[Whole]:
    with running() as made:
        yield made


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    held = rayservice()
    names = ("gateway", "small")
    held["spec"]["serveConfigV2"] = json.dumps({"applications": [{"name": name} for name in names]})
    held["status"]["activeServiceStatus"]["applicationStatuses"] = {name: {"status": "RUNNING"} for name in names}
    with kubernetes(rayservices=[held], pods=[pod()], metrics=[usage("manta-gateway-1")]) as played:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(played.url, tmp_path)))
        yield played


def run(whole: Whole | None, *arguments: str, model: str = "small", **environment: Any) -> Result:
    app = typer.Typer()
    app.command()(validate)
    given = {"MANTA_URL": whole.url if whole else None, "MANTA_API_KEY": KEY, "COLUMNS": "150", **environment}
    return CliRunner().invoke(app, ["--model", model, "--wait", "0s", *arguments], env=given)


def found(whole: Whole, *arguments: str, **named: Any) -> dict[str, Any]:
    """What each step found, by its name."""
    result = run(whole, "--output", "json", *arguments, **named)
    document = json.loads(result.output)
    assert [step["step"] for step in document["steps"]] == STEPS
    is_failed = any(step["state"] == "failed" for step in document["steps"])
    assert (result.exit_code, document["outcome"]) == ((1, "failed") if is_failed else (0, "passed"))
    return {step["step"]: step for step in document["steps"]}


def states(steps: dict[str, Any]) -> str:
    return "".join(step["state"][0] for step in steps.values())


def test_a_model_that_is_well_passes_seven_steps(whole: Whole) -> None:
    steps = found(whole)
    assert states(steps) == "ppppppp", steps
    assert steps["application"]["words"] == "application 'small' is RUNNING"
    assert steps["replicas"]["words"] == "gateway 1/1; small 1/1"
    assert steps["registry"]["words"] == "1 enabled weight 100"
    assert steps["inference"]["words"].startswith("small@1 answered 12 characters, first token after ")
    assert 0 < steps["inference"]["figures"]["first_token_s"] <= steps["inference"]["figures"]["seconds"] < 60
    assert steps["metrics"]["words"] == "3 metrics of small, 5 of the service"
    assert steps["resources"]["words"] == "gateway 3072 MiB, 0.25 cores; small 3072 MiB, 0.25 cores"


def test_steps_are_shown_as_they_come(whole: Whole) -> None:
    result = run(whole)
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert [(line[0], line[1]) for line in lines[:7]] == [("passed", step) for step in STEPS]
    assert result.output.splitlines()[7].startswith("small in development: 7 passed in ")


@pytest.mark.parametrize(
    ("changes", "step", "state", "words"),
    [
        (
            {"applications": (GATEWAY,)},
            "application",
            "failed",
            "Ray Serve has no application 'small', where small@1 is registered",
        ),
        (
            {"applications": (GATEWAY, application("small", status="DEPLOY_FAILED", message="no GPU"))},
            "application",
            "failed",
            "application 'small' is DEPLOY_FAILED: no GPU",
        ),
        (
            {"applications": (GATEWAY, application("small", running=1, wanted=2))},
            "replicas",
            "failed",
            "application 'small' has 1 of 2 of 'engine'",
        ),
        (
            {"applications": (GATEWAY, application("small", running=0, wanted=0))},
            "replicas",
            "warning",
            "application 'small' has no replica: the first request has to wait",
        ),
        ({"circuits": {"small@1": "open"}}, "registry", "failed", "the circuit of small@1 is open"),
        ({"is_stale": True}, "registry", "warning", "has not reached the registry's database for 900 s"),
        ({"unready": ["no replica"] * 3}, "health", "failed", "not ready after 1 tries: engine: no replica"),
    ],
)
def test_what_is_not_well_is_named_in_its_step(
    whole: Whole, changes: dict[str, Any], step: str, state: str, words: str
) -> None:
    for name, value in changes.items():
        setattr(whole, name, value)
    steps = found(whole)
    assert steps[step]["state"] == state
    assert words in steps[step]["words"]
    assert states(steps).replace(state[0], "", 1) == "pppppp"


def test_health_is_asked_again_until_it_is_well(whole: Whole) -> None:
    whole.unready = ["starting", "starting"]
    steps = found(whole, "--wait", "30s")
    assert steps["health"]["words"] == "ready, 1 parts, after 3 tries"


def test_an_engine_that_fails_fails_the_inference(whole: Whole) -> None:
    whole.engine.failure, whole.engine.dies_at = EngineFailed("the engine fell over"), 0
    steps = found(whole)
    assert steps["inference"]["state"] == "failed"
    assert "the question was answered with 502: the engine fell over" in steps["inference"]["words"]
    assert steps["metrics"]["state"] == "failed"
    assert "nothing is counted for small in manta_time_to_first_token_seconds" in steps["metrics"]["words"]


def test_an_answer_that_breaks_off_fails_the_inference(whole: Whole) -> None:
    whole.engine.failure, whole.engine.dies_at = EngineFailed("the engine fell over"), 1
    assert found(whole)["inference"]["words"] == "the answer broke off: the engine fell over"


def test_an_answer_without_text_fails_the_inference(whole: Whole) -> None:
    whole.engine.pieces = ("",)
    assert "was empty (0 characters)" in found(whole)["inference"]["words"]


def test_a_version_is_asked_for_by_its_name(whole: Whole) -> None:
    whole.put(whole.entry(version="2", weight=0, endpoint="serve://small"))
    steps = found(whole, "--version", "2")
    assert steps["inference"]["figures"]["version"] == "2"
    failed = found(whole, "--version", "9")
    assert failed["registry"]["words"] == (
        "small has no version '9' in development; it has 1 enabled weight 100, 2 enabled weight 0"
    )
    assert (failed["application"]["state"], failed["inference"]["state"]) == ("skipped", "failed")


def test_a_model_of_another_environment_fails_its_registry_step(whole: Whole) -> None:
    steps = found(whole, "--environment", "production")
    assert steps["registry"]["words"] == "small is not registered in production, but in development"


def test_an_upstream_has_no_application_here(whole: Whole) -> None:
    whole.put(whole.entry(endpoint="https://upstream.example", engine="openai"))
    steps = found(whole)
    assert (steps["application"]["state"], steps["application"]["words"]) == (
        "skipped",
        "small@1 runs elsewhere, at https://upstream.example",
    )
    assert steps["replicas"]["words"] == "gateway 1/1"


def test_what_replicas_take_may_be_unknown(whole: Whole) -> None:
    [part] = application("small").deployments
    elsewhere = replace(part, memory_bytes=None, cpu_cores=None)
    whole.applications = (GATEWAY, replace(application("small"), deployments=(elsewhere,)))
    steps = found(whole)
    assert (steps["resources"]["state"], "is not known" in steps["resources"]["words"]) == ("warning", True)


def test_serves_controller_may_be_away(whole: Whole) -> None:
    whole.serve_fails = Unavailable("Ray Serve's controller does not answer")
    steps = found(whole)
    assert states(steps) == "ffppppw"
    assert steps["application"]["words"] == "Ray Serve's controller does not answer"


# --- a RayService ---


def test_a_rayservice_is_looked_at_too(whole: Whole, api: Api) -> None:
    steps = found(whole, "--rayservice", "manta")
    assert states(steps) == "ppppppp", steps
    assert "RayService manta/manta is ready, 2 endpoint(s)" in steps["application"]["words"]
    assert "1 pods are ready" in steps["replicas"]["words"]
    assert "pod manta-gateway-1 4096 MiB" in steps["resources"]["words"]


@pytest.mark.parametrize(
    ("pods", "metrics", "step", "state", "words"),
    [
        (
            [pod(is_ready=False, state={"waiting": {"reason": "CrashLoopBackOff"}})],
            [usage("manta-gateway-1")],
            "replicas",
            "failed",
            "1 of 1 pods are not ready: manta-gateway-1 is Running: CrashLoopBackOff",
        ),
        (
            [pod(restarts=2, last="OOMKilled")],
            [usage("manta-gateway-1")],
            "resources",
            "failed",
            "pod manta-gateway-1 was ended for its memory (2 restart(s))",
        ),
        (
            [pod()],
            [usage("manta-gateway-1", memory="15.5Gi")],
            "resources",
            "warning",
            "pod manta-gateway-1 takes 97% of its memory limit",
        ),
        ([pod()], None, "resources", "warning", "what pod manta-gateway-1 takes is not known"),
        ([], [], "replicas", "warning", "no pods of RayService manta/manta can be seen"),
    ],
)
def test_what_is_not_well_in_kubernetes_is_named(
    whole: Whole, api: Api, pods: list[Any], metrics: list[Any] | None, step: str, state: str, words: str
) -> None:
    api.pods, api.metrics = pods, metrics
    steps = found(whole, "--rayservice", "manta")
    assert (steps[step]["state"], steps[step]["words"]) == (state, words)


def test_a_rayservice_of_another_environment_fails(whole: Whole, api: Api) -> None:
    api.rayservices = [rayservice()]
    steps = found(whole, "--rayservice", "manta")
    assert steps["application"]["words"] == "RayService manta/manta serves production, not development"


def test_a_rayservice_is_looked_at_though_its_service_does_not_answer(api: Api) -> None:
    result = run(None, "--rayservice", "manta", "--output", "json", MANTA_URL="http://127.0.0.1:9")
    steps = {step["step"]: step for step in json.loads(result.output)["steps"]}
    assert (result.exit_code, states(steps)) == (1, "ppfsssp")
    assert steps["health"]["words"].startswith("no service at http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rayservice", "other"), "there is no RayService 'other' in namespace 'manta'"),
        (("--namespace", "elsewhere"), "this Kubernetes cluster knows no rayservices.ray.io"),
        (("--wait", "soon"), "wait: 'soon' is no duration"),
    ],
)
def test_bad_input_is_one_sentence(whole: Whole, api: Api, arguments: tuple[str, ...], words: str) -> None:
    result = run(whole, *arguments)
    assert (result.exit_code, result.output[: len(words)]) == (2, words)


def test_a_kubernetes_that_may_not_be_read_fails_its_steps(whole: Whole, api: Api) -> None:
    api.refused = {PODS: 403}
    assert found(whole, "--rayservice", "manta")["replicas"]["state"] == "warning"


# --- single steps ---


def test_an_optional_part_that_is_away_is_a_warning() -> None:
    seen = healthy(Health(is_ready=True, parts={"screener": "ok", "retriever": "no answer within 5 s"}), tries=1)
    assert (seen.state, seen.words) == ("warning", "ready, without a part: retriever: no answer within 5 s")


def exposition(*, model: str) -> str:
    telemetry = Telemetry()
    if model:
        telemetry.began(model, {"route": 1.0}, 5.0, ())
        telemetry.ended("t", "acme", model, "1", "answered", (1, 1), 5.0)
    return telemetry.exposition().decode()


def test_what_any_ingress_replica_counted_is_counted() -> None:
    assert counted("small", [exposition(model="")]).state == "failed"
    assert counted("small", [exposition(model=""), exposition(model="small")]).state == "passed"
    assert "nothing is counted for small in manta_turns, " in counted("small", [exposition(model="large")]).words


def test_metrics_that_a_dashboard_needs_are_named() -> None:
    text = exposition(model="small").replace("manta_stage_seconds", "other_seconds")
    assert counted("small", [text]).words == "a dashboard would lack manta_stage_seconds"


@given(st.lists(st.sampled_from(["passed", "warning", "failed", "skipped"]), min_size=1))
def test_the_worst_of_a_step_counts(states: list[State]) -> None:
    step = together([Finding(state=state, words=f"{state} {number}") for number, state in enumerate(states)])
    assert step.state == max(states, key=["skipped", "passed", "warning", "failed"].index)
    assert step.words.count(";") == states.count(step.state) - 1
    assert all(word.startswith(step.state) for word in step.words.split("; "))


# --- nothing to validate ---


def test_an_unknown_model_is_one_sentence(whole: Whole) -> None:
    result = run(whole, model="nope")
    assert (result.exit_code, result.output) == (
        2,
        "model: no model 'nope' is registered; `manta registry list` shows those there are\n",
    )


def test_no_service_is_one_sentence() -> None:
    result = run(None, "--url", "http://127.0.0.1:9")
    assert (result.exit_code, result.output[:34]) == (2, "no service at http://127.0.0.1:9: ")


@pytest.mark.parametrize(("key", "words"), [("sk-other", "does not know this key"), ("", "holds characters")])
def test_a_key_that_will_not_do_is_one_sentence(whole: Whole, key: str, words: str) -> None:
    result = run(whole, MANTA_API_KEY=key)
    assert (result.exit_code, words in result.output) == (2, True)
    assert len(result.output.splitlines()) == 1
