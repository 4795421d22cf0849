"""`manta triton`: the classifier, and a reranker where one is given, on a Triton server on this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from deployments.triton.environment import TritonEnvironment
from deployments.triton.server import HOST, Model, Ports, TritonServer
from serve_app.adapters import encoder
from serve_app.errors import ClassifierUnavailable
from serve_app.heads import SHIPPED

DEFAULTS = Ports()


def triton(
    grpc_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the service asks (classifier.triton_url).")
    ] = DEFAULTS.grpc,
    http_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Triton's own HTTP API, for health checks.")
    ] = DEFAULTS.http,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Prometheus metrics.")] = DEFAULTS.metrics,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one encoder call.")] = 2,
    encoder_root: Annotated[Path, typer.Option(help="Folder of exported encoders.")] = Path("var/encoder"),
    heads: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="File of trained heads.", show_default="the shipped ones")
    ] = SHIPPED,
    reranker: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of a cross-encoder (model.onnx, tokenizer.json, config.json) to serve beside it.",
        ),
    ] = None,
) -> None:
    """Serve the classifier with NVIDIA Triton on 127.0.0.1 until Ctrl-C, for `classifier.backend: triton`, and a
    cross-encoder for `retriever.reranker.backend: triton`.

    The first start makes the virtual environment .venv-triton.
    """
    _end_as_by_ctrl_c()
    try:
        _make_environment()
        folder = encoder.ensure(encoder_root.resolve())
        model = Model(
            encoder=folder, heads=heads.resolve(), threads=threads, reranker=reranker.resolve() if reranker else None
        )
        _serve(TritonServer(model, ports=Ports(grpc=grpc_port, http=http_port, metrics=metrics_port)))
    except ClassifierUnavailable as exc:
        typer.echo(f"manta triton: {exc}", err=True)
        raise typer.Exit(1) from exc
    except KeyboardInterrupt:
        typer.echo("Triton is stopped.", err=True)


def _end_as_by_ctrl_c() -> None:
    """A supervisor and a closed terminal end the server so too; a shell's background job starts with interrupts off."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)


def _make_environment() -> None:
    environment = TritonEnvironment()
    if not environment.is_installed:
        typer.echo(f"Making {environment.path} (once, about 500 MB)...", err=True)
    environment.install()


def _serve(server: TritonServer) -> None:
    typer.echo("Starting Triton...", err=True)
    with server:
        typer.echo(f"Triton is ready: gRPC {server.url}, metrics http://{HOST}:{server.ports.metrics}/metrics")
        typer.echo("Ctrl-C stops it.", err=True)
        server.wait()
