import logging
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import httpx
import typer

from serve_app.authenticator import digest
from serve_app.cli.client import LOCAL_KEY
from serve_app.configuration import at_home, dump, load, with_model
from serve_app.settings import Config

if TYPE_CHECKING:
    from deployments.cluster import Service

START_DEADLINE_S = 600


def serve(
    config: Annotated[Path, typer.Option(help="Config file.")] = Path("configs/local.yaml"),
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 opens the service to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    model: Annotated[
        str, typer.Option(help="A model for vLLM: a hub id, a folder, or `demo` for a tiny one made here.")
    ] = "",
    tensor_parallel_size: Annotated[
        int, typer.Option(help="Devices (or CPU ranks) to split the model over.", min=1)
    ] = 1,
    data: Annotated[
        Path | None, typer.Option(help="Folder of this service's documents; without it var/<port>.")
    ] = None,
) -> None:
    """Start Ray and the service, and stop everything again on Ctrl-C. SIGHUP reads the config again."""
    begun = time.monotonic()
    asked = (config, data or Path("var") / str(port), model, tensor_parallel_size)
    settings = configured(*asked)
    logging.getLogger("ray").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from deployments.cluster import running

    # Sockets live in this folder, and a socket's path must be shorter than 108 characters: not below the project.
    with TemporaryDirectory(prefix="manta-") as runtime:
        try:
            with running(dump(settings), host, port, Path(runtime)) as service:
                # Again: Ray has put its own in place, which writes a stack dump and ends us before our cleaning up.
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                hung_up: list[int] = []
                signal.signal(signal.SIGHUP, lambda number, _: hung_up.append(number))
                wait_until_ready(service)
                announce(service, settings, time.monotonic() - begun)
                stay(service, asked, hung_up)
        except OSError as exc:
            refuse(str(exc))
        except KeyboardInterrupt:
            typer.echo("stopped")


Asked = tuple[Path, Path, str, int]
"""Config file, folder of documents, model and tensor parallel size."""


def configured(config: Path, data: Path, model: str, tensor_parallel_size: int) -> Config:
    """The config as asked for on the command line; refuses one that cannot work."""
    try:
        return config_of((config, data, model, tensor_parallel_size))
    except ValueError as exc:
        refuse(str(exc))


def config_of(asked: Asked) -> Config:
    """Raises ValueError for a config that cannot work."""
    config, data, model, tensor_parallel_size = asked
    settings = at_home(load(config), data)
    if not model:
        return settings
    return with_model(settings, prepared(model), gpu=has_gpu(), tensor_parallel_size=tensor_parallel_size)


def stay(service: "Service", asked: Asked, hung_up: list[int]) -> NoReturn:
    """Until a signal ends us; what `hung_up` gets asks for the config to be read again."""
    while True:
        signal.pause()
        while hung_up:
            hung_up.clear()
            redeploy(service, asked)


def redeploy(service: "Service", asked: Asked) -> None:
    """Applies a changed config to the running service; one that cannot work changes nothing."""
    try:
        settings = config_of(asked)
    except ValueError as exc:
        typer.secho(f"{exc}\nThe service goes on as it was.", err=True, fg="red")
        return
    service.deploy(dump(settings))
    typer.echo(f"deployed: {', '.join(application.name for application in settings.applications)}")


def wait_until_ready(service: "Service") -> None:
    """Returns when a question would be answered; refuses with Serve's own reason when one never will."""
    deadline = time.monotonic() + START_DEADLINE_S
    last = ""
    while time.monotonic() < deadline:
        if failure := service.failure():
            refuse(failure)
        try:
            if httpx.get(f"{service.url}/health/ready", timeout=6).status_code == 200:
                return
        except httpx.TransportError:
            pass  # the proxy is not there yet
        now = ", ".join(f"{name} {status.lower()}" for name, status in service.states().items())
        if now != last:
            typer.echo(f"starting: {now}")
            last = now
        time.sleep(0.25)
    refuse(f"not ready after {START_DEADLINE_S} s: {last}")


def announce(service: "Service", settings: Config, seconds: float) -> None:
    gateway = settings.gateway
    known = {key.sha256 for key in gateway.keys}
    key = LOCAL_KEY if digest(LOCAL_KEY) in known else "one of the config's keys"
    typer.echo(
        f"\nManta is ready after {seconds:.0f} s\n"
        f"  URL     {service.url}/v1   (documentation: {service.url}/docs)\n"
        f"  key     {key}\n"
        f"  models  {', '.join(['auto', *gateway.models])}\n"
        f"Ctrl-C stops it.\n"
    )


def prepared(model: str) -> str:
    """`demo` is made on this machine; anything else is a folder or a hub id as it stands."""
    if model != "demo":
        return model
    from serve_app.checkpoint import ensure_demo

    return str(ensure_demo(Path("var/models/demo")))


def has_gpu() -> bool:
    """Whether the kernel shows an NVIDIA device; vLLM itself is only imported in its own replica."""
    return Path("/proc/driver/nvidia/gpus").is_dir() or Path("/dev/nvidia0").exists()


def refuse(sentence: str) -> NoReturn:
    typer.secho(sentence, err=True, fg="red")
    sys.exit(1)
