"""A Slurm job that serves models, registers its address, and starts its successor before its time is over."""

from __future__ import annotations

import shlex
from pathlib import Path

from saman.configs.errors import UserError
from saman.serving.deploy.service import ServiceCommand, refuse_line_breaks

SERVERS = ".servers"  # beside the models: a file per running server, with its address
NOTICE_SECONDS = 300


def registered(models_dir: Path) -> tuple[str, ...]:
    """Addresses of the servers that service jobs have registered, in the order of their names."""
    folder = models_dir / SERVERS
    files = sorted(folder.glob("*.address")) if folder.is_dir() else []
    lines = [file.read_text(encoding="utf-8", errors="replace").strip() for file in files if file.is_file()]
    return tuple(line for line in lines if line)


def log_pattern(models_dir: Path, name: str) -> str:
    """Where the jobs of a service write, as ``sbatch --output`` reads it; raises ``UserError`` for a backslash."""
    folder = str(models_dir / SERVERS)
    if "\\" in folder:
        raise UserError(f"{folder!r} contains a backslash, which Slurm does not accept", where="--models-dir")
    return f"{folder.replace('%', '%%')}/{name}-%j.log"


def render_slurm(
    service: ServiceCommand, *, hours: float = 24.0, cpus: int = 2, memory: str = "4G", drain_seconds: float = 3.0
) -> str:
    """Render the job script; ``sbatch FILE`` starts the service, ``scancel --name`` of its name ends it.

    Slurm sends USR1 before the time limit. The job then submits itself again, waits until the successor has registered,
    and drains its own server: some server always answers. A requeued job after a node's failure does the same.

    Args:
        service: The server; its ports are chosen by the job.
        hours: Time limit of each job.
        cpus: Cores.
        memory: Memory, as Slurm writes it.
        drain_seconds: Time for clients to notice that the address is gone, before the server drains.

    Raises:
        UserError: The job would listen beyond its node without tokens, TLS, or an explicit ``--insecure``.
    """
    given = {word.partition("=")[0] for word in service.words}
    if not given & {"--tokens", "--certificate", "--insecure"}:
        problem = "a service job listens beyond its node"
        raise UserError(problem, where="--slurm", remedy="--tokens FILE, --certificate and --key, or --insecure")
    log_pattern(service.models_dir, service.name)
    refuse_line_breaks(
        [service.program, *service.words, str(service.models_dir), str(service.directory)], "a job script"
    )
    scheme = "https" if "--certificate" in given else "http"
    parts = (_head(service, hours, cpus, memory), _server(service, scheme), _end(service, drain_seconds), _LIFE)
    return "\n".join(parts)


def _head(service: ServiceCommand, hours: float, cpus: int, memory: str) -> str:
    # Slurm's own copy of the script is submitted again: a file beside the models may be exchanged by their group.
    return f"""#!/bin/bash
#SBATCH --job-name=saman-serve-{service.name}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}
#SBATCH --time={max(10, round(hours * 60))}
#SBATCH --signal=B:USR1@{NOTICE_SECONDS}
#SBATCH --requeue
#SBATCH --open-mode=append
# Serves models, registers its address in the folder below, and submits its successor {NOTICE_SECONDS} s before its end.
set -u
script=$(cat "$0")
cd {shlex.quote(str(service.directory))}
servers={shlex.quote(str(service.models_dir / SERVERS))}
mine="$servers/{service.name}-$SLURM_JOB_ID.address"
log=${{servers//\\%/%%}}/{service.name}-%j.log  # of the successor; Slurm reads %% as the character
mkdir -p "$servers"
"""


def _server(service: ServiceCommand, scheme: str) -> str:
    command = shlex.join([service.program, *service.words, "--host", "0.0.0.0"])
    return f"""free_port() {{
  python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}}
port=$(free_port); grpc_port=$(free_port)
{command} --port "$port" --grpc-port "$grpc_port" &
server=$!

ready() {{ python3 - "{scheme}://127.0.0.1:$port"{shlex.quote(service.health_path)} 2>/dev/null <<'END'
import ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=2, context=ssl._create_unverified_context())
except urllib.error.HTTPError as error:  # it answers, but wants a token
    sys.exit(error.code != 401)
END
}}"""


def _end(service: ServiceCommand, drain_seconds: float) -> str:
    # The trap itself renews: a flag that a loop looks at would be missed between the look and the wait.
    return f"""ended() {{ rm -f "$mine"; }}
trap ended EXIT
drain() {{ rm -f "$mine"; sleep {drain_seconds:g}; kill -TERM "$server" 2>/dev/null; }}
trap 'drain' TERM
renew() {{
  trap '' USR1
  successor=$(sbatch --parsable --output="$log" <<< "$script") ||
    {{ echo "error: the successor was not submitted" >&2; trap 'renew' USR1; return; }}
  next="$servers/{service.name}-${{successor%%;*}}.address"
  for _ in $(seq {2 * (NOTICE_SECONDS - 30)}); do
    [ -e "$next" ] && break
    kill -0 "$server" 2>/dev/null || return  # cancelled meanwhile
    sleep 0.5
  done
  drain
}}
trap 'renew' USR1
"""


# The address appears only once the server answers.
_LIFE = """until ready; do kill -0 "$server" 2>/dev/null || { wait "$server"; exit $?; }; sleep 0.5; done
host=$(hostname -f 2>/dev/null || hostname)
new=$(mktemp "$mine.XXXXXX") && printf '%s:%s/%s\\n' "$host" "$port" "$grpc_port" > "$new" && chmod 644 "$new" &&
  mv "$new" "$mine"

while kill -0 "$server" 2>/dev/null; do wait "$server"; done
wait "$server"
exit $?
"""
