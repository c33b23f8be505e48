"""Splits a model's work over other numbers of stages, by the profile of its layers on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saman.configs.errors import UserError
from saman.pipeline.choose import pipeline_plan
from saman.pipeline.cost import predict_pipelined_step
from saman.pipeline.partition import partition
from saman.pipeline.profile_cache import load
from saman.runs.folder import RunFolder
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.pipelines.forecast import Unavailable


def profiled_shares(runs: Sequence[MeasuredRun], stages: int) -> tuple[float, ...] | Unavailable:
    """Busy seconds of each stage per micro-batch by the best split.

    Args:
        runs: Runs of the same model; the profile of any of them serves. Nothing is measured here.
        stages: Number of stages.
    """
    for run in runs:
        try:
            experiment = RunFolder(run.facts.path).experiment()
        except UserError:
            continue  # of another version of saman
        path = [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]
        profile = load(experiment, path, run.facts.cores_per_rank or 1)
        if profile is None:
            continue
        plan = replace(pipeline_plan(experiment), stages=stages)
        try:
            cuts = partition(profile.chain, plan, profile.link).cuts
        except UserError as error:
            return Unavailable(error.problem)
        return tuple(stage.seconds for stage in predict_pipelined_step(profile.chain, cuts, plan, profile.link).stages)
    return Unavailable("the layers were not profiled on this machine; run saman partition EXPERIMENT")
