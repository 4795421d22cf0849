"""`manta deployment status` against a service and a played Kubernetes, on real sockets."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from serve_app.adapters.kubernetes import pod as read_pod
from serve_app.adapters.kubernetes import rayservice as read
from serve_app.cli.deployment import deployment_app
from serve_app.cli.deployment_tables import deployment_view
from serve_app.deployed.disagreements import Picture
from serve_app.errors import Unavailable
from tests.unit.kubernetes_api import PODS, RAYSERVICES, Api, kubeconfig, kubernetes, pod, rayservice, usage
from tests.unit.rollout_service import GATEWAY, Service, application, entry, running


@pytest.fixture
def service() -> Iterator[Service]:
    with running(circuits={"org/qwen@1": "closed"}) as made:
        made.put(entry())
        yield made


@pytest.fixture
def api() -> Iterator[Api]:
    held = rayservice()
    names = ("gateway", "qwen-1")
    held["spec"]["serveConfigV2"] = json.dumps({"applications": [{"name": name} for name in names]})
    held["status"]["activeServiceStatus"]["applicationStatuses"] = {name: {"status": "RUNNING"} for name in names}
    with kubernetes(rayservices=[held], pods=[pod()], metrics=[usage("manta-gateway-1")]) as played:
        yield played


def run(service: Service | None, *arguments: str, **environment: Any) -> Result:
    app = typer.Typer()
    app.add_typer(deployment_app, name="deployment")
    given = {
        "MANTA_URL": service.url if service else None,
        "MANTA_API_KEY": "admin",
        "COLUMNS": "120",
        "KUBECONFIG": "/nonexistent",
        "DATABASE_URL": None,
        **environment,
    }
    return CliRunner().invoke(app, ["deployment", "status", *arguments], env=given)


def test_sides_that_agree_are_shown(service: Service) -> None:
    result = run(service)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "all sides agree")
    rows = [[cell for cell in line.split("  ") if cell.strip()] for line in result.output.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert ["org/qwen@1", "enabled", "100 %", "serve://qwen-1", "RUNNING 1/1", "closed"] in cells
    assert ["-", "the gateway", "-", "serve://gateway", "RUNNING 1/1", "-"] in cells


def test_a_disagreement_is_named_and_is_status_1(service: Service) -> None:
    service.applications = (GATEWAY, application(running=0))
    result = run(service)
    assert result.exit_code == 1
    assert "1 disagreement\n- org/qwen@1 is enabled, but its application 'qwen-1' has 0 of 1 replicas" in result.output


def test_kubernetes_is_put_beside_them(service: Service, api: Api, tmp_path: Path) -> None:
    result = run(service, KUBECONFIG=str(kubeconfig(api.url, tmp_path)))
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "all sides agree"), result.output
    assert "RayService manta/manta: Ready True, UpgradeInProgress False" in result.output
    assert "RayCluster manta-x7k2p; 2 endpoint(s)" in result.output
    [row] = [line.split() for line in result.output.splitlines() if line.strip().startswith("gateway")]
    assert row == ["gateway", "1/1", "0", "4.3", "GB", "of", "17.2", "GB", "1.5"]


def test_a_rayservice_of_another_environment_is_not_compared(service: Service, api: Api, tmp_path: Path) -> None:
    api.rayservices = [rayservice()]
    result = run(service, KUBECONFIG=str(kubeconfig(api.url, tmp_path)))
    assert result.exit_code == 0, result.output
    assert "- RayService manta/manta serves production\n" in result.output
    assert result.output.splitlines()[-1] == "all that is known agrees"


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ({RAYSERVICES: 403}, "what Kubernetes has is not known: Kubernetes refuses rayservices.ray.io"),
        ({PODS: 403}, "Kubernetes refuses pods in namespace 'manta' (403)"),
        ({RAYSERVICES: 404}, "this Kubernetes cluster knows no rayservices.ray.io: is KubeRay installed?"),
    ],
)
def test_what_kubernetes_refuses_is_a_note(
    service: Service, api: Api, tmp_path: Path, refused: dict[str, int], words: str
) -> None:
    api.refused = refused
    result = run(service, KUBECONFIG=str(kubeconfig(api.url, tmp_path)))
    assert result.exit_code == 0, result.output
    assert words in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rayservice", "other"), "there is no RayService 'other' in namespace 'manta'"),
        (("--namespace", "elsewhere"), "this Kubernetes cluster knows no rayservices.ray.io"),
    ],
)
def test_what_was_named_must_be_there(
    service: Service, api: Api, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run(service, *arguments, KUBECONFIG=str(kubeconfig(api.url, tmp_path)))
    assert (result.exit_code, result.output[: len(words)]) == (2, words)


def test_without_a_kubernetes_a_named_rayservice_is_refused(service: Service) -> None:
    result = run(service, "--rayservice", "manta")
    assert (result.exit_code, "there is no Kubernetes at hand: set KUBECONFIG" in result.output) == (2, True)


def test_serves_controller_may_be_away(service: Service) -> None:
    service.serve_fails = Unavailable("Ray Serve's controller does not answer")
    result = run(service, "--environment", "development")
    assert result.exit_code == 0, result.output
    assert "- what runs in Ray Serve is not known: Ray Serve's controller does not answer" in result.output


def test_without_a_gateway_the_environment_must_be_plain(service: Service) -> None:
    service.serve_fails = Unavailable("Ray Serve's controller does not answer")
    assert run(service).exit_code == 0
    service.put(entry("1", "production"))
    result = run(service)
    assert result.exit_code == 2
    assert result.output.startswith("environment: models are registered in development and production; say which")


def test_another_environment_is_not_compared_with_what_runs_here(service: Service) -> None:
    service.put(entry("5", "production"))
    result = run(service, "--environment", "production")
    assert result.exit_code == 0, result.output
    assert "- the gateway asked serves development: what runs for production is not known to it" in result.output
    [row] = [line for line in result.output.splitlines() if "org/qwen@5" in line]
    assert row.split() == ["org/qwen@5", "enabled", "100", "%", "serve://qwen-5", "?", "-"]


def test_an_unknown_model_is_one_sentence(service: Service) -> None:
    result = run(service, "--model", "nope")
    assert (result.exit_code, result.output) == (
        2,
        "model: no model 'nope' in development; there are: org/qwen\n",
    )


def test_json_is_one_document(service: Service, api: Api, tmp_path: Path) -> None:
    result = run(service, "--output", "json", KUBECONFIG=str(kubeconfig(api.url, tmp_path)))
    document = json.loads(result.output)
    assert (document["environment"], document["disagreements"], document["notes"]) == ("development", [], [])
    [one] = document["entries"]
    assert (one["version"], one["share"]) == ("1", 100)
    assert document["applications"][1]["deployments"][0]["memory_bytes"] == 3 * 2**30
    assert document["rayservices"][0]["pods"][0]["containers"][0]["image"] == "manta:0.1.0"


def test_a_key_without_the_role_is_one_sentence(service: Service) -> None:
    result = run(service, MANTA_API_KEY="user")
    assert (result.exit_code, "need a key with the role 'admin'" in result.output) == (2, True)


def test_no_service_is_one_sentence() -> None:
    result = run(None, MANTA_URL="http://127.0.0.1:9")
    assert (result.exit_code, result.output[:35]) == (2, "no service at http://127.0.0.1:9: s")


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_fits_the_terminal(width: int) -> None:
    seen = Picture(
        environment="production",
        entries=(entry("2026-11-01-rc1", "production", endpoint="https://upstream.example.com:8443/openai/v1"),),
        applications=(GATEWAY,),
    )
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(deployment_view(seen, ("a sentence " * 20,), ("a note",)))
    assert max(map(len, captured.get().splitlines())) <= width
    assert "…" not in captured.get()


GOLDEN = """\
production

 version      registry      share   endpoint              Ray Serve     circuit
 ──────────────────────────────────────────────────────────────────────────────
 org/qwen@1   enabled       90 %    serve://qwen-1        RUNNING 1/2   closed
 org/qwen@2   enabled       10 %    serve://qwen-2        none          -
 org/qwen@3   failed        -       serve://qwen-3        RUNNING 1/1   -
 gpt@1        enabled       100 %   https://api.example   -             open
                                    .com/v1
 -            the gateway   -       serve://gateway       RUNNING 1/1   -
 -            no entry      -       serve://stray         RUNNING 1/1   -

