"""``saman serve --print`` and ``--slurm``: the same command as a service of systemd, Kubernetes, haproxy or Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from saman.serving.deploy.service import ServiceCommand

OWN = ("target", "on_slurm", "servers", "hours")  # parameters of ``saman serve`` that a service does not get


def print_service(context: typer.Context, target: str, servers: list[str]) -> None:
    """Print the file with which ``target`` runs this command; nothing is started."""
    from saman import __version__
    from saman.serving.deploy.haproxy import render_haproxy
    from saman.serving.deploy.kubernetes import render_kubernetes
    from saman.serving.deploy.service import ServeTarget, find_target
    from saman.serving.deploy.slurm import render_slurm
    from saman.serving.deploy.systemd import render_systemd

    wanted, service = find_target(target), describe_service(context, servers)
    if wanted is ServeTarget.KUBERNETES:
        text = render_kubernetes(service, __version__)
    elif wanted is ServeTarget.HAPROXY:
        text = render_haproxy(service)
    elif wanted is ServeTarget.SLURM:
        text = render_slurm(service, hours=context.params["hours"])
    else:
        text = render_systemd(service)
    typer.echo(text, nl=False)


def submit_service(context: typer.Context) -> None:
    """``saman serve --slurm``: write the job script beside the models and submit it; a job renews itself."""
    from saman.configs.errors import EnvironmentLack, UserError
    from saman.runs.files.whole import write_whole
    from saman.serving.deploy.slurm import SERVERS, log_pattern, render_slurm
    from saman.slurm.site import client

    service = describe_service(context, [])
    text = render_slurm(service, hours=context.params["hours"])
    if not client.available():
        raise EnvironmentLack("sbatch is not on PATH", remedy="saman serve --print slurm prints the job script")
    folder = service.models_dir / SERVERS
    folder.mkdir(exist_ok=True)
    script = folder / f"{service.name}.sbatch"
    write_whole(script, text)
    answer = client.submit([f"--output={log_pattern(service.models_dir, service.name)}", str(script)])
    if answer.code != 0:
        raise UserError(f"sbatch refused the job: {answer.err.strip()}", where=str(script))
    job = client.job_id(answer)
    typer.echo(
        f"job {job}: its address appears in {folder}; scancel --name saman-serve-{service.name} ends the service"
    )


def describe_service(context: typer.Context, servers: list[str]) -> ServiceCommand:
    """The command line of ``context`` as a service for ``saman serve --print``, with absolute paths."""
    import sys

    from saman.configs.errors import UserError
    from saman.registry.store.layout import parse_spec
    from saman.serving.deploy.service import ServiceCommand
    from saman.serving.deploy.slurm import registered

    values = context.params
    models: list[str] = values["models"] or []
    if not models and not values["everything"]:
        raise UserError("no model is named", remedy="saman serve NAME, or --all")
    names = [parse_spec(model).name for model in models]
    models_dir = Path(values["models_dir"]).absolute()
    return ServiceCommand(
        name="-".join(_plain(name) for name in names)[:40].strip("-") or "all",
        program=sys.executable,
        words=("-m", "saman", "serve", *_words(context)),
        directory=Path.cwd(),
        models_dir=models_dir,
        rest_port=values["port"],
        grpc_port=values["grpc_port"],
        health_path=f"/v1/models/{names[0]}" if names else "/monitoring/prometheus/metrics",
        servers=tuple(servers) or registered(models_dir),
    )


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def _words(context: typer.Context) -> list[str]:
    """The arguments and the options that differ from their defaults; paths are absolute."""
    words: list[str] = []
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name in OWN or value in (None, [], parameter.default) and name != "models_dir":
            continue
        if parameter.param_type_name == "argument":
            words = [*(value or []), *words]
        elif isinstance(value, bool):
            words.append(parameter.opts[0])
        else:
            words += [parameter.opts[0], _text(value)]
    return words


def _text(value: Any) -> str:
    return str(value.absolute()) if isinstance(value, Path) else str(value)
