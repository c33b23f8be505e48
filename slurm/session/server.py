"""``python -m saman.slurm.session.server [INTERFACE]``: a Jupyter server inside a job, with a token of its own.

The token reaches Jupyter through its environment and the user through a file that only the user can read: command
lines and logs are visible to others.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from saman.configs.errors import ExitCode
from saman.runs import variables
from saman.runs.commands import CommandLog
from saman.runs.paths.run import RunPaths
from saman.runs.ranks.interfaces import interface_address
from saman.runs.ranks.notebook import NotebookRecord
from saman.slurm.session.notebook import LOOPBACK, MISSING, REMEDY, find_jupyter

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
START_SECONDS = 120.0  # until the server listens; a cold shared file system takes a minute


def main(arguments: list[str], environ: Mapping[str, str] = os.environ) -> int:
    """Start the server, publish how to reach it, and wait for its end; returns the exit status."""
    program = find_jupyter()
    if program is None:
        print(f"saman: {MISSING} on {socket.gethostname()}; {REMEDY}", file=sys.stderr)
        return ExitCode.ENVIRONMENT
    address = interface_address(arguments[0]) if arguments else LOOPBACK
    if address is None:
        print(f"saman: the interface {arguments[0]} has no address on {socket.gethostname()}", file=sys.stderr)
        return ExitCode.ENVIRONMENT
    token, port = secrets.token_urlsafe(32), free_port(address)
    command = server_command(program, address, port)
    process = subprocess.Popen(command, env={**environ, "JUPYTER_TOKEN": token})
    log = CommandLog(command, process.pid)
    ended: list[int] = []
    _pass_on_signals(process, ended)
    if _listens(address, port, process):
        node = environ.get("SLURMD_NODENAME") or socket.gethostname()
        NotebookRecord(node, address, port, token).write(RunPaths(Path(environ[variables.RUN])).notebook)
        print(f"saman: Jupyter listens on {address}:{port} of {node}", flush=True)
    status = process.wait()
    log.end(status)
    if ended:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if status == 0 else ExitCode.RUN_FAILED


def server_command(program: str, address: str, port: int) -> list[str]:
    """The server on one address and port, without a browser; the token is not among its arguments."""
    options = {"ip": address, "port": port, "port_retries": 0, "open_browser": False, "allow_remote_access": True}
    as_root = ["--allow-root"] if os.geteuid() == 0 else []  # as in a container
    return [program, *(f"--ServerApp.{name}={value}" for name, value in options.items()), *as_root]


def free_port(address: str) -> int:
    """An unused port of this address for the session's server."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _listens(address: str, port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if listener(address, port) == os.geteuid():
            return True
        time.sleep(0.2)
    return False


def listener(address: str, port: int, table: Path = Path("/proc/net/tcp")) -> int | None:
    """The user who listens where the session's server should; ``None`` without a listener.

    Another user may have taken the port before the server: a token must not be sent there.
    """
    place = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"  # proc(5): little-endian
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == place and fields[3] == _LISTEN:
            return int(fields[7])
    return None


def _pass_on_signals(process: subprocess.Popen[bytes], received: list[int]) -> None:
    def end(number: int, _: FrameType | None) -> None:
        received.append(number)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