RayService manta/manta: Ready True, UpgradeInProgress False
RayCluster manta-x7k2p; 2 endpoint(s)

 pods of     ready   restarts              memory         CPU
 ────────────────────────────────────────────────────────────
 gateway       1/2          0   4.3 GB of 34.4 GB         1.5
 headgroup     1/1          0           not known   not known

not known
- a note
2 disagreements
- one
- another, which is longer than a line of a terminal of eighty characters and so
  goes on below itself
"""


def test_the_view_is_what_it_was() -> None:
    pods = (
        pod(),
        pod("manta-gateway-2", is_ready=False, state={"waiting": {"reason": "ImagePullBackOff"}}),
        pod("head", group="headgroup"),
    )
    use = {("manta-gateway-1", "ray-worker"): {"memory": "4Gi", "cpu": "1500m"}}
    seen = Picture(
        environment="production",
        entries=(
            entry("1", "production", weight=90),
            entry("2", "production", weight=10),
            entry("3", "production", status="failed"),
            entry("1", "production", model="gpt", endpoint="https://api.example.com/v1"),
            entry("1", "staging"),
        ),
        applications=(GATEWAY, application(running=1, wanted=2), application("qwen-3"), application("stray")),
        circuits={"gpt@1": "open", "org/qwen@1": "closed"},
        rayservices=(replace(read(rayservice()), pods=tuple(read_pod(one, use) for one in pods)),),
    )
    longest = "another, which is longer than a line of a terminal of eighty characters and so goes on below itself"
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        console.print(deployment_view(seen, ("one", longest), ("a note",)))
    assert trimmed(captured.get()) == trimmed(GOLDEN)


def trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]
