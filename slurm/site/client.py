"""Slurm's commands: the one place that calls them, with a clean environment, and reads what they print.

Their text formats with named columns are the same from Slurm 17 to today; ``--json`` differs between releases, is
missing from scontrol, and its squeue ignores ``-j`` (22.05), so it is not used.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from saman.configs.errors import EnvironmentLack
from saman.runs.commands import run_command
from saman.slurm.site.job_states import JobState, job_state

# What a Slurm command still needs when everything that a surrounding job set is taken away.
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER"})
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCONTROL_", "SALLOC_", "PMI_", "PMIX_")


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Non-empty lines of standard output."""
        return [line for line in self.out.splitlines() if line.strip()]


@dataclass(frozen=True)
class QueuedJob:
    """A job as the controller knows it. ``start`` is expected while it is pending (Unix seconds)."""

    id: str
    state: JobState
    reason: str
    start: float | None
    end: float | None
    nodes: str
    partition: str
    name: str


@dataclass(frozen=True)
class RecordedJob:
    """A job as accounting knows it; ``code`` and ``signal`` are those of its batch script."""

    id: str
    state: JobState
    code: int
    signal: int
    end: float | None
    nodes: str


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without what a surrounding Slurm job, or a person's defaults, would impose on a new one."""
    return {name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_FOREIGN)}


def ignored_defaults(environment: Mapping[str, str]) -> list[str]:
    """The person's own ``SBATCH_*`` defaults, which a cluster file replaces."""
    inside = "SLURM_JOB_ID" in environment
    return sorted(name for name in environment if name.startswith("SBATCH_") and not inside)


def user_name() -> str:
    """Who is asking, by the user database; the number where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def available(command: str = "sbatch") -> bool:
    """Whether this machine has the command."""
    return shutil.which(command) is not None


def ask(command: Sequence[str], timeout_seconds: float = 60, text: str | None = None) -> Answer:
    """Run a Slurm command; raises ``EnvironmentLack`` where it is missing or Slurm does not answer in time."""
    environment = clean_environment(os.environ)
    try:
        done = run_command(command, environment=environment, timeout_seconds=timeout_seconds, text=text)
    except FileNotFoundError:
        raise EnvironmentLack(
            f"the command {command[0]} is not here", remedy="use a login node of the cluster, or `saman minicluster up`"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentLack(f"{command[0]} gave no answer within {timeout_seconds:.0f} s") from None
    return Answer(done.returncode, done.stdout, done.stderr)


def submit(arguments: Sequence[str]) -> Answer:
    """``sbatch --parsable`` with these arguments; the answer's first line is the job id."""
    return ask(["sbatch", "--parsable", *arguments])


def job_id(answer: Answer) -> str:
    """The id in the answer of ``submit``, without a cluster's name behind it."""
    return answer.out.strip().splitlines()[-1].split(";")[0]


def would_start(arguments: Sequence[str]) -> Answer:
    """``sbatch --test-only``: whether and when Slurm would start the job (on standard error)."""
    return ask(["sbatch", "--test-only", *arguments])


_QUEUE = "%i|%T|%S|%e|%N|%P|%r|%j"


def queue(user: str | None = None) -> dict[str, QueuedJob]:
    """Every job of the user that the controller still knows, tasks of arrays each on their own.

    Raises ``EnvironmentLack`` where the controller does not answer.
    """
    who = ["-u", user or str(os.getuid())]
    answer = ask(["squeue", "-h", "-r", "-t", "all", *who, "-o", _QUEUE])
    if answer.code != 0:
        raise EnvironmentLack(f"squeue failed: {_last(answer.err)}", remedy="`sinfo` tells when Slurm is back")
    return {job.id: job for line in answer.lines if (job := _queued(line)) is not None}


def _queued(line: str) -> QueuedJob | None:
    fields = line.split("|", 7)
    if len(fields) != 8:
        return None
    number, state, start, end, nodes, partition, why, name = fields
    return QueuedJob(number, job_state(state), why, moment(start), moment(end), nodes, partition, name)


def accounting(ids: Iterable[str]) -> dict[str, RecordedJob] | None:
    """What accounting has of these jobs; ``None`` where it is switched off or does not answer."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    columns = "JobID,State,ExitCode,End,NodeList"
    try:
        answer = ask(["sacct", "-n", "-P", "-X", "-j", ",".join(wanted), "-o", columns])
    except EnvironmentLack:
        return None
    if answer.code != 0:
        return None
    return {job.id: job for line in answer.lines if (job := _recorded(line)) is not None}


def _recorded(line: str) -> RecordedJob | None:
    fields = line.split("|")
    if len(fields) != 5:
        return None
    number, state, exit_code, end, nodes = fields
    code, _, signal = exit_code.partition(":")
    return RecordedJob(number, job_state(state), _int(code), _int(signal), moment(end), nodes)


def show_job(number: str) -> dict[str, str]:
    """``scontrol show job`` as fields; empty where the controller does not know it or cannot be asked."""
    try:
        answer = ask(["scontrol", "-o", "show", "job", number], timeout_seconds=20)
    except EnvironmentLack:
        return {}
    return fields_of(answer.lines[0]) if answer.code == 0 and answer.lines else {}


def fields_of(line: str) -> dict[str, str]:
    """``Name=value`` pairs of one line of ``scontrol -o``; values may hold blanks, names may not."""
    found = re.split(r"(?:^|\s)([A-Za-z][\w/:]*)=", line)
    return {name: value.strip() for name, value in zip(found[1::2], found[2::2], strict=True)}


def cancel(ids: Iterable[str]) -> Answer:
    """``scancel``: ends the jobs in this order, SIGTERM first."""
    return ask(["scancel", *dict.fromkeys(ids)])


def last_error(answer: Answer) -> str:
    """The last line that a refused command said."""
    return _last(answer.err or answer.out)


def moment(text: str) -> float | None:
    """Unix seconds of Slurm's local time ``2026-11-21T04:55:23``; ``None`` for N/A and Unknown."""
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%dT%H:%M:%S").timestamp()
    except ValueError:
        return None


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


def _int(text: str) -> int:
    return int(text) if text.isdigit() else 0
