"""Runs of a study on this machine: a process per run, which supervises it and outlives a killed study."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from saman.jobs.reconcile import record_ends
from saman.jobs.watch import RunWatch
from saman.registry.references import of_program
from saman.runs.events import SUPERVISOR
from saman.runs.folder import RunFolder
from saman.tuning.places.place import Seen
from saman.tuning.plan import RunSpec

END_SECONDS = 60.0  # for runs to end at a checkpoint when the study is interrupted
_MOST_TEXT = 2000  # characters of a process's last words


class Here:
    """Starts each run by ``saman resume`` in a process of its own.

    Args:
        runs_dir: The folder of runs.
        models_dir: The folder of models.
    """

    def __init__(self, runs_dir: Path, models_dir: Path) -> None:
        self._runs_dir, self._models_dir = runs_dir, models_dir
        self._started: dict[Path, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        self._watch = RunWatch(())

    def start(self, specs: Sequence[RunSpec]) -> list[RunFolder]:
        """Make and start runs."""
        runs = []
        for each in specs:
            code = [str(folder) for folder in each.code_path]
            spec = of_program(each.spec, self._models_dir)
            run = RunFolder.create(self._runs_dir, spec, code_path=code, directory=str(Path.cwd()), trial=each.key)
            self.restart(run)
            runs.append(run)
        return runs

    def restart(self, run: RunFolder) -> None:
        """Start a run, or continue it."""
        said = tempfile.TemporaryFile()  # noqa: SIM115  (read when the process has ended)
        folders = ["--runs-dir", str(self._runs_dir), "--models-dir", str(self._models_dir)]
        process = subprocess.Popen(
            [sys.executable, "-m", "saman", "resume", str(run.path), "--here", *folders],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
        )  # fmt: skip
        self._started[run.path] = (process, said)
        self._watch.forget(run)

    def look(self, runs: Sequence[RunFolder]) -> list[Seen]:
        """Look at runs; a process that ended before it began an attempt says why."""
        self._watch.follow(runs)
        statuses = record_ends(runs, self._watch.look())
        found = []
        for run, status in zip(runs, statuses, strict=True):
            process = self._started.get(run.path)
            if process is not None and process[0].poll() is None:
                found.append(Seen(status, busy=True))
                continue
            self._started.pop(run.path, None)
            unbegun = not status.over and status.attempt == 0
            problem = _last_words(process[1]) if process is not None and unbegun else None
            found.append(Seen(status, problem=problem, idle=process is None and unbegun))
        return found

    def close(self) -> None:
        """Ask every run for a checkpoint, and end the processes that do not end by themselves."""
        going = [(run, process) for run, (process, _) in self._started.items() if process.poll() is None]
        for run, _ in going:
            with contextlib.suppress(OSError):
                RunFolder(run).request_stop("study interrupted", SUPERVISOR)
        deadline = time.monotonic() + END_SECONDS
        for _, process in going:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.poll() is None:
                process.terminate()


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    text = said.read().decode(errors="replace").strip()
    return text[-_MOST_TEXT:] or "its process ended before it began"
