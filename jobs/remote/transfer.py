"""Copies files between this machine and a login node with rsync, over the shared connection.

An interrupted file continues where it stopped. Only folders and regular files come from the other side: no
links, no devices, no ownership. Names are rsync's to check (3.2.5 and newer refuse those that leave the folder).
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Sequence

from saman.configs.errors import EnvironmentLack, UserError
from saman.jobs.remote import ssh
from saman.runs.commands import run_command
from saman.runs.paths.run import REMOTE_FILE
from saman.runs.remote.remote_runs import RemoteProject, RemoteRun
from saman.slurm.code.files import CodeFiles
from saman.slurm.site.backoff import Backoff

SILENT_SECONDS = 60  # rsync gives up after so long without a byte
TRIALS = 8  # of a transfer whose connection is lost, with growing waits
PARTIAL = ".saman-partial"  # folder of files that came in part
OLDEST = (3, 2, 5)  # the first rsync that checks the names of the other side
_LOST = frozenset({10, 12, 30, 35, 255})  # rsync(1): socket, protocol stream, time-outs; ssh's own failure
_COMMON = (
    *("--times", "--secluded-args", "--no-inc-recursive"),
    *(f"--partial-dir={PARTIAL}", f"--timeout={SILENT_SECONDS}"),
)


def require_rsync() -> None:
    """Raise ``EnvironmentLack`` unless this machine has an rsync that checks the names of the other side."""
    if shutil.which("rsync") is None:
        raise EnvironmentLack("no rsync on PATH", remedy="install rsync on this machine")
    said = run_command(["rsync", "--version"]).stdout
    found = re.search(r"version v?(\d+)\.(\d+)\.(\d+)", said)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        first = said.partition("\n")[0] or "an unknown version"
        problem = f"this rsync does not check what a server sends: {first}"
        raise EnvironmentLack(problem, remedy=f"install rsync {'.'.join(map(str, OLDEST))} or newer on this machine")


def push_command(code: CodeFiles, project: RemoteProject, shell: str) -> list[str]:
    """The command that sends code; it reads the names, separated by NUL, from standard input.

    Links are sent as the files that they name, as in a local copy. Nothing is removed there.
    """
    options = ["--copy-links", "--perms", "--chmod=u+rw,go-w", "--from0", "--files-from=-", "-e", shell]
    return ["rsync", *_COMMON, *options, "--", f"{code.root}/", f"{project.host}:{project.code}/"]


def pull_command(remote: RemoteRun, shell: str, checkpoints: bool) -> list[str]:
    """The command that fetches a run's folder.

    Private values, locks and stop requests stay there; so do checkpoints unless they are wanted.
    """
    run = remote.run
    stays = [REMOTE_FILE, run.relative(run.secrets_file), f"{run.relative(run.control)}/"]
    stays += [] if checkpoints else [f"{run.relative(run.checkpoints)}/"]
    safe = ["--recursive", "--no-links", "--no-devices", "--no-specials", "--chmod=Du=rwx,Dgo=rx,Fu=rw,Fgo=r"]
    options = [*safe, *(f"--exclude=/{name}" for name in stays), "--stats", "-e", shell]
    source = f"{remote.project.host}:{remote.project.run_folder(run)}/"
    return ["rsync", *_COMMON, *options, "--", source, f"{run.path}/"]


def push(code: CodeFiles, project: RemoteProject, note: Callable[[str], None]) -> None:
    """Send the code to the project's folder.

    Raises:
        UserError: A file has a name that is not UTF-8.
        EnvironmentLack: There is no rsync, no connection, or no room.
    """
    names = code.names()
    try:
        text = "".join(f"{name}\0" for name in names if (code.root / name).is_file())
        text.encode()
    except UnicodeEncodeError:
        problem = "the name of a file is not UTF-8"
        raise UserError(problem, where=str(code.root), remedy="rename it, or list the files with --code") from None
    _transfer(project.host, lambda shell: push_command(code, project, shell), note, text)


def fetch(remote: RemoteRun, note: Callable[[str], None], checkpoints: bool = False) -> int:
    """Fetch what is new of a run's folder; returns the bytes that came.

    Raises:
        EnvironmentLack: There is no rsync, no connection, or no room.
    """
    remote.run.path.mkdir(parents=True, exist_ok=True)
    said = _transfer(remote.project.host, lambda shell: pull_command(remote, shell, checkpoints), note)
    found = re.search(r"Total bytes received: ([\d,.]+)", said)
    return int(re.sub(r"\D", "", found[1])) if found else 0


def _transfer(
    host: str,
    command: Callable[[str], Sequence[str]],
    note: Callable[[str], None],
    text: str | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    require_rsync()
    wait = Backoff()
    for trial in range(1, TRIALS + 1):
        try:
            socket = ssh.connect(host)
        except ssh.NoConnection:
            if trial in (1, TRIALS):
                raise
        else:
            done = run_command(command(ssh.rsync_shell(socket)), text=text)
            if done.returncode == 0:
                return done.stdout
            if done.returncode not in _LOST or trial == TRIALS:
                raise _failed(host, done.returncode, done.stderr)
        note(f"the transfer from or to {host} was interrupted; it continues in {wait.seconds:.0f} s")
        pause(wait.seconds)
        wait = wait.grown()
    raise AssertionError("the last trial returns or raises")


def _failed(host: str, status: int, said: str) -> EnvironmentLack:
    lines = [line for line in said.splitlines() if line.startswith("rsync:")] or said.splitlines()
    reason = lines[0].removeprefix("rsync: ") if lines else f"exit status {status}"
    if status == 127 or "command not found" in said:
        return EnvironmentLack("no rsync on the login node", where=host, remedy="load or install rsync there")
    if "is your shell clean" in said:
        remedy = "there, ~/.bashrc must print nothing in a shell that is not interactive"
        return EnvironmentLack("the login shell prints text, which rsync does not take", where=host, remedy=remedy)
    return EnvironmentLack(f"rsync failed: {reason}", where=host)
