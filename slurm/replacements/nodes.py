"""Asks Slurm for a node in place of one that an elastic run has lost.

Slurm takes a failed node out of a ``--no-kill`` job for good, and only sites with ``permit_job_expansion`` let a job
grow. So each replacement is a job of its own that holds a node and does nothing; the run starts job steps in it. It
never outlives the run's job: its time limit and its deadline are those of the job, it is cancelled at the end, and it
ends by itself if the run's supervisor falls silent.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.launcher.plan.hostlist import expand
from saman.runs.files.whole import write_whole
from saman.runs.folder import RunFolder
from saman.slurm.script.quoting import shell
from saman.slurm.site import client
from saman.slurm.site.job_states import JobState, job_state
from saman.slurm.submission.batch_job import BatchJob, replacement_options
from saman.slurm.submission.resource_request import request_on

BEAT_SECONDS = 5.0
SILENT_SECONDS = 120  # of the supervisor, after which a replacement ends by itself
LEAST_SECONDS = 180  # of the job that must be left for a replacement to be worth its while
MOST_FAILURES = 3  # of replacements that were refused or ended before they were used

_SCRIPT = """#!/bin/sh
# Written by saman: holds a node for a run that has lost one. Ends when the run's supervisor falls silent.
last= silent=0
while [ "$silent" -lt {silent} ]; do
  beat=$(cat {beat} 2>/dev/null) || exit 0
  if [ "$beat" = "$last" ]; then silent=$((silent + {pause})); else silent=0; fi
  last=$beat
  sleep {pause}
done
"""


@dataclass
class _Replacement:
    """A job that was submitted for a node; ``used`` once its node was handed out."""

    job: str
    node: str = ""
    used: bool = False


class ReplacementNodes:
    """The replacement nodes of one attempt; a context that leaves no job behind."""

    def __init__(self, run: RunFolder, job: str, template: BatchJob, say: Callable[[str], None]) -> None:
        """Begin without any.

        Args:
            run: The run folder.
            job: The run's own job.
            template: A job as the run's own; each replacement asks for one such node.
            say: Receives what happens, for people.
        """
        self._run, self._job, self._template, self._say = run, job, template, say
        self._held: list[_Replacement] = []
        self._failures = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> ReplacementNodes:
        """Cancel what an earlier supervisor left behind, as it was killed."""
        files = self._run.slurm
        with contextlib.suppress(OSError):
            files.replacement_beat.unlink(missing_ok=True)
            self._cancel(_noted(self._run))
            files.replacement_jobs.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel all."""
        self._closed.set()
        with self._lock, contextlib.suppress(OSError):
            self._run.slurm.replacement_beat.unlink(missing_ok=True)
            self._cancel([each.job for each in self._held])
            self._run.slurm.replacement_jobs.unlink(missing_ok=True)

    def nodes(self) -> Mapping[str, str]:
        """The replacement nodes that are there now, each with its job."""
        with self._lock:
            self._look()
            return {each.node: each.job for each in self._held if each.node}

    def job_of(self, node: str) -> str:
        """The job through which a node is reached; empty for the run's own."""
        return next((each.job for each in self._held if each.node == node), "")

    def is_fresh(self, node: str) -> bool:
        """Whether the node was not handed out yet."""
        return any(each.node == node and not each.used for each in self._held)

    def use(self, node: str) -> None:
        """Note that the node is handed out."""
        for each in self._held:
            each.used = each.used or each.node == node

    def ask(self, avoid: Sequence[str]) -> None:
        """Submit a job for another node, unless there is one that waits.

        Args:
            avoid: Nodes that the run already has.
        """
        with self._lock:
            waits = any(not each.used for each in self._held) or self._run.stop_request.exists()
            if waits or self._closed.is_set() or self._failures >= MOST_FAILURES:
                return
            shown = client.show_job(self._job)
            seconds, excluded = _seconds_left(shown), shown.get("ExcNodeList", _NONE)
            if seconds < LEAST_SECONDS:
                return
            try:
                self._submit(seconds, [*avoid, *([] if excluded == _NONE else [excluded])])
            except (EnvironmentLack, UserError, OSError) as error:
                self._failures += 1
                self._say(f"no replacement node: {error}")

    def release(self) -> None:
        """Cancel the job that still waits for a node: others were found."""
        with self._lock:
            waiting = [each.job for each in self._held if not each.node]
            self._held = [each for each in self._held if each.node]
            self._cancel(waiting)
            self._note_jobs()

    def _submit(self, seconds: int, avoid: Sequence[str]) -> None:
        files, request = self._run.slurm, replace(self._template.request, seconds=seconds)
        options: list[str] = [*replacement_options(replace(self._template, request=request), files.replacement_log)]
        options += [f"--exclude={','.join(avoid)}"] if avoid else []
        self._begin_to_beat()
        script = holding_script(files.replacement_beat)
        answer = client.ask(["sbatch", "--parsable", *options], text=script)
        if answer.code != 0:
            raise UserError(answer.err.strip() or "sbatch refused the job")
        job = client.job_id(answer)
        self._held.append(_Replacement(job))
        self._note_jobs()
        self._say(f"job {job} asks for a node in place of a lost node")

    def _look(self) -> None:
        """Bring the jobs up to date; one that has ended is forgotten."""
        for each in list(self._held):
            shown = client.show_job(each.job)
            state = job_state(shown.get("JobState", ""))
            if state is JobState.RUNNING and not each.node:
                each.node = next(iter(expand(shown.get("NodeList", ""))), "")
                self._say(f"job {each.job} holds {each.node} for this run")
            elif state.ended:
                self._held.remove(each)
                self._failures += not each.used
                self._say(f"job {each.job}, a replacement node, has ended: {state.value}")

    def _begin_to_beat(self) -> None:
        if not self._run.slurm.replacement_beat.exists():
            write_whole(self._run.slurm.replacement_beat, "0\n")
            threading.Thread(target=self._beat, name="replacements", daemon=True).start()

    def _beat(self) -> None:
        number = 0
        while not self._closed.wait(BEAT_SECONDS):
            number += 1
            with self._lock, contextlib.suppress(OSError):
                if not self._closed.is_set():
                    write_whole(self._run.slurm.replacement_beat, f"{number}\n")

    def _cancel(self, jobs: Sequence[str]) -> None:
        if jobs:
            with contextlib.suppress(EnvironmentLack):
                client.scancel(jobs)

    def _note_jobs(self) -> None:
        """Write down the jobs for the case that this process is killed."""
        write_whole(self._run.slurm.replacement_jobs, "".join(f"{each.job}\n" for each in self._held))


