"""OpenSSH: its command lines, the shared connection to a login node, and its failures in words.

The user's own ``~/.ssh/config``, keys and agent apply. The first command opens a connection that later commands share
(ControlMaster). Without a terminal, ssh asks no questions (BatchMode).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.cluster import Cluster
from saman.jobs.remote.wire import COMMAND_NAME
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.trust.ownership import DubiousFolderError, own_folder
from saman.slurm.script.quoting import expanded

CONNECT_SECONDS = 15
ALIVE_SECONDS = 15  # between two signs of life of the connection; lost after four without an answer
PERSIST_SECONDS = 600  # an unused connection stays open for the next command
LONGEST_SOCKET = 80  # bytes; the kernel takes 107, and ssh adds a suffix of 17 while it connects


class SshFailure(Enum):
    """Why there is no connection."""

    NO_HOST = "no host"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # the server took none of the user's keys
    HOST_KEY = "host key"
    OTHER = "other"


# OpenSSH's own words; it has no other sign than exit status 255.
_WORDS = (
    (SshFailure.HOST_KEY, re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED")),
    (SshFailure.REFUSED, re.compile(r"Permission denied|Too many authentication failures|No supported authentication")),
    (SshFailure.NO_HOST, re.compile(r"Could not resolve hostname")),
    (
        SshFailure.UNREACHABLE,
        re.compile(r"Connection (refused|timed out|closed|reset)|No route to host|is unreachable|Operation timed out"),
    ),
)


def failure_of(said: str) -> SshFailure:
    """Why ssh failed, from its messages."""
    return next((failure for failure, words in _WORDS if words.search(said)), SshFailure.OTHER)


class NoConnection(EnvironmentLack):
    """There is no connection to the login node, by the fault of ``failure``."""

    failure: SshFailure = SshFailure.OTHER


def connection_error(host: str, said: str) -> NoConnection:
    """The error for people: what ssh found, and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "ssh printed no reason"
    trial = f"try: ssh {shlex.quote(host)}"
    problems = {
        SshFailure.NO_HOST: (f"no host has this name: {last}", "access.ssh in the cluster file, or ~/.ssh/config"),
        SshFailure.UNREACHABLE: (f"the login node cannot be reached: {last}", f"is the network, or a VPN, up? {trial}"),
        SshFailure.REFUSED: (
            f"the login node accepts none of your keys: {last}",
            f"ssh-add your key, or name it in ~/.ssh/config; {trial}",
        ),
        SshFailure.HOST_KEY: ("the login node's host key is unknown, or has changed", f"{trial}, and compare the key"),
        SshFailure.OTHER: (f"ssh failed: {last}", trial),
    }
    failure = failure_of(said)
    problem, remedy = problems[failure]
    error = NoConnection(problem, where=host, remedy=remedy)
    error.failure = failure
    return error


def saman_words(cluster: Cluster) -> str:
    """The words of a shell that start the saman of the login node, from ``access.saman`` or ``software``."""
    access, software = cluster.access, cluster.software
    if access is not None and access.saman is not None:
        return _path(access.saman)
    if software.virtualenv is not None:
        return _path(f"{software.virtualenv}/bin/saman")
    if software.conda is not None:
        name = software.conda.environment
        return _path(f"{name if '/' in name else f'{software.conda.root}/envs/{name}'}/bin/saman")
    return f"{_path(software.python)} -m saman" if software.python is not None else "saman"


def _path(text: str) -> str:
    """A path as words of a shell: variables of the named set and a leading ``~`` are expanded, nothing else."""
    return f'"$HOME"/{expanded(text[2:])}' if text.startswith("~/") else str(expanded(text))


def remote_command(saman: str) -> str:
    """The command for the user's login shell there; a login bash, because saman's folder may be on its PATH only."""
    return f"exec bash -lc {shlex.quote(f'exec {saman} {COMMAND_NAME}')}"


