"""Trains several run folders one after the other in one start of ranks: ``python several.py [--export NAME] RUN…``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from saman.runs.folder import RunFolder
from saman.trainers.worker import _failed, _leave, train_on


class _Nobody:
    def beat(self, *_: object, **__: object) -> None:
        """Nothing."""


def main(paths: list[str]) -> None:
    from saman.trainers import strategies

    runs = [RunFolder.open(Path(path)) for path in paths]
    sys.path.append(str(Path(__file__).parent))
    strategy = strategies.start(runs[0].experiment(), runs[0])
    for run in runs:
        train_on(strategy, run, run.experiment(), 1, _Nobody(), exported=(run.path / "control" / "export").exists())
    strategy.close()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:
        _leave(_failed(None, None, error))
    finally:
        os.environ.pop("TF_CONFIG", None)
