"""What a job waits for: as options of sbatch, in words, and whether it is met when the job begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.runs.events import State, state_in_words
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import After, Prerequisite

_MOST_NAMED = 3  # runs within a sentence
_FAILED = frozenset({State.FAILED, State.CANCELLED})


@dataclass(frozen=True)
class Dependency:
    """The prerequisites of a job, and those jobs that have not ended yet, by the condition that Slurm is to keep.

    ``held`` keeps the job from beginning until it is released.
    """

    prerequisites: tuple[Prerequisite, ...] = ()
    ok_jobs: tuple[str, ...] = ()
    any_jobs: tuple[str, ...] = ()
    held: bool = False

    def options(self, before: str | None = None) -> list[str]:
        """The options of sbatch; ``before`` is a job that must have ended in any case.

        Slurm removes a job from the queue as soon as it can never start.
        """
        found = [":".join(("afterok", *self.ok_jobs))] if self.ok_jobs else []
        ended = [*self.any_jobs, *([before] if before else [])]
        found += [":".join(("afterany", *ended))] if ended else []
        waits = [f"--dependency={','.join(found)}", "--kill-on-invalid-dep=yes"] if found else []
        return [*waits, *(["--hold"] if self.held else [])]

    def sentences(self) -> list[str]:
        """What the job waits for, and the option that tells Slurm, for people."""
        if not self.prerequisites:
            return []
        said = waits_for(self.prerequisites)
        return [f"the job {said} ({' '.join(self.options())})" if said else "the runs it waits for have ended already"]

    @property
    def facts(self) -> dict[str, list[dict[str, str]]]:
        """The prerequisites as the job's event holds them."""
        return {"after": [each.to_json() for each in self.prerequisites]} if self.prerequisites else {}


NONE = Dependency()


def on_run(run: RunFolder, jobs: Sequence[str], condition: After) -> Dependency:
    """The dependency on a run that has not ended.

    Of a run with follow-up jobs any may complete it, which Slurm cannot express beside other dependencies: the job
    waits until all have ended, and looks at the run when it begins (``unmet``).

    Args:
        run: The run.
        jobs: Its newest job and the follow-ups of that job.
        condition: How it must end.
    """
    named = (Prerequisite(condition, run=run.path),)
    if condition is After.OK and len(jobs) == 1:
        return Dependency(named, ok_jobs=tuple(jobs))
    return Dependency(named, any_jobs=tuple(jobs))


def joined(found: Iterable[Dependency], held: bool = False) -> Dependency:
    """All dependencies at once."""
    found = list(found)
    return Dependency(
        prerequisites=tuple(dict.fromkeys(each for one in found for each in one.prerequisites)),
        ok_jobs=tuple(dict.fromkeys(job for one in found for job in one.ok_jobs)),
        any_jobs=tuple(dict.fromkeys(job for one in found for job in one.any_jobs)),
        held=held,
    )


def waits_for(after: Sequence[Prerequisite]) -> str | None:
    """A dependency's unfinished prerequisites, as the end of the sentence "the job …"; ``None`` if there are none."""
    open_ones = [(each, text) for each in after if (text := _open(each)) is not None]
    named = [f"{text} to {each.condition.verb}" for each, text in open_ones]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f"waits for {', '.join(named[:_MOST_NAMED])}{more}" if named else None


def unmet(after: Sequence[Prerequisite]) -> str | None:
    """A dependency's prerequisite that has ended otherwise, as a sentence; ``None`` if each is met or may be yet."""
    for each in after:
        if each.run is not None and each.condition is After.OK:
            state = RunFolder(each.run).state
            if state in _FAILED:
                return f"it needs {_name(each.run)}, which {state_in_words(state.value)}"
    return None


def unknown_ends(after: Sequence[Prerequisite]) -> str | None:
    """A dependency's jobs without a run that must complete, as a sentence; ``None`` if there are none."""
    jobs = [str(each.job) for each in after if each.job is not None and each.condition is After.OK]
    return f"it was cancelled, or job {' or '.join(jobs)} did not complete" if jobs else None


def unmet_at_start(after: Sequence[Prerequisite]) -> str | None:
    """A dependency's prerequisite that has not completed, now that the job begins; ``None`` if it may begin.

    Slurm knows how jobs end, not runs: all jobs of a run may have ended before it has completed.
    """
    for each in after:
        if each.run is not None and each.condition is After.OK:
            state = RunFolder(each.run).state
            if state is not State.COMPLETED:
                return f"it needs {_name(each.run)}, which {state_in_words(state.value)}"
    return None


def _open(each: Prerequisite) -> str | None:
    if each.run is None:
        return f"job {each.job}"
    state = RunFolder(each.run).state
    return None if state.ended else f"{_name(each.run)} ({state.value})"


def _name(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"
