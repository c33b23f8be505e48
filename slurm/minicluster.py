"""Runs a real Slurm of several nodes on this machine, through ``minicluster.sh``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.runs import variables
from saman.runs.commands import run_command

# command -> its Debian/Ubuntu package
_PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "setsid": "util-linux",
    "unshare": "util-linux",
}
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def missing_packages() -> list[str]:
    """The Debian/Ubuntu packages that a minicluster needs and that are not installed."""
    missing = {package for command, package in _PACKAGES.items() if shutil.which(command, path=_PATH) is None}
    # Slurm's mpi/pmix opens libpmix.so by this very name, which only the -dev package has.
    if not any(Path("/usr/lib").glob("*/pmix*/lib/libpmix.so")):
        missing.add("libpmix-dev")
    return sorted(missing)


def require_packages() -> None:
    """Raise ``EnvironmentLack``, with the command that installs them, if packages of Slurm are missing."""
    missing = missing_packages()
    if missing:
        raise EnvironmentLack(
            f"missing packages for a minicluster: {', '.join(missing)}",
            remedy=f"apt-get install -y --no-install-recommends {' '.join(missing)}",
        )


def up(nodes: int, root: Path | None = None) -> str:
    """Start the cluster, or the part of it that is down; returns a line for people."""
    if not 1 <= nodes <= 64:
        raise UserError(f"{nodes} nodes are out of range", where="minicluster up", remedy="1 to 64")
    require_packages()
    return _call(["up", str(nodes)], root)


def down(root: Path | None = None) -> str:
    """Cancel every job and stop every daemon that ``up`` started."""
    return _call(["down"], root)


def status(root: Path | None = None) -> tuple[bool, str]:
    """Whether all daemons and nodes are healthy, and a table of them."""
    done = _run(["status"], root)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def crash(node: str, root: Path | None = None) -> None:
    """Kill a node at once: its daemon, its job steps and its job processes."""
    _call(["crash", node], root)


def start(node: str, root: Path | None = None) -> None:
    """Bring a crashed node back."""
    _call(["start", node], root)


def environment(root: Path | None = None) -> dict[str, str]:
    """The variables by which Slurm's commands find the cluster; empty if it is down."""
    found: dict[str, str] = {}
    for word in shlex.split(env_lines(root), comments=True):
        name, equals, value = word.partition("=")
        if equals and name.isidentifier() and name != "PATH":
            found[name] = value
    return found if Path(found.get("SLURM_CONF", "")).is_file() else {}


def env_lines(root: Path | None = None) -> str:
    """Shell lines to ``eval`` that set those variables."""
    return _call(["env"], root)


def _call(arguments: list[str], root: Path | None) -> str:
    done = _run(arguments, root)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise EnvironmentLack(said[-1].removeprefix("minicluster: "), where=f"minicluster {arguments[0]}")
    return done.stdout.strip()


def _run(arguments: list[str], root: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    if root is not None:
        environment[variables.MINICLUSTER_ROOT] = str(root)
    with resources.as_file(resources.files("saman.slurm") / "minicluster.sh") as script:
        command = ["bash", str(script), *arguments]
        return run_command(command, environment=environment, timeout_seconds=300)
