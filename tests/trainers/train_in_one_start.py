"""Trains several run folders in the same processes: ``python train_in_one_start.py RUN…``.

A run is exported if its folder holds ``control/export``. One whose folder holds ``control/fails`` must fail, and the
next follows.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

from saman.runs.folder import RunFolder
from saman.trainers.worker import SilentObserver, exit_at_once, report_failure

HANGING_SECONDS = 270.0  # less than a test may take: a rank that hangs then says where


def main(paths: list[str]) -> None:
    """Train every run with the strategy of the first run."""
    faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True)
    from saman.trainers import strategies

    runs = [RunFolder.open(Path(path)) for path in paths]
    sys.path.append(str(Path(__file__).parent))
    strategy = strategies.start(runs[0].experiment(), runs[0])
    if strategy is None:  # it served the others
        return
    from saman.trainers.failures import TrainingFailure
    from saman.trainers.training import train

    for run in runs:
        export = (run.path / "control" / "export").exists()
        try:
            train(run, run.experiment(), strategy, 1, SilentObserver(), export=export)
        except TrainingFailure:
            if not (run.path / "control" / "fails").exists():
                raise
    strategy.close()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:
        exit_at_once(report_failure(None, None, error))
    finally:
        os.environ.pop("TF_CONFIG", None)