def control_socket(host: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The socket of the shared connection, in a folder of this user alone.

    Raises:
        EnvironmentLack: Another user controls that folder.
    """
    given = environ.get("XDG_RUNTIME_DIR", "")
    name = hashlib.sha256(host.encode()).hexdigest()[:12]
    folders = [Path(given) / "saman"] if given and Path(given).is_dir() else []
    folders += [Path(parent) / f"saman-ssh-{os.getuid()}" for parent in (tempfile.gettempdir(), "/tmp")]
    folder = next(folder for folder in folders if _fits(folder / name))
    try:
        return own_folder(folder) / name
    except DubiousFolderError as error:
        raise EnvironmentLack(error.doubt.reason, where=str(folder), remedy=error.doubt.remedy) from None


def _fits(socket: Path) -> bool:
    """Whether the kernel takes the path of a socket, and rsync takes it without quotes."""
    return len(os.fsencode(socket)) <= LONGEST_SOCKET and re.fullmatch(r"[A-Za-z0-9_./+-]+", str(socket)) is not None


def session_options(socket: Path) -> list[str]:
    """Options of every use of the shared connection; ssh asks nothing there."""
    return ["-o", f"ControlPath={socket}", "-o", "ControlMaster=no", "-o", "BatchMode=yes", *_alive()]


def session_command(host: str, socket: Path, command: str) -> list[str]:
    """The command line that runs a command on the login node, without a terminal."""
    return ["ssh", "-T", *session_options(socket), "--", host, command]


def master_command(host: str, socket: Path, log: Path | None) -> list[str]:
    """The command line that opens the shared connection and returns.

    Args:
        host: The login node.
        socket: The socket of the connection.
        log: The file for ssh's messages if there is no terminal; ``None`` on a terminal.
    """
    persist = f"ControlPersist={PERSIST_SECONDS}"
    batch = [] if log is None else ["-o", "BatchMode=yes", "-E", str(log)]
    shared = ["-o", f"ControlPath={socket}", "-o", "ControlMaster=yes", "-o", persist]
    return ["ssh", "-fNT", *shared, "-o", f"ConnectTimeout={CONNECT_SECONDS}", *_alive(), *batch, "--", host]


def _alive() -> list[str]:
    return ["-o", f"ServerAliveInterval={ALIVE_SECONDS}", "-o", "ServerAliveCountMax=4"]


def connect(host: str) -> Path:
    """Open the shared connection to a login node, unless it is open; returns its socket.

    Raises:
        EnvironmentLack: There is no ssh, or no connection.
    """
    if shutil.which("ssh") is None:
        raise EnvironmentLack("no ssh on PATH", where=host, remedy="install the OpenSSH client")
    socket = control_socket(host)
    if _control(host, socket, "check"):
        return socket
    socket.unlink(missing_ok=True)  # of a connection that was lost
    asked = sys.stdin.isatty() and sys.stderr.isatty()
    with tempfile.TemporaryDirectory(prefix="saman-ssh-") as folder:
        log = Path(folder) / "messages"
        # Not captured: the connection stays in the background, and would keep a pipe open.
        done = run_command(master_command(host, socket, None if asked else log), captured=False)
        said = log.read_text("utf-8", errors="replace") if log.is_file() else "its message is above"
    if done.returncode != 0:
        raise connection_error(host, said)
    return socket


def disconnect(host: str) -> None:
    """Close the shared connection to a login node."""
    _control(host, control_socket(host), "exit")


def _control(host: str, socket: Path, what: str) -> bool:
    """Whether the shared connection answers."""
    if not socket.exists():
        return False
    command = ["ssh", "-O", what, "-o", f"ControlPath={socket}", "--", host]
    try:
        return run_command(command, timeout_seconds=10).returncode == 0
    except COMMAND_ERRORS:
        return False


def rsync_shell(socket: Path) -> str:
    """What ``rsync -e`` takes: the shared connection. No word has a character that needs quoting."""
    return " ".join(["ssh", "-T", *session_options(socket)])
