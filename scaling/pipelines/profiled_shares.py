"""How a model's work would be shared by other numbers of stages, by the profile of its layers on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saman.configs.errors import UserError
from saman.pipeline.choose import plan_of
from saman.pipeline.cost import predict
from saman.pipeline.partition import partition
from saman.pipeline.profile_cache import load
from saman.runs.folder import RunFolder
from saman.scaling.analysis.results import Run


def profiled_shares(runs: Sequence[Run], stages: int) -> tuple[float, ...] | str:
    """Busy seconds of each stage per micro-batch by the best split; or why there is none.

    The profile is that of any of the runs: nothing is measured here.
    """
    for run in runs:
        try:
            experiment = RunFolder(run.path).experiment()
        except UserError:
            continue  # of another version of saman
        path = [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]
        profile = load(experiment, path, run.cores_per_rank or 1)
        if profile is None:
            continue
        plan = replace(plan_of(experiment), stages=stages)
        try:
            cuts = partition(profile.chain, plan, profile.link).cuts
        except UserError as error:
            return error.problem
        return tuple(stage.seconds for stage in predict(profile.chain, cuts, plan, profile.link).stages)
    return "the layers were not measured on this machine; saman partition EXPERIMENT does"