def give_back(run: RunFolder) -> None:
    """Cancel the replacement nodes of a run whose job is being ended: its supervisor may be killed before it can."""
    with contextlib.suppress(OSError, EnvironmentLack):
        if jobs := _noted(run):
            client.scancel(jobs)


def _noted(run: RunFolder) -> list[str]:
    """The jobs that a supervisor has written down."""
    return [word for word in run.slurm.replacement_jobs.read_text().split() if word.isdecimal()]


_NONE = "(null)"


def _seconds_left(shown: Mapping[str, str]) -> int:
    """Seconds until the time limit of a job, in whole minutes."""
    end = client.moment(shown.get("EndTime", ""))
    return 0 if end is None else int(end - time.time()) // 60 * 60


def holding_script(beat: Path, silent_seconds: int = SILENT_SECONDS, pause_seconds: float = 5) -> str:
    """Return the script of a job that holds a node.

    Args:
        beat: The file that changes as long as the node is needed.
        silent_seconds: After so long without a change, the script ends.
        pause_seconds: Between two looks.
    """
    return _SCRIPT.format(silent=silent_seconds, pause=pause_seconds, beat=shell(beat.absolute()))


@contextlib.contextmanager
def replacement_nodes(
    run: RunFolder, spec: object, cluster: Cluster, job: str, say: Callable[[str], None]
) -> Iterator[ReplacementNodes | None]:
    """Yield the owner of the replacement nodes of a run; ``None`` where it may or can have none.

    Args:
        run: The run folder.
        spec: The experiment or program.
        cluster: The cluster file.
        job: The run's own job.
        say: Receives what happens, for people.
    """
    if (
        not isinstance(spec, Experiment)
        or spec.launch.elastic is None
        or not spec.launch.elastic.replace_nodes
        or spec.resources.nodes == 1
        or cluster.requeue.by != "scontrol"  # compute nodes have no Slurm commands
    ):
        yield None
        return
    try:
        partition = cluster.partition(client.show_job(job).get("Partition", ""))
    except UserError as error:
        say(f"no replacement nodes: {error}")
        yield None
        return
    request = replace(request_on(partition, spec, cluster), nodes=1, survives_nodes=False)
    template = BatchJob(f"{spec.name}-replacement", (run.path,), run.slurm.script, cluster, partition, request)
    with ReplacementNodes(run, job, template, say) as owner:
        yield owner
