"""``python -m saman.trainers.profile EXPERIMENT.yaml OUT.json``: measures a model's layers and writes their profile."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from saman.configs.errors import ExitCode, UserError
from saman.runs import variables
from saman.runs.files.whole import write_json


def main(arguments: list[str]) -> int:
    """Measure the experiment's model and write ``OUT.json``; return the exit status."""
    if len(arguments) != 2:
        print("usage: python -m saman.trainers.profile EXPERIMENT.yaml OUT.json", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    from saman.configs import yaml12
    from saman.configs.problems import validated
    from saman.configs.schemas.experiment import Experiment
    from saman.trainers.profile.measure import measure

    sys.path += [part for part in os.environ.get(variables.CODE_PATH, "").split(os.pathsep) if part]
    try:
        file = Path(arguments[0])
        experiment = validated(Experiment, yaml12.read(file), str(file))
        write_json(Path(arguments[1]), measure(experiment).to_json())
    except UserError as error:
        print(f"saman: {error}", file=sys.stderr)
        return int(error.exit_code)
    except Exception:
        traceback.print_exc()
        return ExitCode.RUN_FAILED
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
