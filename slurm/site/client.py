"""Calls Slurm's commands in a clean environment and reads what they print.

The text formats with named columns have not changed since Slurm 17. ``--json`` differs between releases, scontrol does
not have it, and with it squeue ignores ``-j`` (22.05), so it is not used.
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
from saman.slurm.site.job_ids import job_of_part, joined_tasks
from saman.slurm.site.job_states import JobState, job_state

_UNAVAILABLE = re.compile(r"DOWN|FAIL|DRAIN|NOT_RESPONDING|\*")
_NO_CONFIGURATION = re.compile(r"Could not establish a configuration source|nable to (process|open) .*slurm\.conf")
# What a Slurm command needs even when the variables of a surrounding job are removed.
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER"})
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCONTROL_", "SALLOC_", "PMI_", "PMIX_")


@dataclass(frozen=True)
class Answer:
    """The exit status and output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Non-empty lines of standard output."""
        return [line for line in self.out.splitlines() if line.strip()]


@dataclass(frozen=True)
class QueuedJob:
    """A job in the controller. ``start`` is the expected start while it is pending (Unix seconds)."""

    id: str
    state: JobState
    reason: str
    start: float | None
    end: float | None
    nodes: str
    partition: str
    name: str


@dataclass(frozen=True)
class NodeState:
    """A node in the controller: Slurm's word for its state, and when its daemon started (Unix seconds)."""

    state: str
    daemon_started: float | None = None

    @property
    def available(self) -> bool:
        """Whether Slurm says that the node is neither down, failing, draining nor silent."""
        return _UNAVAILABLE.search(self.state) is None


@dataclass(frozen=True)
class RecordedJob:
    """A job in accounting; ``code`` and ``signal`` are those of its batch script."""

    id: str
    state: JobState
    code: int
    signal: int
    end: float | None
    nodes: str


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of Slurm's client commands: without variables of a surrounding job and defaults for new jobs."""
    return {name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_FOREIGN)}


def ignored_defaults(environment: Mapping[str, str]) -> list[str]:
    """The user's own ``SBATCH_*`` defaults, which the client leaves out when it calls Slurm."""
    inside = "SLURM_JOB_ID" in environment
    return sorted(name for name in environment if name.startswith("SBATCH_") and not inside)


def user_name() -> str:
    """The user's name for Slurm's client; the numeric id if the user database has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def available(command: str = "sbatch") -> bool:
    """Whether this machine has the Slurm command."""
    return shutil.which(command) is not None


def ask(command: Sequence[str], timeout_seconds: float = 60, text: str | None = None) -> Answer:
    """Run a Slurm command and return its answer.

    Args:
        command: the program and its arguments.
        timeout_seconds: how long to wait for the answer.
        text: standard input of the command.

    Raises:
        EnvironmentLack: The command is missing, or did not finish in time.
    """
    environment = clean_environment(os.environ)
    try:
        done = run_command(command, environment=environment, timeout_seconds=timeout_seconds, text=text)
    except FileNotFoundError:
        raise EnvironmentLack(
            f"command not found: {command[0]}", remedy="use a login node of the cluster, or `saman minicluster up`"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentLack(f"{command[0]} did not answer within {timeout_seconds:.0f} s") from None
    if done.returncode != 0 and _NO_CONFIGURATION.search(done.stderr):
        raise EnvironmentLack(
            f"{command[0]} finds no Slurm configuration",
            remedy='set SLURM_CONF; for the minicluster: eval "$(saman minicluster env)"',
        )
    return Answer(done.returncode, done.stdout, done.stderr)


def submit(arguments: Sequence[str]) -> Answer:
    """Submit with ``sbatch --parsable``; the last line of the answer is the job id."""
    return ask(["sbatch", "--parsable", *arguments])


def job_id(answer: Answer) -> str:
    """The job id in the answer of ``submit``, without the cluster's name."""
    return answer.out.strip().splitlines()[-1].split(";")[0]


def would_start(arguments: Sequence[str]) -> Answer:
    """Ask with ``sbatch --test-only`` when Slurm would start the job; it answers on standard error."""
    return ask(["sbatch", "--test-only", *arguments])


_QUEUE = "%i|%T|%S|%e|%N|%P|%r|%j"


def queue(user: str | None = None) -> dict[str, QueuedJob]:
    """Every job of the user in the controller; each task of an array is a job.

    Raises ``EnvironmentLack`` if the controller does not answer.
    """
    who = ["-u", user or str(os.getuid())]
    answer = ask(["squeue", "-h", "-r", "-t", "all", *who, "-o", _QUEUE])
    if answer.code != 0:
        raise EnvironmentLack(f"squeue failed: {_last(answer.err)}", remedy="`sinfo` shows when Slurm is back")
    return {job.id: job for line in answer.lines if (job := _queued(line)) is not None}


