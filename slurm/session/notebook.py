"""The run of a Jupyter server on a compute node, and the tunnel that leads to it."""

from __future__ import annotations

import getpass
import shutil
import socket
import sys
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.script import Script
from saman.runs.ranks.notebook import NotebookRecord
from saman.slurm.script.setup_lines import steps_of

LOOPBACK = "127.0.0.1"
PROGRAMS = ("jupyter-lab", "jupyter-notebook", "jupyter-server")
MISSING = "Jupyter is not installed"
REMEDY = "pip install jupyterlab, in the environment of the jobs"


def notebook_script(cluster: Cluster, directory: Path, overrides: dict[str, object]) -> Script:
    """The server as a run on one node.

    Args:
        cluster: The cluster; the server listens on its network interface if the file names one, else on the loopback.
        directory: The folder of the notebooks.
        overrides: ``resources``.

    Raises:
        UserError: A resource is not valid.
    """
    interface = next(iter(cluster.network.interfaces), "")
    command = ["python", "-m", "saman.slurm.session.server", *([interface] if interface else [])]
    values = {
        "name": "notebook",
        "command": command,
        "directory": str(directory.absolute()),
        "resources": overrides,
        "launch": {"stop_signal": "TERM"},
    }
    return validated(Script, values, "saman notebook")


def require_jupyter(cluster: Cluster) -> None:
    """Refuse to start without Jupyter: it is not here, and no step of the cluster file's set-up brings another Python.

    Raises:
        EnvironmentLack: Jupyter is missing.
    """
    brought = cluster.software.python is not None or any(step.brings_python for _, step in steps_of(cluster))
    if not brought and find_jupyter() is None:
        raise EnvironmentLack(MISSING, where=f"beside {sys.executable} and on PATH", remedy=REMEDY)


def find_jupyter() -> str | None:
    """The program of the server, beside this Python or on PATH: JupyterLab before Notebook before the bare server."""
    beside = Path(sys.executable).parent
    found = (str(beside / name) if (beside / name).is_file() else shutil.which(name) for name in PROGRAMS)
    return next(filter(None, found), None)


def tunnel(server: NotebookRecord, login: str | None = None) -> str:
    """The ssh command for the user's own machine.

    Args:
        server: The running server.
        login: The login node as ``user@host``; ``None`` for this machine.
    """
    door = login or f"{getpass.getuser()}@{socket.getfqdn()}"
    forward = f"ssh -N -L {server.port}:{server.address}:{server.port}"
    if server.address == LOOPBACK:
        return f"{forward} -J {door} {getpass.getuser()}@{server.node}"
    return f"{forward} {door}"
