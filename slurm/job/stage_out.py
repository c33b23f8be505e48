"""Copies results from node-local storage to the run folder at the end of an attempt, also after a failure or a signal.

A process on each node makes the local folder before the ranks start, and copies it once they have ended: when the job
says so (by closing its standard input), or after SIGTERM, when no process of the attempt is left on the node. That
holds after ``scancel`` too, when Slurm starts no more job steps.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from saman.configs.schemas.cluster import StageOut
from saman.launcher.supervision.processes import list_attempt_processes
from saman.runs import variables
from saman.runs.events import JOB, EventKind
from saman.runs.files.tree_copy import copy_tree
from saman.runs.folder import RunFolder
from saman.runs.ranks.identity import node_name
from saman.runs.trust.ownership import DubiousFolderError, own_folder

READY_SECONDS = 30.0  # for a process on every node to start
_READY = "ready"
_EXTRA_SECONDS = 10.0  # for srun to end after the copies


@contextlib.contextmanager
def staging_out(
    run: RunFolder,
    wanted: StageOut | None,
    nodes: Sequence[str],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> Iterator[None]:
    """Have the results on every node copied to the run folder when the body has ended, however it ended.

    Args:
        run: the run folder.
        wanted: the cluster file's ``stage_out``; ``None`` does nothing.
        nodes: the nodes of the job.
        environ: the variables of this job; one names the local folder.
        say: receives what was copied, and what was not.
    """
    local = environ.get(variables.LOCAL_RESULTS)
    if wanted is None or local is None:
        yield
        return
    attempts = run.attempts()
    number = attempts[-1].number + 1 if attempts else 1
    copies = _NodeCopies(run, number, _command(run, number, wanted.seconds, local, nodes), len(nodes), say)
    try:
        yield
    finally:
        copies.finish(wanted.seconds + _EXTRA_SECONDS)


def _command(run: RunFolder, attempt: int, seconds: int, local: str, nodes: Sequence[str]) -> list[str]:
    """The job step with a process per node. The shield keeps Slurm's SIGTERM from srun, which would end the copies."""
    python = [sys.executable, "-m"]
    step = ["srun", "--overlap", f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1",
            "--cpus-per-task=1", "--mem=0", "--cpu-bind=none", "--mpi=none", "--export=ALL", "--quiet",
            "--kill-on-bad-exit=0"]  # fmt: skip
    arguments = [str(run.path), str(attempt), str(seconds), local]
    return [*python, "saman.slurm.job.shield", *step, *python, "saman.slurm.job.stage_out", *arguments]


class _NodeCopies:
    """The job step that copies, and what its processes said."""

    def __init__(
        self, run: RunFolder, attempt: int, command: Sequence[str], nodes: int, say: Callable[[str], None]
    ) -> None:
        self._run, self._attempt, self._say = run, attempt, say
        self._lines: list[str] = []
        self._ready = threading.Semaphore(0)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True, env=_environment(os.environ),
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="stage-out", daemon=True)
        self._reader.start()
        end = time.monotonic() + READY_SECONDS
        for _ in range(nodes):
            if not self._ready.acquire(timeout=max(0.0, end - time.monotonic())):
                say("stage-out: not every node is ready; its results may stay on the node")
                break

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == _READY:
                self._ready.release()
            else:
                self._lines.append(line.strip())

    def finish(self, seconds: float) -> None:
        """Tell the processes that the ranks have ended, and wait for the copies at most ``seconds``."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._lines.append("stage-out: the time is over; what is not whole is called .partial")
        self._reader.join(2.0)
        for line in filter(None, self._lines):
            self._say(line)
            with contextlib.suppress(OSError):
                self._run.append(EventKind.NOTICE, JOB, self._attempt, text=line)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the marks of the attempt's processes: these processes are none of it."""
    return {name: text for name, text in environ.items() if name not in (variables.RUN, variables.ATTEMPT)}


# ---- on each node ------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """In the job: make the local folder, wait for this node's ranks to end, copy out; returns the exit status."""
    run, attempt, seconds, local = (
        RunFolder(Path(arguments[0])),
        int(arguments[1]),
        float(arguments[2]),
        Path(arguments[3]),
    )
    told: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, note)
    node = node_name(os.environ)
    try:
        own_folder(local.parent)
        own_folder(local)
    except (DubiousFolderError, OSError) as error:
        print(_READY, flush=True)
        print(f"stage-out: {node}: {error}; nothing is copied from there", flush=True)
        return 1
    print(_READY, flush=True)
    _wait_for_the_end(run.path, attempt, told)
    sentence, whole = stage_out(local, run.attempt(attempt).staged_folder, node, seconds)
    if sentence:
        print(sentence, flush=True)
    return 0 if whole else 1


def _wait_for_the_end(run: Path, attempt: int, told: Sequence[int]) -> None:
    """Wait until the job closes standard input; after SIGTERM, until no process of the attempt is left here."""
    while True:
        with contextlib.suppress(OSError):
            readable, _, _ = select.select([0], [], [], 0.5)
            if readable and not os.read(0, 4096):
                return
        if told and not list_attempt_processes(run, attempt):
            return


def stage_out(local: Path, staged: Path, node: str, seconds: float) -> tuple[str, bool]:
    """Copy the results of a node, and remove them there once they are whole in the run folder.

    Args:
        local: the folder with the results.
        staged: the attempt's folder of staged results.
        node: the node's name.
        seconds: the most that the copy may take.

    Returns:
        What happened, in words (empty without results), and whether everything is in the run folder.
    """
    if not any(os.scandir(local)):
        with contextlib.suppress(OSError):
            local.rmdir()
            local.parent.rmdir()
        return "", True
    staged.mkdir(mode=0o755, exist_ok=True)
    copied = copy_tree(local, staged / node, time.monotonic() + seconds)
    if not copied.whole:
        why = copied.problem or f"{seconds:g} s are over"
        done = f"{copied.files} files, {copied.bytes} bytes are in {staged / node}.partial"
        return f"stage-out: {node}: not everything was copied: {why}; {done}; the results are still in {local}", False
    with contextlib.suppress(OSError):
        local.parent.rmdir()
    skipped = f"; {copied.skipped} links and special files were left out" if copied.skipped else ""
    return f"stage-out: {node}: {copied.files} files, {copied.bytes} bytes in {staged / node}{skipped}", True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