def _queued(line: str) -> QueuedJob | None:
    fields = line.split("|", 7)
    if len(fields) != 8:
        return None
    shown, state, start, end, nodes, partition, why, name = fields
    number = job_of_part(shown)
    return (
        None
        if number is None
        else QueuedJob(
            id=number,
            state=job_state(state),
            reason=why,
            start=moment(start),
            end=moment(end),
            nodes=nodes,
            partition=partition,
            name=name,
        )
    )


def accounting(ids: Iterable[str]) -> dict[str, RecordedJob] | None:
    """The accounting records of these jobs; ``None`` if accounting is off or does not answer."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    columns = "JobID,State,ExitCode,End,NodeList"
    try:
        # An array's id stands for its tasks: those of a large study would exceed the longest argument of the kernel.
        arrays = dict.fromkeys(each.split("_")[0] for each in wanted)
        answer = ask(["sacct", "-n", "-P", "-X", "-j", ",".join(arrays), "-o", columns])
    except EnvironmentLack:
        return None
    if answer.code != 0:
        return None
    return {job.id: job for line in answer.lines if (job := _recorded(line)) is not None}


def _recorded(line: str) -> RecordedJob | None:
    fields = line.split("|")
    if len(fields) != 5:
        return None
    shown, state, exit_code, end, nodes = fields
    number = job_of_part(shown)
    code, _, signal = exit_code.partition(":")
    return (
        None if number is None else RecordedJob(number, job_state(state), _int(code), _int(signal), moment(end), nodes)
    )


def show_job(number: str) -> dict[str, str]:
    """The fields of ``scontrol show job``; empty if the controller does not know the job or does not answer."""
    try:
        answer = ask(["scontrol", "-o", "show", "job", number], timeout_seconds=20)
    except EnvironmentLack:
        return {}
    return fields_of(answer.lines[0]) if answer.code == 0 and answer.lines else {}


def show_node(name: str) -> NodeState | None:
    """The state of a node; ``None`` if the controller does not know it or does not answer."""
    try:
        answer = ask(["scontrol", "-o", "show", "node", name], timeout_seconds=20)
    except EnvironmentLack:
        return None
    if answer.code != 0 or not answer.lines:
        return None
    fields = fields_of(answer.lines[0])
    return NodeState(fields.get("State", ""), moment(fields.get("SlurmdStartTime", "")))


def fields_of(line: str) -> dict[str, str]:
    """``Name=value`` pairs of one line of ``scontrol -o``; values may contain blanks, names may not."""
    found = re.split(r"(?:^|\s)([A-Za-z][\w/:]*)=", line)
    return {name: value.strip() for name, value in zip(found[1::2], found[2::2], strict=True)}


DEFAULT_LARGEST_ARRAY = 1001  # MaxArraySize, if Slurm's configuration cannot be read


def largest_array() -> int:
    """The most tasks of a job array (``MaxArraySize``)."""
    try:
        shown = ask(["scontrol", "show", "config"], timeout_seconds=20).out
    except EnvironmentLack:
        return DEFAULT_LARGEST_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return max(1, int(found[1])) if found else DEFAULT_LARGEST_ARRAY


def scancel(ids: Iterable[str]) -> Answer:
    """Have Slurm cancel the jobs, an array in one request; their processes get SIGTERM first."""
    return ask(["scancel", *joined_tasks(ids)])


def release(ids: Iterable[str]) -> Answer:
    """Have Slurm release jobs that their user holds; an array by its id."""
    return ask(["scontrol", "release", ",".join(ids)])


def last_error_line(answer: Answer) -> str:
    """The last line that a failed Slurm command printed."""
    return _last(answer.err or answer.out)


_MOMENT_LETTERS = len("2026-11-21T04:55:23")


def moment(text: str) -> float | None:
    """Unix seconds of Slurm's local time ``2026-11-21T04:55:23``; ``None`` for N/A and Unknown."""
    text = text.strip()
    try:  # strptime takes a hundred times as long, and a queue may list ten thousand jobs
        return datetime.fromisoformat(text).timestamp() if len(text) == _MOMENT_LETTERS and text[10] == "T" else None
    except ValueError:
        return None


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


def _int(text: str) -> int:
    return int(text) if text.isdigit() else 0
