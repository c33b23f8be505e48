"""Runs on this machine: a new run, or the next attempt of a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import UserError
from saman.configs.schemas.script import Script
from saman.launcher.attempts import AttemptRequest, make_attempt
from saman.launcher.monitoring.telling import told_of_end
from saman.launcher.planning import Options, make_plan
from saman.launcher.programs import check_legacy_keras, with_absolute_files
from saman.launcher.repeated_attempts import repeat_attempts
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.views import View
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import Creation
from saman.runs.trust.run_trust import require_trusted

if TYPE_CHECKING:
    from saman.configs.loading.experiments import LoadedExperiment
    from saman.configs.schemas.experiment import Experiment


def run_locally(loaded: LoadedExperiment, options: Options, view: View | None = None) -> Outcome:
    """Launch an experiment locally, now.

    Args:
        loaded: the experiment, and the folders of its code.
        options: the options of the start.
        view: shows the progress; ``None`` shows nothing.

    Raises:
        UserError: the experiment cannot be started like this; nothing was written.
        EnvironmentLack: the machine lacks something, or the run folder cannot be written.
    """
    return _run_new(AttemptRequest(loaded.experiment, Path.cwd(), loaded.code_path, options), view)


def run_script(spec: Script, options: Options, view: View | None = None) -> Outcome:
    """Start a program on every rank, from the folder that its spec names.

    Args:
        spec: the program and its resources.
        options: the options of the start.
        view: shows the progress; ``None`` shows nothing.

    Raises:
        UserError: the program cannot be started like this.
        EnvironmentLack: the machine lacks something, or the run folder cannot be written.
    """
    check_legacy_keras(spec)
    spec = with_absolute_files(spec)
    return _run_new(AttemptRequest(spec, Path(spec.directory), (), options), view)


def resume_locally(run: RunFolder, options: Options, view: View | None = None, ranks: int | None = None) -> Outcome:
    """Launch a run again locally, in its own folder, as the next attempt.

    Args:
        run: the run folder.
        options: the options of the start.
        view: shows the progress; ``None`` shows nothing.
        ranks: another number of ranks; ``None`` keeps the number.

    Raises:
        UserError: the run has completed, is running or is another user's, or cannot be split over so many ranks.
        EnvironmentLack: the machine lacks something, or the run folder cannot be written.
    """
    require_trusted(run, "resume")
    _require_unfinished(run)
    spec = run.spec() if ranks is None else _on_ranks(run.spec(), ranks)
    directory = Path(spec.directory) if isinstance(spec, Script) else _recorded_directory(run)
    return _attempts(run, AttemptRequest(spec, directory, run.code_path, options), view, resumed=True)


@dataclass(frozen=True)
class PreparedRun:
    """A run folder that is ready to be started by hand."""

    run: RunFolder
    processes: int

    def command(self, path: str) -> str:
        """The command that starts the ranks, with the run folder written as ``path``."""
        return f"horovodrun -np {self.processes} python -m saman.trainers.worker {shlex.quote(path)}"


def prepare_by_hand(loaded: LoadedExperiment, options: Options) -> PreparedRun:
    """Create the run folder of a local launch by hand, without starting it. Raises as ``run_locally``."""
    plan = make_plan(loaded.experiment, Path.cwd(), loaded.code_path, options)
    run = _new_folder(AttemptRequest(loaded.experiment, Path.cwd(), loaded.code_path, options))
    return PreparedRun(run, len(plan.placement.processes))


def _new_folder(request: AttemptRequest) -> RunFolder:
    folders = [str(folder) for folder in request.code_path]
    return RunFolder.create(request.options.runs_dir, request.spec, code_path=folders, directory=str(request.directory))


def _run_new(request: AttemptRequest, view: View | None) -> Outcome:
    spec, directory, options = request.spec, request.directory, request.options
    plan = make_plan(spec, directory, request.code_path, options)  # refuses before a folder is made
    return _attempts(_new_folder(request), replace(request, options=replace(options, facts=plan.facts)), view)


def _attempts(run: RunFolder, request: AttemptRequest, view: View | None, resumed: bool = False) -> Outcome:
    def begin(failed: Outcome | None, signals: RecordedSignals) -> Outcome:
        if resumed and failed is None:  # another process may have finished the run until this one got hold of it
            _require_unfinished(run)
        return make_attempt(run, request, signals, view, restarted=failed is not None)

    with told_of_end(run, view):
        return repeat_attempts(run, begin, view)


def _require_unfinished(run: RunFolder) -> None:
    if run.state is State.COMPLETED:
        raise UserError("this run has completed", where=str(run.path), remedy="saman run starts a new run")


def _on_ranks(spec: Experiment | Script, ranks: int) -> Experiment | Script:
    from saman.configs.loading.experiments import with_ranks
    from saman.configs.problems import validated

    return validated(type(spec), with_ranks(spec.resolved(), ranks), "experiment.yaml with -np")


def _recorded_directory(run: RunFolder) -> Path:
    recorded = Creation.find(run.events()).directory
    return recorded if recorded is not None and recorded.is_dir() else Path.cwd()
