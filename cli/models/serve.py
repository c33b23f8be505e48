"""``saman serve``: model versions over TensorFlow Serving's REST and gRPC interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import MODELS, ModelsDir

if TYPE_CHECKING:
    from saman.serving.supervision.arrivals import ServerEvent
    from saman.serving.supervision.supervisor import Supervisor


def serve_command(
    context: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME[:VERSION|:LABEL]]...", help="The models to serve.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Serve every model.")] = False,
    engine: Annotated[
        str, typer.Option(help="auto, openvino, tensorflow or onnx; auto takes OpenVINO where it answers alike.")
    ] = "auto",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the REST interface; 0 takes a free port.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC interface; 0 takes a free port.")] = 8500,
    fronts: Annotated[int, typer.Option(min=1, help="Front processes, which share the ports.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Most examples of a batch.")] = 16,
    batch_delay: Annotated[
        float, typer.Option(min=0.0, help="Milliseconds that a request waits for others; 0 joins only those that wait.")
    ] = 0.0,
    queue: Annotated[
        int, typer.Option(min=1, help="Most waiting requests of a version; more are refused (429).")
    ] = 1000,
    body: Annotated[str, typer.Option(help="Largest body of a request, such as 32M.")] = "32M",
    timeout: Annotated[float, typer.Option(min=0.001, help="Longest time of a request, in seconds.")] = 30.0,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    tokens: Annotated[Path | None, typer.Option(help="File with the digests of accepted tokens.")] = None,
    new_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print a new token, add its digest to --tokens, and end.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without TLS or tokens.")
    ] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Compute in engine processes only, small models too (slower).")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option("--print", metavar="TARGET", help="Print a systemd, kubernetes, haproxy or slurm file, and end."),
    ] = None,
    servers: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="HOST:PORT", help="With --print haproxy: a server (repeatable)."),
    ] = None,
    on_slurm: Annotated[bool, typer.Option("--slurm", help="Serve from a Slurm job that renews itself.")] = False,
    hours: Annotated[float, typer.Option(min=0.2, help="With --slurm: time limit of each job.")] = 24.0,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Serve model versions over TensorFlow Serving's REST and gRPC interfaces.

    A model answers with its version labelled `stable`, else with the newest. The server follows the registry: a
    promote, rollback or prune takes effect without a restart. SIGTERM or Ctrl-C answers what has arrived, then ends.

    Examples:

        saman serve digits

        saman serve digits:canary --port 0

        saman serve digits --print systemd

        saman serve --all --host 0.0.0.0 --certificate server.pem --key server.key --tokens tokens
    """
    if new_token is not None:
        _add_token(tokens, new_token)
        return
    _require_target(context, target, on_slurm)
    if target is not None or on_slurm:
        from saman.cli.models.serve_targets import print_service, submit_service

        submit_service(context) if target is None else print_service(context, target, servers or [])
        return
    _require_packages()
    from saman.configs.errors import UserError, choices
    from saman.runs.engines.interface import BatchLimits
    from saman.serving.supervision.settings import EngineChoice, ServeSettings, choose_specs
    from saman.serving.supervision.supervisor import serve

    if engine not in {choice.value for choice in EngineChoice}:
        valid = choices(engine, [choice.value for choice in EngineChoice])
        raise UserError(f"no engine is called {engine!r}", where="--engine", remedy=valid)
    settings = ServeSettings(
        models_dir=models_dir,
        specs=choose_specs(models_dir, models or [], everything=everything),
        engine=EngineChoice(engine),
        host=host,
        rest_port=port,
        grpc_port=grpc_port,
        fronts=fronts,
        threads=threads,
        batches=BatchLimits(batch, batch_delay / 1000),
        queue=queue,
        body_bytes=_parse_body(body),
        timeout_seconds=timeout,
        certificate=certificate,
        key=key,
        tokens=tokens,
        insecure=insecure,
        isolate=isolate,
    )
    has_tls, has_tokens = certificate is not None, tokens is not None
    serve(settings, _tell, lambda server: _say_ready(server, host, has_tls, has_tokens))


def _require_target(context: typer.Context, target: str | None, on_slurm: bool) -> None:
    """Raise ``UserError`` for an option that only a file to print, or a Slurm job, would use."""
    from saman.configs.errors import UserError

    for option, name, has_use, remedy in (
        ("--server", "servers", target == "haproxy", "--print haproxy"),
        ("--hours", "hours", on_slurm or target == "slurm", "--slurm, or --print slurm"),
    ):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and not has_use:
            raise UserError("a server on this machine does not use this option", where=option, remedy=f"with {remedy}")


def _parse_body(text: str) -> int:
    from saman.configs.errors import UserError
    from saman.configs.units import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UserError(str(error), where="--body", remedy="32M") from None


def _require_packages() -> None:
    from importlib.util import find_spec

    from saman.configs.errors import EnvironmentLack

    needed = ("grpc", "google", "httptools", "orjson", "uvloop")
    lacking = [name for name in needed if find_spec(name) is None]
    if lacking:
        raise EnvironmentLack(f"saman serve needs {', '.join(lacking)}", remedy="pip install 'saman[serve]'")


def _add_token(file: Path | None, name: str) -> None:
    """Print a token once; the file keeps its digest."""
    from saman.configs.errors import UserError
    from saman.serving.front.access import add_token

    if file is None:
        problem = "--new-token needs the file of the digests"
        raise UserError(problem, remedy="saman serve --tokens FILE --new-token NAME")
    typer.echo(add_token(file, name))
    typer.echo(f"{file} keeps its digest; clients send: authorization: Bearer TOKEN", err=True)


def _tell(event: ServerEvent) -> None:
    import time

    from saman.configs.terminal_text import clean_text

    typer.echo(clean_text(f"{time.strftime('%H:%M:%S')} {event}"), err=event.is_problem)


def _say_ready(server: Supervisor, host: str, has_tls: bool, has_tokens: bool) -> None:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    address = f"{'https' if has_tls else 'http'}://{shown}:{server.rest_port}"
    typer.echo(f"serving {', '.join(server.describe())}")
    typer.echo(f"REST {address}/v1/models, gRPC {shown}:{server.grpc_port}; Ctrl-C ends")
    extra = (" --cacert CERTIFICATE" if has_tls else "") + (" -H 'authorization: Bearer TOKEN'" if has_tokens else "")
    for line in server.examples():
        typer.echo(f"  curl{extra} -d '{line.body}' {address}{line.path}")
