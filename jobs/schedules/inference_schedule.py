"""Batch inference on a schedule: each new file of a folder exactly once, and the lines for crontab and scrontab.

A file is done once its output exists: outputs are published by a rename (jobs/inference.py). The output's name holds
the digest of the file's name, size and time of change, so a file that was replaced is new. A lock keeps 2 runs apart.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import UserError
from saman.configs.regular_files import open_regular
from saman.jobs.inference import InferenceResult, RankFailure, prepare, run
from saman.registry.store.layout import parse_spec
from saman.runs.locks import LockHeldError, hold
from saman.slurm.script.quoting import path_option

if TYPE_CHECKING:
    from os import stat_result

SUFFIXES = (".npy", ".npz", ".parquet")
SETTLE_SECONDS = 60.0  # a younger file may still be written
LOCK = ".saman-schedule.lock"


class Period(str, Enum):
    """How often new files are looked for."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Scheduler(str, Enum):
    """The program that starts the runs."""

    CRONTAB = "crontab"
    SCRONTAB = "scrontab"


@dataclass(frozen=True)
class NewFile:
    """An input without an output."""

    path: Path
    output: Path


@dataclass(frozen=True)
class ScheduledResult:
    """What became of a file: its result, or the problem."""

    file: NewFile
    result: InferenceResult | None
    problem: str = ""


def output_of(folder: Path, model: str, file: Path, facts: stat_result) -> Path:
    """The output of an input file: its name, and the digest of model, name, size and time of change."""
    mark = hashlib.sha256(
        f"{model}\0{file.name}\0{facts.st_size}\0{facts.st_mtime_ns}".encode("utf-8", "surrogateescape")
    )
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in file.stem)[:80]
    return folder / f"{plain}-{mark.hexdigest()[:16]}.parquet"


def find_new(inputs: Path, outputs: Path, model: str, *, settle_seconds: float = SETTLE_SECONDS) -> list[NewFile]:
    """Files without an output, oldest first; hidden files, links and files that may still be written are left out.

    Raises:
        UserError: ``inputs`` is no folder.
    """
    if not inputs.is_dir():
        raise UserError("no such folder", where=str(inputs))
    now, found = time.time(), []
    for file in inputs.iterdir():
        if file.suffix not in SUFFIXES or file.name.startswith(".") or file.is_symlink() or not file.is_file():
            continue
        facts = file.stat()
        output = output_of(outputs, model, file, facts)
        if now - facts.st_mtime >= settle_seconds and not output.exists():
            found.append((facts.st_mtime_ns, NewFile(file, output)))
    return [file for _, file in sorted(found, key=lambda pair: (pair[0], pair[1].path.name))]


def infer_new(
    models_dir: Path, spec: str, inputs: Path, outputs: Path, runs_dir: Path, *, ranks: int = 1, batch: int = 256,
    settle_seconds: float = SETTLE_SECONDS,
) -> list[ScheduledResult]:  # fmt: skip
    """Predict every new file; a file that fails does not stop the others, and the next run tries it again.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``.
        inputs: The folder in which files arrive.
        outputs: The folder of the Parquet files.
        runs_dir: The folder of runs.
        ranks: The number of ranks.
        batch: Rows per call of the model.
        settle_seconds: Files that changed later are left to the next run.

    Returns:
        A result for each new file; empty where another run is at work.
    """
    model = parse_spec(spec).name
    outputs.mkdir(parents=True, exist_ok=True)
    done: list[ScheduledResult] = []
    try:
        with hold(outputs / LOCK):
            for file in find_new(inputs, outputs, model, settle_seconds=settle_seconds):
                done.append(_infer(models_dir, spec, file, runs_dir, ranks, batch))
    except LockHeldError:
        return done
    return done


def _infer(models_dir: Path, spec: str, file: NewFile, runs_dir: Path, ranks: int, batch: int) -> ScheduledResult:
    try:
        try:
            request = prepare(models_dir, spec, [file.path], file.output, batch=batch)
        except UserError:  # an interrupted job of another version, or of a version that moved on
            request = prepare(models_dir, spec, [file.path], file.output, batch=batch, restart=True)
        return ScheduledResult(file, run(request, runs_dir, ranks))
    except (UserError, RankFailure, OSError) as error:
        return ScheduledResult(file, None, str(error))


# ---- the lines ------------------------------------------------------------------------------------------------------

_TIMES = {Period.DAILY: "{m} {h} * * *", Period.WEEKLY: "{m} {h} * * 1", Period.MONTHLY: "{m} {h} 1 * *"}


_HEAD = "#!/bin/bash\nset -eu\n"
MOST_SCRIPT_BYTES = 1 << 16


def render_script(command: Sequence[str], directory: Path) -> str:
    """The job script: the command, quoted, in its directory. Pure."""
    return f"{_HEAD}cd -- {shlex.quote(str(directory))}\nexec {shlex.join(command)}\n"


def is_job_script(file: Path) -> bool:
    """Whether a file is a script of ``render_script`` that may be replaced."""
    try:
        with open_regular(file) as stream:
            text = stream.read(MOST_SCRIPT_BYTES)
    except OSError:
        return False
    return text.startswith(_HEAD.encode()) and b" schedule run " in text


def render_line(scheduler: Scheduler, period: Period, script: Path, log: Path, *, hour: int = 3, cpus: int = 1) -> str:
    """The line of a crontab or scrontab that runs a script. Pure.

    Args:
        scheduler: The program.
        period: How often.
        script: The job script; absolute.
        log: Where its output goes.
        hour: The hour of the day.
        cpus: Cores of the Slurm job, one for each rank.

    Raises:
        UserError: A path has a line break, which no crontab can hold, or the hour is none.
    """
    for path in (script, log):
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in str(path)):
            raise UserError(f"{str(path)!r} contains a control character, which no crontab can hold")
    if not 0 <= hour < 24:
        raise UserError(f"{hour} is no hour of a day", where="--hour", remedy="0 to 23")
    # The minute depends on the script, so that the jobs of a cluster do not all start at once.
    minute = int.from_bytes(hashlib.sha256(str(script).encode("utf-8", "surrogateescape")).digest()[:2], "big") % 60
    when = _TIMES[period].format(m=minute, h=hour)
    if scheduler is Scheduler.SCRONTAB:
        output = path_option("output", log)
        options = f"#SCRON --job-name=saman-infer --ntasks=1 --cpus-per-task={cpus} --open-mode=append {output}"
        return f"{options}\n{when} {_cron_word(script)}\n"
    return f"{when} {_cron_word(script)} >> {_cron_word(log)} 2>&1\n"


def _cron_word(path: Path) -> str:
    """A word of a crontab's command: quoted for the shell; a plain ``%`` would end the command (crontab(5))."""
    return shlex.quote(str(path)).replace("%", "\\%")  # cron removes the backslash, also inside quotes
