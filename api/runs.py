"""A run in Python: its state, metrics, telemetry and logs; cancel, wait and resume."""

from __future__ import annotations

from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from saman.api import html
from saman.api.progress import progress_view
from saman.configs.errors import ExitCode, UserError
from saman.runs.events import find_last
from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import EpochEnd
from saman.runs.records.run_events import VersionPublication

if TYPE_CHECKING:
    import polars as pl

    from saman.jobs.publishing import FinishedRun
    from saman.jobs.status import RunStatus

POLL_SECONDS = 2.0


class RunFailed(UserError):  # noqa: N818  (what happened, as with the other refusals)
    """The request was right, but the run failed.

    Attributes:
        run: The run, for its logs and telemetry.
    """

    exit_code = ExitCode.RUN_FAILED

    def __init__(self, problem: str, run: Run) -> None:
        super().__init__(problem, where=str(run.path), remedy="run.logs(rank) shows what a rank printed")
        self.run = run


class Run:
    """A run of an experiment or program, on this machine or on Slurm.

    ``saman.run``, ``saman.submit`` and ``saman.open_run`` return it. Properties read the run folder each time, so that
    a run still in progress shows its present values. The last value of a notebook cell is shown as a table.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<saman.Run {self.name}/{self.id}: {self._folder.state.value}>"

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def id(self) -> str:
        """The run's id: unique, and sorted by time."""
        return self._folder.id

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.path.parent.name

    @property
    def status(self) -> RunStatus:
        """State, details, job and progress: a row of ``saman status``. Asks Slurm where the run is Slurm's."""
        from saman.jobs.status import read_status

        return read_status([self._folder])[0]

    @property
    def state(self) -> str:
        """``created``, ``queued``, ``running``, ``completed``, ``failed``, ``cancelled``, ``preempted``, ``vanished``.

        ``preempted``: stopped at a checkpoint. ``vanished``: recorded as running, but its processes are gone.
        """
        return self.status.state.value

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics; of a run in progress, those of its newest epoch. Empty before the first epoch."""
        summary = self._folder.summary()
        if summary is not None and summary.metrics:
            return dict(summary.metrics)
        epoch = find_last(EpochEnd.from_event, self._folder.events())
        return epoch.finite_metrics() if epoch else {}

    @property
    def samples_per_second(self) -> float | None:
        """Sustained throughput of all ranks; ``None`` before the run ended, and for a user's own program."""
        summary = self._folder.summary()
        return None if summary is None else summary.samples_per_second

    @property
    def end_to_end_samples_per_second(self) -> float | None:
        """Samples of all ranks ÷ wall time of all attempts; ``None`` before the run ended, or if it is unknown."""
        summary = self._folder.summary()
        return None if summary is None else summary.end_to_end_samples_per_second

    @property
    def published(self) -> str | None:
        """The model version that the run became, as ``NAME:VERSION``; ``None`` where it became none."""
        publication = find_last(VersionPublication.from_event, self._folder.events())
        return str(publication) if publication else None

    def telemetry(self) -> pl.DataFrame:
        """Return measurements of all ranks together, a row for each window of optimiser steps.

        Windows in which a graph was traced, repeated windows and damaged lines are excluded;
        ``excluded_windows`` counts them.

        Returns:
            A polars frame with the columns ``last_step``, ``steps``, ``samples``, ``seconds``, ``samples_per_second``,
            ``input_wait_seconds_per_step``, ``exchange_seconds_per_step`` (null where it was not measured), ``loss``
            and ``ended_at_utc``. Empty before the first window.

        Example:
            >>> import saman
            >>> saman.open_run("last").telemetry().columns[:5]
            ['last_step', 'steps', 'samples', 'seconds', 'samples_per_second']
        """
        import polars as pl

        from saman.runs.telemetry.reader import read_telemetry

        found = read_telemetry(self.path)
        exchange = found.exchange_per_step
        ended = pl.Series((found.time * 1e6).astype("int64"))
        return pl.DataFrame(
            {
                "last_step": pl.Series(found.last_step).cast(pl.Int64),
                "steps": pl.Series(found.steps).cast(pl.Int64),
                "samples": pl.Series(found.samples).cast(pl.Int64),
                "seconds": found.seconds,
                "samples_per_second": found.samples_per_second,
                "input_wait_seconds_per_step": found.input_wait_per_step,
                "exchange_seconds_per_step": [None] * len(found.steps) if exchange is None else exchange,
                "loss": pl.Series(found.loss).fill_nan(None),
                "ended_at_utc": pl.from_epoch(ended, "us").dt.replace_time_zone("UTC"),
            },
            schema_overrides={"exchange_seconds_per_step": pl.Float64},
        )

    def excluded_windows(self) -> dict[str, int]:
        """Return how many lines and windows ``telemetry`` leaves out, by reason.

        Example:
            >>> import saman
            >>> saman.open_run("last").excluded_windows()["torn"]
            0
        """
        from dataclasses import asdict

        from saman.runs.telemetry.reader import read_telemetry

        return asdict(read_telemetry(self.path).left_out)

    def logs(self, rank: int = 0) -> str:
        """Return everything that a rank printed, of all attempts in turn.

        Raises:
            UserError: The rank has printed nothing.

        Example:
            >>> import saman
            >>> text = saman.open_run("last").logs(rank=1)
        """
        from saman.jobs.logs import read_logs

        return "".join(piece.text for piece in read_logs(self._folder, rank=rank))

    def wait(self, timeout_seconds: float | None = None) -> Run:
        """Wait until the run has ended, or until the timeout.

        Returns:
            The run itself; ``state`` says how it ended.

        Example:
            >>> import saman
            >>> saman.open_run("last").wait(timeout_seconds=60).state
            'completed'
        """
        from saman.jobs.reconcile import wait_for_runs

        wait_for_runs([self._folder], timeout_seconds, POLL_SECONDS)
        return self

    def cancel(self) -> str:
        """End the run and its Slurm job, if any.

        Returns:
            A sentence that says what was done.

        Raises:
            EnvironmentLack: Slurm does not answer.

        Example:
            >>> import saman
            >>> "completed" in saman.open_run("last").cancel()  # too late, and says so
            True
        """
        from saman.jobs.cancel import cancel_runs

        return next(iter(cancel_runs([self._folder])))

    def resume(
        self,
        ranks: int | None = None,
        *,
        here: bool = False,
        models_dir: str | PathLike[str] = "models",
        quiet: bool = False,
    ) -> Run:
        """Continue from the newest checkpoint, in the same run folder.

        A run of this machine is continued here and now. A run of Slurm is submitted again, unless ``here``.

        Args:
            ranks: Another number of ranks; only on this machine.
            here: Continue on this machine even a run of Slurm.
            models_dir: Where the model is published, if the experiment says so.
            quiet: Do not print a line for each epoch on standard error.

        Returns:
            The run itself.

        Raises:
            UserError: The run has completed, or is still running or queued.
            RunFailed: It failed again, or its model could not be published.

        Example:
            >>> import saman
            >>> saman.open_run("last").resume()
            Traceback (most recent call last):
            saman.configs.errors.UserError: ...: this run has completed (saman run or submit starts a new run)
        """
        from saman.jobs.resume import ResumeRequest, resume_runs

        request = ResumeRequest(here=here, ranks=ranks, models_dir=Path(models_dir))
        view = progress_view(self.name, quiet)
        for resumed in resume_runs([self._folder], request, lambda _: nullcontext(view)):
            if resumed.finished is not None:
                check_end(resumed.finished)
        return self

    def _repr_html_(self) -> str:
        status = self.status
        rate = self.samples_per_second
        exited = status.exit_code if status.exit_code else None
        return html.html_title(f"{self.name}/{self.id}", status.state) + html.html_pairs(
            [
                ("detail", status.detail),
                ("exit status", exited),
                ("first failing rank", status.first_failing_rank),
                ("Slurm job", status.job),
                ("attempt", status.attempt or None),
                ("throughput", None if rate is None else f"{rate:,.0f} samples/s"),
                *((name, f"{value:.4g}") for name, value in self.metrics.items()),
                ("published as", self.published),
                ("folder", self.path),
            ]
        )


