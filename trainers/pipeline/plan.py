"""Where a model is cut: as the experiment says, or by its measured profile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.pipeline.choose import split
from saman.pipeline.cost import StepPrediction
from saman.pipeline.profile import measured
from saman.trainers.pipeline.graph import Graph


def cuts_of(experiment: Experiment, graph: Graph) -> tuple[list[int], StepPrediction | None]:
    """Positions of the cuts, and what they promise where layers were measured.

    Raises ``UserError`` where the cuts cannot be made.
    """
    spec = experiment.train.pipeline
    assert spec is not None
    if spec.stages == 1:
        return [], None
    if spec.cuts == "auto":
        threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or len(os.sched_getaffinity(0)))
        found = split(experiment, measured(experiment, map(Path, sys.path), threads))
        return list(found.cuts), found.prediction
    cuts = [graph.position(name) for name in spec.cuts]
    uncuttable = graph.uncuttable()
    for cut, name in zip(cuts, spec.cuts, strict=True):
        if cut in uncuttable:
            raise UserError(f"no cut may fall before layer {name!r}: {uncuttable[cut]}", where="train.pipeline.cuts")
    if cuts != sorted(set(cuts)) or 0 in cuts:
        raise UserError("the cuts are not in the order of the layers, each once", where="train.pipeline.cuts")
    return cuts, None
