"""Runs on this machine from start to publication: a new run, for the command line and Python alike."""

from __future__ import annotations

from pathlib import Path

from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.script import Script
from saman.jobs.publishing import FinishedRun, finish_run
from saman.launcher.local import run_locally, run_script
from saman.launcher.planning import Options
from saman.launcher.supervision.views import View
from saman.registry.references import resolved


def run_here(
    what: LoadedExperiment | Script, options: Options, models_dir: Path, view: View | None = None
) -> FinishedRun:
    """Run an experiment or a program on this machine, and publish the model if the experiment asks for that.

    Args:
        what: The experiment, or the program with its resources.
        options: The options of the start.
        models_dir: Where the model is published.
        view: Shows the progress; ``None`` shows nothing.

    Raises:
        UserError: It cannot be started like this.
        EnvironmentLack: The machine lacks something, or the run folder cannot be written.
    """
    if isinstance(what, LoadedExperiment):
        what = resolved(what, models_dir)
    start = run_script(what, options, view) if isinstance(what, Script) else run_locally(what, options, view)
    return finish_run(start, models_dir)