def open_run(path: str | PathLike[str], *, runs_dir: str | PathLike[str] = "runs") -> Run:
    """Open an existing run folder from Python.

    Args:
        path: The run folder; or a run id, an experiment's name (its newest run), or ``last``.
        runs_dir: The folder of the runs, for everything but a path.

    Returns:
        The run.

    Raises:
        UserError: There is no such run, or several.

    Example:
        >>> import saman
        >>> run = saman.open_run("last")
        >>> run.state
        'completed'
        >>> sorted(run.metrics)
        ['accuracy', 'loss', 'val_accuracy', 'val_loss']
    """
    from saman.runs.find import find_run

    return Run(find_run(str(path), Path(runs_dir)))


def check_end(finished: FinishedRun) -> Run:
    """Return a run from Python if it has ended well; raises ``RunFailed`` otherwise.

    Raises:
        RunFailed: The run failed, or its model could not be published.
        KeyboardInterrupt: It was interrupted; all its ranks have ended.
    """
    from saman.jobs.publishing import PublicationState, describe_publication

    outcome, run = finished.outcome, Run(finished.outcome.run)
    if outcome.exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt(outcome.message)
    if outcome.exit_code not in (ExitCode.DONE, ExitCode.REQUEUE):
        raise RunFailed(outcome.message, run)
    if finished.publication.state is PublicationState.FAILED:
        raise RunFailed(str(describe_publication(finished.publication)), run)
    return run
