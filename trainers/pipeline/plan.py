"""Chooses where a model is cut: as the experiment says, or by its measured profile."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.pipeline.choose import choose_split
from saman.pipeline.cost import StepPrediction
from saman.pipeline.partition import check_positions
from saman.pipeline.profile_cache import load_or_measure
from saman.runs.ranks.training_events import PredictedStages, SplitNotice
from saman.trainers.pipeline.graph import Graph


@dataclass(frozen=True)
class ChosenCuts:
    """Cuts before the steps at ``positions`` of a graph, and the prediction if they come from a profile."""

    positions: tuple[int, ...]
    prediction: StepPrediction | None = None

    def notice(self, graph: Graph) -> SplitNotice:
        """Describe the pipeline's plan for users, with the predicted figures of the step and of each stage."""
        names = [graph.steps[position].name for position in self.positions]
        text = f"the model is split into {len(names) + 1} stages, cut before {names}"
        return SplitNotice(text, tuple(names), _as_facts(self.prediction) if self.prediction else None)


def _as_facts(prediction: StepPrediction) -> PredictedStages:
    return PredictedStages(
        step_seconds=prediction.step_seconds,
        speedup=prediction.speedup,
        stage_seconds=tuple(stage.seconds for stage in prediction.stages),
        memory_bytes=tuple(stage.memory_bytes for stage in prediction.stages),
        bubble_share=tuple(stage.bubble_share for stage in prediction.stages),
    )


def choose_cuts(experiment: Experiment, graph: Graph) -> ChosenCuts:
    """Choose the cuts of the model that this pipeline trains; measures its layers if no profile is known.

    Raises:
        UserError: The experiment's cuts are not possible.
    """
    spec = experiment.train.pipeline
    assert spec is not None  # the schema requires it for this strategy
    if spec.stages == 1:
        return ChosenCuts(())
    if spec.cuts == "auto":
        threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or len(os.sched_getaffinity(0)))
        found = choose_split(experiment, load_or_measure(experiment, map(Path, sys.path), threads))
        return ChosenCuts(found.cuts, found.prediction)
    cuts = [graph.position(name) for name in spec.cuts]
    check_positions(cuts, [step.name for step in graph.steps], graph.uncuttable())
    return ChosenCuts(tuple(cuts))


def agree_on_cuts(experiment: Experiment, graph: Graph, strategy: Any) -> ChosenCuts:
    """Return the chief's cuts on every rank; only the chief has the prediction.

    Args:
        experiment: The experiment.
        graph: The model as a list of layer calls.
        strategy: The strategy; all ranks take part in the exchange.

    Raises:
        UserError: The chief could not choose cuts.
    """
    problem: UserError | None = None
    chosen = ChosenCuts((0,) * (strategy.stages - 1))
    if strategy.chief:
        try:
            chosen = choose_cuts(experiment, graph)
        except UserError as error:
            problem = error
    mine = [float(problem is not None), *chosen.positions]
    agreed = strategy.total(np.array(mine if strategy.chief else [0.0] * strategy.stages))
    if problem is not None:
        raise problem
    if agreed[0]:
        raise UserError("the chief could not split the model", where="train.pipeline", remedy="see the log of rank 0")
    return ChosenCuts(tuple(int(position) for position in agreed[1:]), chosen.prediction)
