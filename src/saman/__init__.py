"""saman trains Keras models on many ranks, reports honestly how they scale, and publishes the result.

The Python face of the command line, for notebooks and scripts:

    import saman

    experiment = saman.load_experiment("fashion.yaml", train__epochs=2)
    run = saman.run(experiment, ranks=2)
    run.metrics, run.telemetry(), run.logs(rank=1)

    study = saman.study("fashion-scaling.yaml")
    study.report()

A mistake raises ``saman.UserError``, which says what is wrong, where, and what to do. The functions are loaded when they
are first used: importing saman imports nothing heavy.

The rooms of the project lie at the top level of the repository; this package holds links to them, so that
they are imported as ``saman.<room>`` and never collide with a user's own ``configs`` or ``trainers``.
"""

import sys

TYPE_CHECKING = False  # not typing's: the Pythons that the set-up turns away must read this file, even Python 2
if TYPE_CHECKING:
    from saman.api.experiments import load_experiment, run, submit
    from saman.api.models import ModelVersions, models
    from saman.api.programs import report_epoch
    from saman.api.reports import Report, report
    from saman.api.runs import Run, RunFailed, open_run
    from saman.api.studies import StudyRuns, study
    from saman.api.tunings import autotune, tune
    from saman.configs.errors import EnvironmentLack, UserError
elif sys.version_info >= (3, 10):
    from saman.api import __dir__, __getattr__

__version__ = "0.1.0"
__all__ = [
    "EnvironmentLack", "ModelVersions", "Report", "Run", "RunFailed", "StudyRuns", "UserError",
    "autotune", "load_experiment", "models", "open_run", "report", "report_epoch", "run", "study", "submit", "tune",
]  # fmt: skip
